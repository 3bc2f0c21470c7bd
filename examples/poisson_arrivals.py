"""Requests of a Poisson process through one simulated wafer, in process: percentiles of their modelled times.

python examples/poisson_arrivals.py tiny --rate 4000 --requests 200 --seed 0 --machine wse3
"""

import argparse
import sys
from math import inf
from typing import Any

import numpy as np

import wsesim
from wsesim.cli.scripts import Script
from wsesim.errors import InvalidInputError
from wsesim.runtime.completion import Completion
from wsesim.tables import aligned, si_seconds

PERCENTILES = (50, 90, 99)
TEXT = "the sun was low and the wind had died before the first of them came down to the water"


def main(options: argparse.Namespace, keywords: dict[str, Any]) -> None:
    check(options)
    given = {name: value for name, value in keywords.items() if value is not None}
    session = wsesim.open_session(options.model, **{"sequences": 4, "max_context": 128} | given)
    requests = arrivals(options.requests, options.rate, options.seed)
    streams = [session.stream(text, max_tokens=tokens, arrival_s=at_s) for at_s, text, tokens in requests]
    done = [event for stream in streams for event in stream if isinstance(event, Completion)]  # now the clock moves
    program = session.program
    print(f"{program.model} on {program.machine.name}: {options.requests} requests, {options.rate:,.0f} a second, "
          f"{program.sequences} in flight at most")  # fmt: skip
    print(aligned([("", *(f"p{percent}" for percent in PERCENTILES)), *rows(done)], indent=""))


def check(options: argparse.Namespace) -> None:
    """Raises InvalidInputError."""
    if not (0 < options.rate < inf and options.requests >= 1 and options.seed >= 0):
        given = f"--rate {options.rate:g} --requests {options.requests} --seed {options.seed}"
        raise InvalidInputError(f"{given}: give a rate above 0, at least one request, and a seed of at least 0")


def arrivals(count: int, rate: float, seed: int) -> list[tuple[float, str, int]]:
    """For each request: when it arrives in seconds, its prompt, and the most tokens of its answer."""
    random = np.random.default_rng(seed)
    at_s = np.cumsum(random.exponential(1 / rate, count))
    letters, answers = random.integers(8, len(TEXT), count), random.integers(4, 32, count)
    return [(float(at), TEXT[:length], int(tokens)) for at, length, tokens in zip(at_s, letters, answers, strict=True)]


def rows(done: list[Completion]) -> list[tuple[str, ...]]:
    """Name and percentiles of each measure. The first token ends the prompt; the others follow one by one."""
    times = [completion.times for completion in done]
    measures = {
        "queue": [own.queue_s for own in times],
        "time to first token": [own.queue_s + own.prompt_s + own.token_s[0] for own in times],
        "time per token": [gap for own in times for gap in own.token_s[1:]],
        "total": [own.total_s for own in times],
    }
    return [
        (name, *(si_seconds(float(value)) for value in np.percentile(seconds, PERCENTILES)))
        for name, seconds in measures.items()
    ]


if __name__ == "__main__":
    script = Script(__doc__, without=("batch",))
    script.parser.add_argument("model", metavar="MODEL", nargs="?", default="tiny")
    script.parser.add_argument("--rate", metavar="R", type=float, default=4e3, help="requests a second")
    script.parser.add_argument("--requests", metavar="N", type=int, default=200)
    script.parser.add_argument("--seed", metavar="N", type=int, default=0)
    sys.exit(script.run(main))
