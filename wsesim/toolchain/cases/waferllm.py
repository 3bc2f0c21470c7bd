"""WaferLLM on a WSE-2, as its program runs: decode layers, prompts, and whole requests. And MeshGEMM in a simulator."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from wsesim.machine import load_machine
from wsesim.program.build import LayerShape, layer_kernels, prefill_kernels
from wsesim.program.layout import ceil_div
from wsesim.program.parts import Block
from wsesim.report.published import Measurement, measurements
from wsesim.report.validation import Case
from wsesim.software import load_software

LAYERS = {"LLaMA3-8B": 32, "LLaMA2-13B": 40, "Qwen2-72B": 80}  # one layer was measured, and multiplied by these
WIDTHS_13B = (5120, 13824)  # LLaMA2-13B: dim and ffn, before padding; its configuration is not published
MODEL = "LLaMA3-8B"
PREFILL_GRID, DECODE_GRID = "660x660", "360x360"
MACHINE, SOFTWARE = "wse2", "waferllm"


def case(measurement: Measurement) -> Case | None:
    """The case of a row of these tables, None for the rows that are not simulated."""
    model, grid = str(measurement.of("model")), str(measurement.of("grid"))
    match measurement.table:
        case "kang_meshgemm_simfab":
            return Case(
                "meshgemm",
                measurement,
                float(measurement.value),
                lambda: _meshgemm(measurement),
                machine="wse3-simulator",
                software="simfab-gemm",
            )
        case "waferllm_t4_cycles_per_layer":
            positions = _padded(model, _side(grid))["seq"] // _side(grid)
            calibrates = "stage_cycles" if model == MODEL else ""
            return _case("waferllm", measurement, lambda: _decode_cycles(model, grid, positions), calibrates)
        case "waferllm_t3_prefill":
            tokens = int(measurement.of("context"))
            calibrates = "" if model == "LLaMA2-13B" else "op.fma, op.elementwise, gemm.turn_cycles"
            return _case("waferllm-prefill", measurement, lambda: tokens / _prefill_s(model, grid, tokens), calibrates)
        case "waferllm_t2_e2e":
            return _case("waferllm-e2e", measurement, lambda: _request_rate(measurement))
        case "waferllm_t2_decomposed":
            return _case("waferllm-inferred", measurement, _part(measurement))
        case _:
            return None


def _case(group: str, measurement: Measurement, model: Callable[[], float], calibrates: str = "") -> Case:
    return Case(
        group,
        measurement,
        float(measurement.value),
        model,
        machine=MACHINE,
        software=SOFTWARE,
        calibrates=calibrates,
    )


def _meshgemm(measurement: Measurement) -> float:
    from wsesim.engine.expand.gemm import tiles_of
    from wsesim.engine.observe.measure import meshgemm_cycles

    side, rows, inner, columns, loops = (int(measurement.of(key)) for key in "PMKNL")
    return meshgemm_cycles(
        load_machine("wse3-simulator"),
        side,
        tiles_of(rows, inner, columns, side),
        exchange=bool(measurement.of("comm")),
        loops=loops,
        software=load_software("simfab-gemm"),
    )


def _request_rate(measurement: Measurement) -> float:
    """Output tokens per second of prompt and decode; every token takes the time of the one in the middle."""
    read, written = int(measurement.of("input_len")), int(measurement.of("output_len"))
    prompt_s = _prefill_s(MODEL, PREFILL_GRID, read)
    return written / (prompt_s + written * _decode_s(DECODE_GRID, read + written // 2))


def _part(measurement: Measurement) -> Callable[[], float]:
    grid, tokens = str(measurement.of("grid")), int(measurement.of("input_len"))
    parts: dict[str, Callable[[], float]] = {
        "decode_step": lambda: 1e6 * _decode_s(grid, tokens),
        "prefill_time": lambda: 1e3 * _prefill_s(MODEL, grid, tokens),
        "prefill_rate": lambda: tokens / _prefill_s(MODEL, grid, tokens),
    }
    return parts[measurement.metric]


@cache
def _prefill_s(model: str, grid: str, tokens: int) -> float:
    """Seconds of a prompt, padded to whole tiles."""
    from wsesim.engine.steps.prompt_layer import prompt_layer_cycles

    machine, shape, block = load_machine(MACHINE), _shape(model, grid), _block(grid)
    kernels = prefill_kernels(shape, block, ceil_div(tokens, block.rows) * block.rows, "meshgemm", "two_phase")
    cycles = prompt_layer_cycles(machine, block, kernels.values(), load_software(SOFTWARE))
    return machine.seconds(LAYERS[model] * cycles)


def _decode_s(grid: str, context: int) -> float:
    """Seconds of a token with `context` tokens in the cache, itself included."""
    cycles = _decode_cycles(MODEL, grid, ceil_div(context, _side(grid)))
    return load_machine(MACHINE).seconds(LAYERS[MODEL] * cycles)


@cache
def _decode_cycles(model: str, grid: str, positions: int) -> int:
    """Cycles of a layer with so many positions on each line of PEs."""
    from wsesim.engine.observe.measure import kernel_cycles

    block, groups = _block(grid), _padded(model, _side(grid)).get("groups")
    reduce = f"streamed_two_phase:{groups}" if groups else "streamed_two_phase"
    kernels = layer_kernels(_shape(model, grid), block, reduce)
    return kernel_cycles(
        load_machine(MACHINE), block, list(kernels.values()), positions * block.rows, software=load_software(SOFTWARE)
    )


def _shape(model: str, grid: str) -> LayerShape:
    """The layer as WaferLLM pads it: one head as wide as the model."""
    padded = _padded(model, _side(grid))
    return LayerShape(padded["dim"], 1, 1, padded["dim"], padded["ffn"])


def _padded(model: str, side: int) -> dict[str, int]:
    """Padded dimensions of a model on a grid, and the groups of its sums, where they are published."""
    if model == "LLaMA2-13B":
        dim, ffn = (ceil_div(width, side) * side for width in WIDTHS_13B)
        return {"dim": dim, "ffn": ffn}
    configs = (m for m in measurements() if m.table == "waferllm_configs")
    padded: dict[str, int] = next(m.value for m in configs if (m.of("model"), m.of("P")) == (model, side))
    return padded


def _block(grid: str) -> Block:
    side = _side(grid)
    return Block("layer", 0, 0, side, side, "rows")


def _side(grid: str) -> int:
    return int(grid.partition("x")[0])
