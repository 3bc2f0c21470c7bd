"""Layers that others measured on silicon, built from their dimensions and timed on an idle block."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from wsesim.machine import load_machine
from wsesim.program.build import LayerShape, layer_kernels
from wsesim.program.parts import Block
from wsesim.report.published import Measurement, measurements
from wsesim.report.validation import Case

# The public configurations.
QWEN3_4B = LayerShape(dim=2560, heads=32, kv_heads=8, head_dim=128, ffn_dim=9728, qk_norm=True)
QWEN35_9B = LayerShape(dim=4096, heads=16, kv_heads=4, head_dim=256, ffn_dim=12288, qk_norm=True, gated=True)
SIDE = 256
REDUCE = "two_phase"


def _routed(*roles: str) -> tuple[str, ...]:
    """Names of these kernels and of the changes of routes before them."""
    return tuple(part for role in roles for part in (role, f"{role}.routes"))


# The measured program changes routes before a kernel that needs others. The routes of the two norms are an exception:
# they are set at the end of the half before. Source: the control flow that the authors published.
PHASES = {
    "QKV": ("qkv",),
    "QKnorm+RoPE": _routed("qk_norm", "rope"),
    "score": _routed("score"),
    "softmax": _routed("softmax"),
    "PV": _routed("weighted_sum"),
    "O-proj": _routed("o"),
    "residual": ("attn_add", "ffn_norm.routes"),
}
PHASES["ATTN total"] = ("attn_norm", *(part for phase in tuple(PHASES.values()) for part in phase))
PHASES["FFN total"] = ("ffn_norm", *_routed("gate_up", "swiglu", "down", "ffn_add"), "attn_norm.routes")


def case(measurement: Measurement) -> Case | None:
    """The case of a row of these tables, None for the rows that are not simulated."""
    model = _model(measurement)
    group = "waferllm" if measurement.table.startswith("waferllm") else "qwen3"
    return Case(group, measurement, float(measurement.value), model) if model else None


def _model(measurement: Measurement) -> Callable[[], float] | None:
    of = measurement.of
    match measurement.table, measurement.metric:
        case "ed_qwen3_4b_phases", "phase":
            roles, context = PHASES[str(of("phase"))], int(of("context"))
            return lambda: sum(_phases(context)[role] for role in roles)
        case "ed_qwen3_4b_phases", "attn_context_slope":
            return _slope
        case "ed_qwen3_4b_thin", _:
            return lambda: _period(int(of("context")))
        case "ed_meshrt_9b_region", _:
            return lambda: _layer("wse3", SIDE, QWEN35_9B, int(of("context")))
        case "waferllm_t4_cycles_per_layer", _:
            side, context = int(str(of("grid")).partition("x")[0]), int(of("context"))
            return lambda: _layer("wse2", side, _padded(side), context)
        case _:
            return None


@cache
def _phases(context: int) -> dict[str, int]:
    """Cycles of each kernel of a Qwen3-4B layer (`role`) and of the changes of routes before it (`role.routes`)."""
    from wsesim.engine.observe.measure import phase_cycles

    block = Block("layer", 0, 0, SIDE, SIDE, "rows")
    return phase_cycles(load_machine("wse3"), block, list(layer_kernels(QWEN3_4B, block, REDUCE).values()), context)


def _attention(context: int) -> int:
    return sum(_phases(context)[role] for role in PHASES["ATTN total"])


def _slope() -> float:
    """Cycles for each token of context, between the shortest and the longest measured context."""
    short, long = 2048, 23040
    return (_attention(long) - _attention(short)) / (long - short)


def _period(context: int) -> int:
    """Cycles of the slower of attention and FFN, which lie on two blocks and work on two tokens."""
    return max(_attention(context), sum(_phases(context)[role] for role in PHASES["FFN total"]))


def _layer(machine: str, side: int, shape: LayerShape, context: int) -> int:
    from wsesim.engine.observe.measure import kernel_cycles

    block = Block("layer", 0, 0, side, side, "rows")
    return kernel_cycles(load_machine(machine), block, list(layer_kernels(shape, block, REDUCE).values()), context)


def _padded(side: int) -> LayerShape:
    """WaferLLM's LLaMA3-8B as padded for a grid, with one head as wide as the model."""
    config = next(m.value for m in measurements() if m.table == "waferllm_configs" and m.of("P") == side)
    return LayerShape(config["dim"], 1, 1, config["dim"], config["ffn"])
