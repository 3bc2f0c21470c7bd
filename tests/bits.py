"""A hash of all results of a run of `tiny`, to test that runs repeat. `python -m tests.bits < PROGRAM` prints it."""

from __future__ import annotations

import hashlib
import sys

from wsesim.engine.steps.timing import Timing
from wsesim.execute.executor import Executor
from wsesim.program import Program, parse_program
from wsesim_models.load import tiny_weights

IDS = (72, 101, 108, 108, 111, 44, 32, 119, 97, 102, 101, 114, 33)
PROMPT = 9


def bits(program: Program) -> str:
    """Hash of the logits after a prompt and each token after it, and the cycles of the same steps."""
    executor, timing = Executor(program, tiny_weights()), Timing(program)
    sequence, digest = executor.new_sequence(), hashlib.sha256()
    for step in (IDS[:PROMPT], *zip(IDS[PROMPT:], strict=True)):
        logits = executor.step(sequence, step)
        assert logits is not None
        digest.update(logits.tobytes())
    steps = [timing.prefill(PROMPT), *(timing.decode(context) for context in range(PROMPT, len(IDS)))]
    cycles = ",".join(f"{step.logits_cycles}/{step.cycles}" for step in steps)
    return f"{digest.hexdigest()} {cycles}"


if __name__ == "__main__":
    print(bits(parse_program(sys.stdin.read())))
