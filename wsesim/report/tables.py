"""The tables of a report: as the command line and `print(report)` show them, and shorter ones for notebooks."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from wsesim.engine.steps.pipeline import Flow
from wsesim.report.figures import KINDS, StepFigures
from wsesim.report.sensitivity import Elasticity
from wsesim.report.stretches import stretches
from wsesim.tables import Table, html_of, si_bytes, si_seconds, text_of

GROUPS_SHOWN = 12


def report_text(report: StepFigures, groups: int = GROUPS_SHOWN) -> str:
    """All tables as text: figures, bounds, operators, and stretches of the critical path."""
    return text_of(_tables(report, groups))


def figures_text(report: StepFigures) -> str:
    """The first table alone: what was simulated, and its main figures."""
    return _figures(report).text()


def report_html(report: StepFigures) -> str:
    """Figures, bounds and operators as HTML tables."""
    return html_of((_figures(report), *_bounds(report), _operators(report)))


def _tables(report: StepFigures, groups: int) -> Iterator[Table]:
    yield _figures(report)
    yield from _bounds(report)
    yield _operators(report)
    yield _stretches(report, groups)
    if report.free_cycles is not None:
        yield _congestion(report, report.free_cycles)
    if report.flow:
        yield _flow(report, report.flow)
    if report.sensitivity:
        yield _sensitivity(report.sensitivity)


def _figures(report: StepFigures) -> Table:
    what = f"over {report.context} cached" if report.phase == "decode" else f"of {report.tokens} tokens"
    return Table(
        f"{report.model} on {report.machine}, {report.strategy}, {report.phase} {what}, batch {report.batch}, "
        f"timing in {report.timing_dtype}",
        (
            ("cycles", f"{report.cycles:,}", f"{report.cycles_per_token:,.0f} a token"),
            ("time", si_seconds(report.seconds), f"{si_seconds(report.seconds_per_token)} a token"),
            ("tokens/s", f"{report.tokens_per_second:,.1f}", f"clock {report.clock_hz / 1e6:g} MHz"),
            ("PEs", f"{report.pes:,}", f"{si_bytes(report.sram_bytes)} of SRAM"),
            _headroom(report),
            ("padding", f"{100 * report.multiply_adds.padding_share:.1f} %", "of the multiply-adds"),
        ),
        notes=(*report.machine_notes, *_forms(report)),
    )


def _forms(report: StepFigures) -> list[str]:
    """The forms of the kernels, in lines of the width of a page."""
    forms = ", ".join(f"{role} {'/'.join(names)}" for role, names in report.forms)
    return wrap(f"forms of {report.software}: {forms}", 100, subsequent_indent="  ") if forms else []


def _headroom(report: StepFigures) -> tuple[str, str, str]:
    """The block with the least room left."""
    block, free = min(report.sram_free_bytes, key=lambda item: item[1])
    return "SRAM free", f"{free:,} B", f"on the fullest PE of {block}"


def _bounds(report: StepFigures) -> tuple[Table, Table]:
    """The bounds in cycles, and as shares of the simulated cycles."""
    here, anywhere = report.bounds, report.machine_bounds

    def row(name: str, cycles: int) -> tuple[str, str, str]:
        return name, f"{cycles:,}", f"{100 * cycles / max(1, report.cycles):.1f} %"

    return (
        Table(
            "lower bounds of this placement (cycles, share of what it took)",
            (
                row("arithmetic: the weights' multiply-adds on all PEs of the blocks", here.arithmetic_cycles),
                row("dependent: vector operations, no network", here.dependent_cycles),
                row("distance: hops between blocks, no operation", here.distance_cycles),
            ),
        ),
        Table(
            f"lower bounds of any placement on {report.machine} (cycles, share of what this one took)",
            (
                row(f"arithmetic: all multiply-adds on all {anywhere.pes:,} usable PEs", anywhere.arithmetic_cycles),
                row("spread: half layer after half layer, each spreading hop by hop", anywhere.spread_cycles),
            ),
        ),
    )


def _operators(report: StepFigures) -> Table:
    rows: list[tuple[str, ...]] = [("operator", "cycles", "share", *KINDS)]
    total = sum(s.cycles for s in report.shares)
    for share in report.shares:
        parts = (f"{c:,}" for c in share.by_kind)
        rows.append((share.operator, f"{share.cycles:,}", f"{100 * share.cycles / total:.1f} %", *parts))
    rows.append(("sum", f"{total:,}", "100.0 %", *(f"{c:,}" for c in report.by_kind().values())))
    return Table("critical path by operator (cycles)", tuple(rows), heading=True)


def _stretches(report: StepFigures, groups: int) -> Table:
    """For each operator and kind: the number of stretches, their cycles, and the longest one."""
    found = stretches(report.path)
    shown = found[:groups]
    rows = [("operator", "kind", "stretches", "cycles", "longest", "at cycle", "segment", "from PE", "to PE")]
    rows += [
        (s.operator, s.kind, f"{s.count:,}", f"{s.cycles:,}", f"{s.longest_cycles:,}", f"{s.start_cycle:,}",
         s.segment, f"{s.pe[0]},{s.pe[1]}", f"{s.to_pe[0]},{s.to_pe[1]}")
        for s in shown
    ]  # fmt: skip
    rest = sum(s.cycles for s in found[groups:])
    more = f"; {len(found) - len(shown)} more groups have {rest:,} cycles" if len(found) > len(shown) else ""
    late = f"{report.late_requests:,} of {report.link_events:,} link requests came out of order between segments"
    return Table(
        f"critical path by operator and kind, and the longest stretch of each{more}", tuple(rows), True, (late,)
    )


def _congestion(report: StepFigures, free_cycles: int) -> Table:
    cycles = report.cycles - free_cycles
    share = f"{100 * cycles / report.cycles:.1f} %"
    said = f"congestion: {cycles:,} cycles ({share}); with links and ramps always free it took {free_cycles:,}"
    return Table("", notes=(said,))


def _flow(report: StepFigures, flow: Flow) -> Table:
    """The steady state: the time between two tokens at the output, and the busiest block."""
    rows = [
        (name, f"{float(cycles):,.1f} cycles", si_seconds(float(cycles) / report.clock_hz))
        for name, cycles in (("period", flow.period_cycles), ("latency", flow.latency_cycles))
    ]
    busy = flow.bottleneck.busy_cycles
    share = f"{100 * float(busy / flow.period_cycles):.1f} % of the time"
    rows.append((f"bottleneck {flow.bottleneck.block}", f"{float(busy):,.1f} cycles", share))
    if gain := flow.most_gain(report.cycles):
        said = f"more in flight may shorten the period, by {100 * float(gain):.1f} % at most"
        rows.append(("not full", "no token waits for another", said))
    rows.append(("tokens/s", f"{report.flow_tokens_per_second(flow):,.1f}", "of all sequences"))
    if report.free_flow is not None:
        rows.append(("with free links", f"{float(report.free_flow.period_cycles):,.1f} cycles", "a period"))
    late = f"{flow.late_requests:,} of {flow.link_events:,} link requests"
    return Table(
        f"steady state, {flow.in_flight} in flight, batch {flow.batch} each",
        tuple(rows),
        notes=(f"{late} came out of order between segments: they may have waited too long",),
    )


def _sensitivity(found: tuple[Elasticity, ...]) -> Table:
    """The constants by elasticity; those that change no cycle are listed in one line."""
    rows = [("constant", "from", "to", "cycles", "elasticity")]
    for e in (e for e in found if e.raised_cycles != e.cycles):
        size = "-" if e.elasticity is None else f"{float(e.elasticity):+.4f}"
        rows.append(
            (e.constant, f"{float(e.value):g}", f"{float(e.raised):g}", f"{e.raised_cycles - e.cycles:+,}", size)
        )
    still = ", ".join(e.constant for e in found if e.raised_cycles == e.cycles)
    unmoved = wrap(f"no cycle more or less: {still}", 108, subsequent_indent="  ") if still else ()
    return Table("sensitivity: per cent of the cycles per per cent of a constant", tuple(rows), True, tuple(unmoved))
