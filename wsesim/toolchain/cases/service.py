"""The service's own replies for llama3.1-8b, beside this compiler's placement of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from wsesim.report.published import Measurement
from wsesim.report.validation import Case

if TYPE_CHECKING:
    from wsesim.toolchain.steps import RememberedSteps


def case(measurement: Measurement) -> Case | None:
    """Microseconds per output token."""
    if measurement.table != "cerebras_api_time_info" or measurement.of("model") != "llama3.1-8b":
        return None
    prompt, tokens = int(measurement.of("prompt_tokens")), int(measurement.of("completion_tokens"))
    reported = float(measurement.value["completion_time"]) / tokens
    return Case("service", measurement, 1e6 * reported, _token_us(prompt + tokens // 2))


def _token_us(context: int) -> Callable[[], float]:
    def model() -> float:
        import wsesim

        program = wsesim.compile("llama3.1-8b")
        return 1e6 * program.machine.seconds(_steps().decode(context, 1).cycles)

    return model


@cache
def _steps() -> RememberedSteps:
    import wsesim
    from wsesim.toolchain.running import make_steps

    return make_steps(wsesim.compile("llama3.1-8b"))
