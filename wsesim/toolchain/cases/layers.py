"""Layers of other models, measured on silicon: built by their dimensions, timed on an idle block."""

from __future__ import annotations

from collections.abc import Callable

from wsesim.machine import load_machine
from wsesim.program.build import LayerShape, layer_kernels
from wsesim.program.program import Block
from wsesim.report.published import Measurement, measurements
from wsesim.report.validation import Case

QWEN3_4B = LayerShape(dim=2560, heads=32, kv_heads=8, head_dim=128, ffn_dim=9728, qk_norm=True)  # public
PHASES = {
    "QKV": ("qkv",),
    "QKnorm+RoPE": ("qk_norm", "rope"),
    "score": ("score",),
    "softmax": ("softmax",),
    "PV": ("weighted_sum",),
    "O-proj": ("o",),
    "residual": ("attn_add",),
    "ATTN total": ("attn_norm", "qkv", "qk_norm", "rope", "score", "softmax", "weighted_sum", "o", "attn_add"),
    "FFN total": ("ffn_norm", "gate_up", "swiglu", "down", "ffn_add"),
}
REDUCE = "two_phase"


def case(measurement: Measurement) -> Case | None:
    """The case of a row of these tables, None for the rows that are not simulated."""
    if measurement.table == "ed_qwen3_4b_phases" and measurement.of("phase") in PHASES:
        roles = PHASES[str(measurement.of("phase"))]
        model = _cycles("wse3", 256, QWEN3_4B, roles, int(measurement.of("context")))
        return Case("qwen3-4b", measurement, float(measurement.value), model)
    if measurement.table == "waferllm_t4_cycles_per_layer":
        side = int(str(measurement.of("grid")).partition("x")[0])
        padded = next(m.value for m in measurements() if m.table == "waferllm_configs" and m.of("P") == side)
        shape = LayerShape(padded["dim"], 1, 1, padded["dim"], padded["ffn"])
        model = _cycles("wse2", side, shape, None, int(measurement.of("context")))
        return Case("waferllm", measurement, float(measurement.value), model)
    return None


def _cycles(
    machine: str, side: int, shape: LayerShape, roles: tuple[str, ...] | None, context: int
) -> Callable[[], float]:
    """Cycles of some of a layer's kernels, or of all, on a square block."""

    def model() -> float:
        from wsesim.engine.measure import kernel_cycles

        block = Block("layer", 0, 0, side, side, "rows")
        kernels = layer_kernels(shape, block, REDUCE)
        chosen = [kernels[role] for role in roles or kernels]
        return kernel_cycles(load_machine(machine), block, chosen, context)

    return model
