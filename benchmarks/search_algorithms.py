"""The algorithms of the placement search on the same problems: `python -m benchmarks.search_algorithms`, 2 minutes.

Prints the table of docs/search.md. Each algorithm begins with nothing remembered.

strategies     the blocks of every strategy
shelves        equal blocks, by dynamic programming
unlike         these, then shelves of unlike blocks around the best
annealing      2,000 random changes of the first plan of `shelves`
exhaustive     every stack of shelves, for the small problem
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice

from wsesim.machine import load_machine
from wsesim.tables import aligned
from wsesim.toolchain.model_source import ModelSource
from wsesim.toolchain.oracle import EngineOracle
from wsesim_compiler.options import Options
from wsesim_compiler.passes.partition import partition
from wsesim_compiler.search.anneal import anneal
from wsesim_compiler.search.exhaustive import all_plans, all_shelves
from wsesim_compiler.search.explore import KEPT, by_strategy, equal_shelves, unlike_shelves
from wsesim_compiler.search.frames import frames
from wsesim_compiler.search.goals import Goal
from wsesim_compiler.search.judge import Candidate, Judge
from wsesim_compiler.search.shelves import Shelves

PROBLEMS = (("tiny", "toy4x4"), ("smollm2-135m", "wse3"), ("llama3.2-1b", "wse3"), ("llama3.1-8b", "wse3"))
SMALL = "toy4x4"
CHANGES = 2000

Found = Iterator[Candidate | None]


def strategies(judge: Judge) -> Found:
    return (judge.candidate(plan) for plan, _ in by_strategy(judge))


def shelves(judge: Judge) -> Found:
    plans = equal_shelves(Shelves(judge.prices), list(frames(judge.prices)), judge.goal)
    return (judge.candidate(plan) for plan in plans)


def unlike(judge: Judge) -> Found:
    own = list(frames(judge.prices))
    good = [candidate for candidate in shelves(judge) if candidate is not None]
    yield from good
    yield from unlike_shelves(judge, Shelves(judge.prices), own, sorted(good, key=lambda c: c.cost)[:KEPT])


def annealing(judge: Judge) -> Found:
    first = next(candidate for candidate in shelves(judge) if candidate is not None)
    return islice(anneal(judge, Shelves(judge.prices), list(frames(judge.prices)), first, 0), CHANGES)


def exhaustive(judge: Judge) -> Found:
    own = Shelves(judge.prices)
    for frame in frames(judge.prices):
        yield from (judge.candidate(plan) for plan in all_plans(own, frame, all_shelves(own, frame)))


ALGORITHMS: tuple[Callable[[Judge], Found], ...] = (strategies, shelves, unlike, annealing, exhaustive)


def row(model: str, machine: str, algorithm: Callable[[Judge], Found]) -> tuple[str, str, str, str, str]:
    graph = ModelSource(model).graph(lambda stage, value: None, lambda line: None)
    options = Options(max_context=256 if model == "tiny" else 8192)
    judge = Judge(partition(graph), load_machine(machine), options, EngineOracle(), Goal(context=200))
    began_s = time.process_time()
    prices = [c.metrics.seconds_per_token for c in algorithm(judge) if c is not None]
    cycles = round(min(prices) * judge.machine.clock_hz)
    return model, algorithm.__name__, f"{cycles:,}", f"{judge.judged:,}", f"{time.process_time() - began_s:.1f}"


def main() -> None:
    rows = [("model", "algorithm", "best price, cycles", "candidates", "CPU s")]
    for model, machine in PROBLEMS:
        tried = ALGORITHMS if machine == SMALL else ALGORITHMS[:-1]
        rows += [row(model, machine, algorithm) for algorithm in tried]
    print(aligned(rows, indent=""))


if __name__ == "__main__":
    main()
