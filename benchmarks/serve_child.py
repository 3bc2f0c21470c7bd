"""A server in a process of its own: `python -m benchmarks.serve_child MODEL SLOTS [idle]`.

With `idle`, the arithmetic costs nothing and draws the letter a. Then all CPU time of the process is the server's own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsesim.program.kernels import DECODE
from wsesim.serve.access import access_of
from wsesim.serve.server import listen, run
from wsesim.toolchain.serving import make_server_app, open_api


class Idle:
    """Logits that are always the same."""

    def __init__(self, vocabulary: int) -> None:
        self._logits = np.zeros(vocabulary, np.float32)
        self._logits[ord("a")] = 99.0

    def new_sequence(self) -> list[int]:
        return []

    def fork(self, sequence: list[int]) -> list[int]:
        return []

    def step_each(
        self, sequences: Sequence[Any], token_ids: Sequence[Sequence[int]], *, phase: str = DECODE
    ) -> list[NDArray[np.float32]]:
        return [self._logits] * len(sequences)


def main(model: str, slots: str, *idle: str) -> None:
    api = open_api(model, sequences=int(slots))
    deployment = api.deployments[model]
    if idle:
        deployment.loop.arithmetic = Idle(deployment.tokenizer.vocab_size)
    with listen("127.0.0.1", 0) as bound:
        access = access_of(bound.getsockname()[0])
        run(make_server_app(api, (), access), bound, lambda url: print(url, flush=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
