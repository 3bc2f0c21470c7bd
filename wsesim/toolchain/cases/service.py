"""The service's own replies for llama3.1-8b, beside this compiler's placement of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

from wsesim.report.published import Measurement
from wsesim.report.validation import Case

if TYPE_CHECKING:
    from wsesim.program import Program
    from wsesim.toolchain.kept_steps import KeptSteps


def cases(measurement: Measurement) -> Iterator[Case]:
    """Microseconds per output token and for the prompt, of one reply."""
    if measurement.table != "cerebras_api_time_info" or measurement.of("model") != "llama3.1-8b":
        return
    prompt, tokens = int(measurement.of("prompt_tokens")), int(measurement.of("completion_tokens"))
    token_us = 1e6 * float(measurement.value["completion_time"]) / tokens
    yield Case("service", measurement, token_us, _token_us(prompt + tokens // 2), (("part", "a token"),))
    prompt_us = 1e6 * float(measurement.value["prompt_time"])
    yield Case("service", measurement, prompt_us, _prompt_us(prompt), (("part", "the prompt"),))


def _token_us(context: int) -> Callable[[], float]:
    return lambda: 1e6 * _program().machine.seconds(_steps().decode(context, 1).cycles)


def _prompt_us(tokens: int) -> Callable[[], float]:
    return lambda: 1e6 * _program().machine.seconds(_steps().prefill(tokens, 1).logits_cycles)


@cache
def _program() -> Program:
    from wsesim.toolchain.compiling import compile

    return compile("llama3.1-8b", strategy="pipelined")


@cache
def _steps() -> KeptSteps:
    from wsesim.toolchain.step_timing import make_steps

    return make_steps(_program())
