"""The longest sequence that fits on a block, by the bytes of its fullest PE. No cycles are simulated."""

from __future__ import annotations

from collections.abc import Callable

from wsesim.machine import load_machine
from wsesim.program.build import LayerShape, layer_kernels
from wsesim.program.kv import KVCache
from wsesim.program.parts import Block
from wsesim.report.published import Measurement, measurements
from wsesim.report.validation import Case

GROUP = "kv-capacity"
DECODE_SIDE = 360  # WaferLLM's decode grid: 137,548 tokens are 382 for each of 360 lines
LONGEST = 1 << 24


def case(measurement: Measurement) -> Case | None:
    """The case of a row of these tables, None for the rows that are not simulated."""
    if measurement.table != "waferllm_t5_kv":
        return None
    model = _longest_context(DECODE_SIDE, KVCache(str(measurement.of("kv"))))
    return Case(GROUP, measurement, float(measurement.value), model)


def _longest_context(side: int, cache: KVCache) -> Callable[[], float]:
    """Most tokens whose K and V of one padded layer fit on a square block of a wse2, with its weights and buffers."""

    def model() -> float:
        from wsesim_compiler.options import Options
        from wsesim_compiler.placement.memory import block_memory
        from wsesim_compiler.placement.refuse import largest

        machine, block = load_machine("wse2"), Block("layer", 0, 0, side, side, "rows")
        kernels = layer_kernels(_padded(side), block, "two_phase", cache).values()

        def holds(context: int) -> bool:
            memory = block_memory(block, kernels, Options(max_context=context), 1)
            return memory.total_bytes <= machine.room_bytes

        return largest(LONGEST, holds)

    return model


def _padded(side: int) -> LayerShape:
    """WaferLLM's LLaMA3-8B as padded for a grid: one head as wide as the model."""
    padded = next(m.value for m in measurements() if m.table == "waferllm_configs" and m.of("P") == side)
    return LayerShape(padded["dim"], 1, 1, padded["dim"], padded["ffn"])
