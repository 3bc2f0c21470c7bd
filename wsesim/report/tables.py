"""Text for people: tables of reports and completions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from textwrap import fill

from wsesim.engine.path import PathStep
from wsesim.engine.pipeline import Flow
from wsesim.report.report import KINDS, Report
from wsesim.report.sensitivity import Elasticity


def aligned(rows: Iterable[Sequence[str]], indent: str = "  ") -> str:
    """Columns: the first flush left, the others flush right."""
    rows = [tuple(row) for row in rows]
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    return "\n".join(
        indent
        + "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=False))
        )
        for row in rows
    )


def si_seconds(seconds: float) -> str:
    """Seconds with the unit that suits their size."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.4g} {unit}"
    return f"{seconds / 1e-9:.4g} ns"


def si_bytes(count: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.4g} {unit}"
    return f"{count} B"


def report_text(report: Report, path_steps: int = 12) -> str:
    """The whole report: figures, operators, bounds, the longest stretches of the critical path."""
    what = f"over {report.context} cached" if report.phase == "decode" else f"of {report.tokens} tokens"
    bounds = report.bounds
    head = [
        f"{report.model} on {report.machine}, {report.strategy}, {report.phase} {what}, batch {report.batch}, "
        f"timing in {report.timing_dtype}",
        aligned(
            [
                ("cycles", f"{report.cycles:,}", f"{report.cycles_per_token:,.0f} a token"),
                ("time", si_seconds(report.seconds), f"{si_seconds(report.seconds_per_token)} a token"),
                ("tokens/s", f"{report.tokens_per_second:,.1f}", f"clock {report.clock_hz / 1e6:g} MHz"),
                ("PEs", f"{report.pes:,}", f"{si_bytes(report.sram_bytes)} of SRAM"),
                _headroom(report),
                ("padding", f"{100 * report.multiply_adds.padding_share:.1f} %", "of the multiply-adds"),
            ]
        ),
        "lower bounds (cycles, share of what it took)",
        aligned(
            _bound(name, cycles, report)
            for name, cycles in (
                ("arithmetic: multiply-adds on all PEs of the blocks", bounds.arithmetic_cycles),
                ("dependent: vector operations, no network", bounds.dependent_cycles),
                ("distance: hops between blocks, no operation", bounds.distance_cycles),
            )
        ),
        "critical path by operator (cycles)",
        _operators(report),
        f"critical path: the {path_steps} longest stretches",
        _stretches(report.path, path_steps),
        f"  {report.late_requests:,} of {report.link_events:,} link requests came out of order between segments",
        *(_congestion(report, report.free_cycles) if report.free_cycles is not None else ()),
        *(_flow(report, report.flow) if report.flow else ()),
        *(_sensitivity(report.sensitivity) if report.sensitivity else ()),
    ]
    return "\n".join(head)


def _congestion(report: Report, free_cycles: int) -> tuple[str]:
    cycles = report.cycles - free_cycles
    share = f"{100 * cycles / report.cycles:.1f} %"
    return (f"  congestion: {cycles:,} cycles ({share}); with links and ramps always free it took {free_cycles:,}",)


def _sensitivity(found: tuple[Elasticity, ...]) -> tuple[str, str]:
    """Constants by the size of their elasticity; those that moved nothing in one line."""
    rows = [("constant", "from", "to", "cycles", "elasticity")]
    for e in (e for e in found if e.raised_cycles != e.cycles):
        size = "-" if e.elasticity is None else f"{float(e.elasticity):+.4f}"
        rows.append(
            (e.constant, f"{float(e.value):g}", f"{float(e.raised):g}", f"{e.raised_cycles - e.cycles:+,}", size)
        )
    still = ", ".join(e.constant for e in found if e.raised_cycles == e.cycles)
    unmoved = fill(f"no cycle more or less: {still}", 110, initial_indent="  ", subsequent_indent="    ")
    return "sensitivity: per cent of the cycles per per cent of a constant", aligned(rows) + f"\n{unmoved}" * bool(
        still
    )


def _flow(report: Report, flow: Flow) -> tuple[str, str, str]:
    """The steady state: distance of tokens at the output, and the block that works longest for one."""
    rows = [
        (name, f"{float(cycles):,.1f} cycles", si_seconds(float(cycles) / report.clock_hz))
        for name, cycles in (("period", flow.period_cycles), ("latency", flow.latency_cycles))
    ]
    busy = flow.bottleneck.busy_cycles
    share = f"{100 * float(busy / flow.period_cycles):.1f} % of the time"
    rows.append((f"bottleneck {flow.bottleneck.block}", f"{float(busy):,.1f} cycles", share))
    if flow.period_cycles * flow.in_flight == flow.latency_cycles:
        rows.append(("not full", "no token waits for another", "more in flight shorten the period"))
    rows.append(("tokens/s", f"{report.flow_tokens_per_second(flow):,.1f}", "of all sequences"))
    if report.free_flow is not None:
        rows.append(("with free links", f"{float(report.free_flow.period_cycles):,.1f} cycles", "a period"))
    late = f"{flow.late_requests:,} of {flow.link_events:,} link requests"
    return (
        f"steady state, {flow.in_flight} in flight, batch {flow.batch} each",
        aligned(rows),
        f"  {late} came out of order between segments: they may have waited too long",
    )


def _headroom(report: Report) -> tuple[str, str, str]:
    """The block with the least room left."""
    block, free = min(report.sram_free_bytes, key=lambda item: item[1])
    return "SRAM free", f"{free:,} B", f"on the fullest PE of {block}"


def _bound(name: str, cycles: int, report: Report) -> tuple[str, str, str]:
    return name, f"{cycles:,}", f"{100 * cycles / max(1, report.cycles):.1f} %"


def _operators(report: Report) -> str:
    rows: list[tuple[str, ...]] = [("operator", "cycles", "share", *KINDS)]
    total = sum(s.cycles for s in report.shares)
    for share in report.shares:
        parts = (f"{c:,}" for c in share.by_kind)
        rows.append((share.operator, f"{share.cycles:,}", f"{100 * share.cycles / total:.1f} %", *parts))
    rows.append(("sum", f"{total:,}", "100.0 %", *(f"{c:,}" for c in report.by_kind().values())))
    return aligned(rows)


def _stretches(path: tuple[PathStep, ...], count: int) -> str:
    """Neighbouring steps of one kind and operator are one stretch."""
    stretches = []
    for (segment, label, kind), steps in groupby(path, key=lambda s: (s.segment, s.label, s.kind)):
        found = list(steps)
        cycles = sum(s.cycles for s in found)
        stretches.append((cycles, found[0].start_cycle, segment, label, kind, found[0].pe, found[-1].to_pe))
    longest = sorted(stretches, reverse=True)[:count]
    rows = [("at cycle", "segment", "operator", "kind", "from PE", "to PE", "cycles")]
    rows += [
        (f"{start:,}", segment, label, kind, f"{pe[0]},{pe[1]}", f"{to[0]},{to[1]}", f"{cycles:,}")
        for cycles, start, segment, label, kind, pe, to in sorted(longest, key=lambda s: s[1])
    ]
    return aligned(rows)
