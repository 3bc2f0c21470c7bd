"""A task's operation gives its cycles and the length of its messages. Messages have colours of the Program."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.programs import UNTIED, program
from wsesim.engine.expand.canvas import Canvas
from wsesim.engine.expand.collective import BROADCAST_COLOUR, COLOURS, all_reduce
from wsesim.engine.expand.merge import merge
from wsesim.engine.expand.segment import Segment
from wsesim.engine.expand.stage import expand_stage
from wsesim.engine.expand.transfer import expand_feedback, expand_transfer
from wsesim.engine.graph.taskgraph import RECEIVE, SEND, TaskGraph
from wsesim.machine import Rect, load_machine
from wsesim.program import Program
from wsesim.program.kernels import ACROSS, ALONG
from wsesim.program.parts import EMBED, Block
from wsesim.program.routes import transfer_paths

PLACES = (("tiny", "toy4x4", "pipelined"), ("tiny", "wse3", "shared"), (UNTIED, "wse3", "pipelined"))
PARAMETERS = pytest.mark.parametrize("place", PLACES, ids=lambda p: f"{getattr(p[0], 'name', p[0])}-{p[1]}-{p[2]}")


def stage_segments(made: Program) -> Iterator[Segment]:
    yield from (expand_stage(made, stage, 2, 40, 4) for stage in made.stages)


@PARAMETERS
def test_cycles_and_message_lengths_follow_from_operations(place: tuple[str, str, str]) -> None:
    made = program(*place)
    machine, sends = made.machine, 0
    for segment in stage_segments(made):
        graph = segment.plan.graph
        work = graph.of_operations(np.array([each.work_cycles(machine) for each in graph.operations]))
        np.testing.assert_array_equal(graph.work, work)
        for message in range(graph.message_count):
            sender = graph.operation_of(int(graph.source[message]))
            if sender.op in (SEND, RECEIVE, "relay"):
                assert graph.wavelets[message] == machine.wavelets(sender.elements, sender.dtype)
                sends += 1
    assert sends > 0


@PARAMETERS
def test_messages_have_the_colours_of_the_program(place: tuple[str, str, str]) -> None:
    made = program(*place)
    uses = {(use.block, use.kind): set(use.colours) for use in made.colours}
    for stage, segment in zip(made.stages, stage_segments(made), strict=True):
        own = uses[stage.block, ALONG] | (uses[stage.block, "embed"] if stage.kind == EMBED else set())
        assert set(merge([segment], segment.window).colour.tolist()) <= own
    for transfer in made.transfers:
        segment = expand_transfer(made, transfer, 1)
        paths = transfer_paths(transfer, made.block(transfer.source), made.block(transfer.target))
        graph = merge([segment], segment.window)
        x, y = graph.pe[graph.source] % graph.columns, graph.pe[graph.source] // graph.columns
        found = zip(
            (x + segment.window.x).tolist(), (y + segment.window.y).tolist(), graph.colour.tolist(), strict=True
        )
        assert sorted(found) == sorted((path.x, path.y, path.colour) for path in paths)


def test_the_feedback_has_the_colour_of_the_program() -> None:
    made = program(UNTIED, "wse3")
    back = expand_feedback(made)
    assert back is not None
    assert tuple(merge([back], back.window).colour) == made.feedback.colours


def line_graph(length: int, algorithm: str, axis: str = ALONG) -> TaskGraph:
    machine = load_machine("toy4x4")
    block = Block("line", 0, 0, length, 1, "columns") if axis == ALONG else Block("line", 0, 0, length, 1, "rows")
    canvas = Canvas(Rect(0, 0, length, 1), machine, "fp16")
    all_reduce(canvas, canvas.lines(block, axis, 1), length, 40, algorithm, "sum")
    return canvas.builder.build()


def test_colours_of_a_line_by_hand() -> None:
    """A chain of four ends on the last PE, which tells the others."""
    graph = line_graph(4, "chain")
    assert list(zip(graph.pe[graph.source], graph.colour, strict=True)) == [(0, 0), (1, 1), (2, 0), (3, 4)]
    assert set(line_graph(4, "chain", ACROSS).colour) == {COLOURS, COLOURS + 1, COLOURS + BROADCAST_COLOUR}


@pytest.mark.parametrize("algorithm", ["chain", "two_phase", "two_phase_end", "ring"])
def test_no_pe_receives_and_sends_in_one_colour(algorithm: str) -> None:
    """Neighbours have different colours, except the two places of a ring of odd length."""
    for length in range(2, 41):
        graph = line_graph(length, algorithm)
        sent = set(zip(graph.pe[graph.source].tolist(), graph.colour.tolist(), strict=True))
        ends = graph.drop_task[graph.drop_ptr[1:] - 1]
        received = set(zip(graph.pe[ends].tolist(), graph.colour.tolist(), strict=True))
        most = length % 2 if algorithm == "ring" else 0
        assert len(sent & received) <= most, (length, sent & received)
        assert graph.colour.max() <= BROADCAST_COLOUR
