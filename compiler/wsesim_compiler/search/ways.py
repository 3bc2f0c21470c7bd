"""Ways: how long the residual stream takes from block to block, without waiting.

The longest way decides. `wsesim.program.transfers` has the paths; here are only their lengths. Both blocks are split
over their rows.
"""

from __future__ import annotations

from wsesim.machine import Machine
from wsesim.program.layout import Uniform, ceil_div
from wsesim.program.parts import Block
from wsesim.program.transfers import RESLICE, kind_between, lane_span, lanes_between


def way_cycles(machine: Machine, dtype: str, source: Block, target: Block, elements: int, used: int = 0) -> int:
    """From the first send to the last receive of a vector of `elements`, on idle links.

    `used`: the western columns of the target whose work the next sum waits for; 0: all.
    """
    reach = target.column_places[min(used or target.columns, target.columns) - 1] - target.x + 1
    fabric = machine.fabric
    leaving, entering = Uniform(elements, source.rows), Uniform(elements, target.rows)
    piece = min(leaving.width, entering.width)
    stream = ceil_div(machine.wavelets(piece, dtype) * fabric.wavelet_numerator, fabric.wavelet_denominator)
    reslices = kind_between(source, target, leaving, entering) == RESLICE
    hops = (
        _reslice_hops(source, target, leaving, entering, reach) if reslices else _straight_hops(source, target, reach)
    )
    return hops * fabric.hop_cycles + stream + ends_cycles(machine)


def least_way_cycles(machine: Machine, columns: int) -> int:
    """No transfer to a block of at least so many columns is shorter: half of them lie east or west of every lane."""
    return columns // 2 * machine.fabric.hop_cycles + ends_cycles(machine)


def send_cycles(machine: Machine) -> int:
    """For which a PE sends. The message goes on without it."""
    return machine.op("copy").launch


def ends_cycles(machine: Machine) -> int:
    """Launch and ramps at both ends."""
    fabric = machine.fabric
    return send_cycles(machine) + fabric.ramp_send_cycles + fabric.ramp_receive_cycles + machine.activate_cycles


def _straight_hops(source: Block, target: Block, reach: int) -> int:
    """From the edge of the source to the far edge of the target."""
    if source.x < target.x:
        return target.x + reach - source.x - source.rect.columns
    return source.x - target.x


def _reslice_hops(source: Block, target: Block, leaving: Uniform, entering: Uniform, reach: int) -> int:
    """The farthest line takes the lane farthest from the middle, and then the target's row from there."""
    all_lanes = lanes_between(source, *lane_span(source, target))
    first, last = all_lanes[0], all_lanes[-1]
    lines_per_lane = ceil_div(entering.used, max(1, len(all_lanes) // 2))
    place, middle = (entering.used - 1) // lines_per_lane, (len(all_lanes) - 1) // 2
    lanes = all_lanes[max(middle - place, 0)], all_lanes[min(middle + place, len(all_lanes) - 1)]
    across = max(target.x + reach - 1 - lanes[0], lanes[1] - target.x)
    early = max(0, min(lanes[0] - first, last - lanes[1]))  # the last sum reaches the lanes before the edges
    pieces = ((0, 0), (leaving.used - 1, entering.used - 1))  # the first and the last line of both
    sent, received = source.row_places, target.row_places
    return max(abs(received[there] - sent[here]) for here, there in pieces) + across - early
