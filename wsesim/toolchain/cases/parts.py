"""Single PE and fabric. Each row runs on the machine of its measurement: silicon or the vendor's simulator."""

from __future__ import annotations

from collections.abc import Callable

from wsesim.machine import Machine, load_machine
from wsesim.report.published import Measurement
from wsesim.report.validation import Case

GROUP = "parts"
LONG, SHORT = 4096, 1024  # elements of two runs; a rate is the slope between them


def case(measurement: Measurement) -> Case | None:
    """The case of a row of these tables, None for the rows that are not simulated."""
    if measurement.table == "alcf_wse3_silicon":
        profile = "wse3-simulator" if measurement.of("evidence_class") == "simulator" else "wse3"
        model = _silicon(measurement, load_machine(profile))
    elif measurement.table in ("alcf_wse3_simulator", "alcf_relay_fit"):
        model = _simulator(measurement, load_machine("wse3-simulator"))
    else:
        return None
    return Case(GROUP, measurement, float(measurement.value), model) if model else None


def _silicon(measurement: Measurement, machine: Machine) -> Callable[[], float] | None:
    from wsesim.engine.observe.measure import one_way_cycles, send_to_receive_cycles

    op, dtype = _op(measurement.of("op"))
    match measurement.metric:
        case "dsd_throughput":
            return lambda: _rate(machine, op, dtype)
        case "dsd_setup":
            return lambda: _setup(machine, op, dtype)
        case "hop_latency" if measurement.of("directions"):
            return lambda: (one_way_cycles(machine, 32) - one_way_cycles(machine, 1)) / 31
        case "link_rate":
            return lambda: (send_to_receive_cycles(machine, 1, 1000) - send_to_receive_cycles(machine, 1, 200)) / 800
        case "turn_cost":
            return lambda: send_to_receive_cycles(machine, 4, 1, turn=True) - send_to_receive_cycles(machine, 4, 1)
        case "one_way_message_median":
            return lambda: one_way_cycles(machine, int(measurement.of("hops")))
        case _:
            return None


def _simulator(measurement: Measurement, machine: Machine) -> Callable[[], float] | None:
    from wsesim.engine.expand.gemm import Tiles
    from wsesim.engine.observe.measure import op_cycles, relay_cycles, send_to_receive_cycles, tile_product_cycles

    form = str(measurement.of("form"))
    match measurement.metric:
        case "copy_f16":
            return lambda: _rate(machine, "copy", "fp16")
        case "axpy_fmach_f16":
            return lambda: _rate(machine, "fma", "fp16")
        case "ew_add_mul_f16":
            return lambda: _rate(machine, "elementwise", "fp16")
        case "reduce_to_scalar_f16":
            return lambda: 1 / _rate(machine, "reduce", "fp16")
        case "fmach_4096_elem" if form.startswith("L0"):
            return lambda: op_cycles(machine, "fma", 4096)
        case "fmach_4096_elem" if form.startswith("L2"):
            return lambda: op_cycles(machine, "fma", 16, 256)
        case "fmach_4096_elem" if form.startswith("L3"):
            return lambda: tile_product_cycles(machine, Tiles(rows=16, inner=16, columns=16))
        case "send_dispatch_to_recv_complete":
            return lambda: send_to_receive_cycles(machine, 1, int(measurement.of("words")))
        case "store_and_forward_chain_FIT":
            return lambda: relay_cycles(machine, int(measurement.of("stages")), int(measurement.of("wavelets")))
        case _:
            return None


def _op(named: str | None) -> tuple[str, str]:
    """`fma fp16` as operation and dtype."""
    op, _, dtype = (named or "copy fp16").partition(" ")
    return op, dtype


def _rate(machine: Machine, op: str, dtype: str) -> float:
    """Elements per cycle: the slope between two lengths."""
    from wsesim.engine.observe.measure import op_cycles

    return (LONG - SHORT) / (op_cycles(machine, op, LONG, 1, dtype) - op_cycles(machine, op, SHORT, 1, dtype))


def _setup(machine: Machine, op: str, dtype: str) -> float:
    """Cycles of an operation on 0 elements, extrapolated."""
    from wsesim.engine.observe.measure import op_cycles

    return op_cycles(machine, op, LONG, 1, dtype) - LONG / _rate(machine, op, dtype)
