"""MeshGEMM in the vendor's simulator, and WaferLLM's prompts and whole requests on a WSE-2."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from wsesim.machine import load_machine
from wsesim.program.build import LayerShape, layer_kernels, prefill_kernels
from wsesim.program.layout import ceil_div
from wsesim.program.parts import Block
from wsesim.report.published import Measurement, measurements
from wsesim.report.validation import Case

LAYERS = 32  # the source measured one layer and multiplied by 32
PREFILL_GRID, DECODE_GRID = "660x660", "360x360"
REDUCE = "two_phase"


def case(measurement: Measurement) -> Case | None:
    """The case of a row of these tables, None for the rows that are not simulated."""
    match measurement.table:
        case "kang_meshgemm_simfab":
            return _case("meshgemm", measurement, lambda: _meshgemm(measurement))
        case "waferllm_t3_prefill":
            grid, tokens = str(measurement.of("grid")), int(measurement.of("context"))
            return _case("waferllm-prefill", measurement, lambda: tokens / _prefill_s(grid, tokens))
        case "waferllm_t2_e2e":
            return _case("waferllm-e2e", measurement, lambda: _request_rate(measurement))
        case "waferllm_t2_decomposed":
            return _case("waferllm-inferred", measurement, _part(measurement))
        case _:
            return None


def _case(group: str, measurement: Measurement, model: Callable[[], float]) -> Case:
    return Case(group, measurement, float(measurement.value), model)


def _meshgemm(measurement: Measurement) -> float:
    from wsesim.engine.expand.gemm import tiles_of
    from wsesim.engine.observe.measure import meshgemm_cycles

    side, rows, inner, columns, loops = (int(measurement.of(key)) for key in "PMKNL")
    tiles = tiles_of(rows, inner, columns, side)
    machine = load_machine("wse3-simulator")
    return meshgemm_cycles(machine, side, tiles, exchange=bool(measurement.of("comm")), loops=loops)


def _request_rate(measurement: Measurement) -> float:
    """Output tokens per second of prompt and decode; every token takes the time of the one in the middle."""
    read, written = int(measurement.of("input_len")), int(measurement.of("output_len"))
    return written / (_prefill_s(PREFILL_GRID, read) + written * _decode_s(DECODE_GRID, read + written // 2))


def _part(measurement: Measurement) -> Callable[[], float]:
    grid, tokens = str(measurement.of("grid")), int(measurement.of("input_len"))
    parts: dict[str, Callable[[], float]] = {
        "decode_step": lambda: 1e6 * _decode_s(grid, tokens),
        "prefill_time": lambda: 1e3 * _prefill_s(grid, tokens),
        "prefill_rate": lambda: tokens / _prefill_s(grid, tokens),
    }
    return parts[measurement.metric]


@cache
def _prefill_s(grid: str, tokens: int) -> float:
    """Seconds of a prompt, padded to whole tiles."""
    from wsesim.engine.steps.prompt_layer import prompt_layer_cycles

    machine, (shape, block) = load_machine("wse2"), _layer(grid)
    kernels = prefill_kernels(shape, block, ceil_div(tokens, block.rows) * block.rows, "meshgemm", REDUCE)
    return machine.seconds(LAYERS * prompt_layer_cycles(machine, block, kernels.values()))


def _decode_s(grid: str, context: int) -> float:
    """Seconds of a token with `context` tokens in the cache, itself included."""
    return _decode_positions_s(grid, ceil_div(context, _side(grid)))


@cache
def _decode_positions_s(grid: str, positions: int) -> float:
    from wsesim.engine.observe.measure import kernel_cycles

    machine, (shape, block) = load_machine("wse2"), _layer(grid)
    kernels = layer_kernels(shape, block, REDUCE)
    return machine.seconds(LAYERS * kernel_cycles(machine, block, list(kernels.values()), positions * block.rows))


def _layer(grid: str) -> tuple[LayerShape, Block]:
    """WaferLLM's padded LLaMA3-8B on a grid."""
    side = _side(grid)
    padded = next(m.value for m in measurements() if m.table == "waferllm_configs" and m.of("P") == side)
    shape = LayerShape(padded["dim"], 1, 1, padded["dim"], padded["ffn"])
    return shape, Block("layer", 0, 0, side, side, "rows")


def _side(grid: str) -> int:
    return int(grid.partition("x")[0])
