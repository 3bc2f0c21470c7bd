"""Qwen3-4B and Qwen3.5-9B on a CS-3: layers, their phases, and whole decode steps, as Edinburgh's programs run them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache

from wsesim.machine import load_machine
from wsesim.program.build import LayerShape, layer_kernels
from wsesim.program.kernels import Kernel, QKNorm, Score
from wsesim.program.parts import Block
from wsesim.report.published import Measurement, measurements
from wsesim.report.validation import Case
from wsesim.software import load_software

# The public configurations.
QWEN3_4B = LayerShape(dim=2560, heads=32, kv_heads=8, head_dim=128, ffn_dim=9728, qk_norm=True)
QWEN35_9B = LayerShape(dim=4096, heads=16, kv_heads=4, head_dim=256, ffn_dim=12288, qk_norm=True, gated=True)
LAYERS, ROW_LAYERS = 36, 9
SIDE = 256
REDUCE, BAND_REDUCE = "streamed_two_phase", "streamed_two_phase:1"  # comm_pe.csl: one phase within a head's band
SHORT = 2048  # context of the phases and of the rows that calibrate

LAYER, CONTEXT, MODEL_9B = "qwen3", "qwen3-context", "qwen35-9b"


def _routed(*roles: str) -> tuple[str, ...]:
    """Names of these kernels and of the changes of routes before them."""
    return tuple(part for role in roles for part in (role, f"{role}.routes"))


# The phases of the measured program. It sets the routes of the two norms at the end of the half before. The sum of
# squares of a norm rides in the product after it.
PHASES = {
    "QKV": ("attn_norm", "qkv"),
    "QKnorm+RoPE": _routed("qk_norm", "rope"),
    "score": _routed("score"),
    "softmax": _routed("softmax"),
    "PV": _routed("weighted_sum"),
    "O-proj": _routed("o"),
    "residual": ("attn_add", "gate_up.routes"),
}
PHASES["ATTN total"] = tuple(part for phase in tuple(PHASES.values()) for part in phase)
PHASES["FFN total"] = ("ffn_norm", "gate_up", *_routed("swiglu", "down", "ffn_add"), "qkv.routes")


def case(measurement: Measurement) -> Case | None:
    """The case of a row of these tables, None for the rows that are not simulated."""
    found = _model(measurement)
    if found is None:
        return None
    group, model, calibrates = found
    software = "edinburgh-9b" if group == MODEL_9B else "edinburgh"
    return Case(
        group, measurement, float(measurement.value), model, machine="wse3", software=software, calibrates=calibrates
    )


def _model(measurement: Measurement) -> tuple[str, Callable[[], float], str] | None:
    """Group, simulation, and the constant that comes from the row."""
    of = measurement.of
    match measurement.table, measurement.metric:
        case "ed_qwen3_4b_phases", "phase":
            phase, context = str(of("phase")), int(of("context"))
            return LAYER if context == SHORT else CONTEXT, lambda: phase_cycles(phase, context), ""
        case "ed_qwen3_4b_phases", "attn_context_slope":
            return CONTEXT, _slope, ""
        case "ed_qwen3_4b_thin", _:
            return LAYER, lambda: _period(int(of("context"))), ""
        case "ed_qwen3_4b_row", "T_attn_row_9layers" | "T_ffn_row_9layers":
            return _row_of_layers(measurement)
        case "ed_qwen3_4b_softmax_passes", _ if of("pass") == "max reduce":
            return LAYER, lambda: _maximum_cycles(int(of("context"))), ""
        case "ed_qwen3_4b_context" | "ed_qwen3_4b_context_short", "decode_step":
            context = int(of("context") or (of("ctx_lo") + of("ctx_hi")) // 2)
            ends = "head, tail and strips of a step" if context == SHORT else ""
            return CONTEXT, lambda: _step(context), ends
        case "ed_meshrt_9b_region", _:
            return MODEL_9B, lambda: sum(_phases("edinburgh-9b", int(of("context")), 1).values()), ""
        case _:
            return None


def _row_of_layers(measurement: Measurement) -> tuple[str, Callable[[], float], str]:
    """Nine layers on a row of blocks. At 2K, batches 1 and 2 decide what a slot and an element of SiLU cost."""
    phase = "ATTN total" if measurement.metric.startswith("T_attn") else "FFN total"
    if measurement.of("context") != SHORT:
        return CONTEXT, lambda: ROW_LAYERS * phase_cycles(phase, 8192), ""
    batch = int(measurement.of("batch"))
    constant = "slot_cycles" if phase == "ATTN total" else "SiLU"
    return LAYER, lambda: ROW_LAYERS * phase_cycles(phase, SHORT, batch), constant


def phase_cycles(phase: str, context: int, batch: int = 1) -> int:
    """Cycles of a phase of one Qwen3-4B layer."""
    return sum(_phases("edinburgh", context, batch)[role] for role in PHASES[phase])


@cache
def _phases(software: str, context: int, batch: int) -> dict[str, int]:
    """Cycles of each kernel of a layer (`role`) and of the changes of routes before it (`role.routes`)."""
    from wsesim.engine.observe.measure import phase_cycles

    block = Block("layer", 0, 0, SIDE, SIDE, "rows")
    shape = QWEN35_9B if software == "edinburgh-9b" else QWEN3_4B
    return phase_cycles(
        load_machine("wse3"),
        block,
        layer_of(shape, block),
        context,
        tokens=batch,
        software=load_software(software),
    )


def layer_of(shape: LayerShape, block: Block) -> list[Kernel]:
    """A layer's kernels. Within a head's band a sum has one phase."""
    kernels = layer_kernels(shape, block, REDUCE).values()
    return [dataclasses.replace(k, reduce=BAND_REDUCE) if isinstance(k, QKNorm | Score) else k for k in kernels]


def _maximum_cycles(context: int) -> int:
    """The maximum of each slot and its AllReduce: a softmax that does nothing else."""
    from wsesim.engine.observe.measure import phase_cycles

    software = load_software("edinburgh")
    form = software.form("Softmax")
    alone = dataclasses.replace(form, steps=form.steps[:2])
    forms = tuple(alone if f is form else f for f in software.forms)
    block = Block("layer", 0, 0, SIDE, SIDE, "rows")
    cycles = phase_cycles(
        load_machine("wse3"),
        block,
        layer_of(QWEN3_4B, block),
        context,
        software=dataclasses.replace(software, forms=forms),
    )
    return cycles["softmax"]


def _slope() -> float:
    """Cycles for each token of context, between the shortest and the longest measured context."""
    long = 23040
    return (phase_cycles("ATTN total", long) - phase_cycles("ATTN total", SHORT)) / (long - SHORT)


def _period(context: int) -> int:
    """Cycles of the slower of attention and FFN, which lie on two blocks and work on two tokens."""
    return max(phase_cycles("ATTN total", context), phase_cycles("FFN total", context))


def _step(context: int) -> float:
    """36 layers, the hops between their halves, and what else a step has: head, tail and strips, as measured at 2K."""
    layer = phase_cycles("ATTN total", context) + phase_cycles("FFN total", context)
    return LAYERS * layer + _measured_rest()


@cache
def _measured_rest() -> float:
    """Measured cycles of a step at 2K without its layers."""
    rows = measurements()
    step = next(m.value for m in rows if m.table == "ed_qwen3_4b_context_short" and m.of("context") == SHORT)
    halves = [
        m.value
        for m in rows
        if m.table == "ed_qwen3_4b_phases" and m.of("context") == SHORT and m.of("phase") in ("ATTN total", "FFN total")
    ]
    return float(step - LAYERS * sum(halves))
