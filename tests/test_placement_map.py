"""Maps of placements: every name is inside its block and covers no arrow, at any size of the picture."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from tests.programs import UNTIED, program
from wsesim.program import Program
from wsesim.report.placement_map import _Names, _touches, label_of
from wsesim.report.plots import draw_placement

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # matplotlib's own

PLACES = [
    ("tiny", "toy4x4", "pipelined"),
    (UNTIED, "wse3", "pipelined"),
    ("smollm2-135m", "wse3", "shared"),
    ("smollm2-135m", "wse3", "pipelined"),
]


@pytest.fixture(scope="module", params=PLACES, ids=lambda p: f"{getattr(p[0], 'name', p[0])}-{p[1]}-{p[2]}")
def made(request: pytest.FixtureRequest) -> Program:
    return program(*request.param)


def drawn(made: Program, inches: tuple[float, float]) -> tuple[Any, _Names, np.ndarray]:
    """The axes, the names, and which pixels the arrows have when nothing else is drawn."""
    figure = Figure(figsize=inches, dpi=110)
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    draw_placement(made, axes)
    canvas.draw()
    (names,) = (artist for artist in axes.get_children() if isinstance(artist, _Names))
    for artist in axes.get_children():
        artist.set_visible(artist in (*axes.lines, *(p for p in axes.artists if p is not names)))
    for patch in axes.patches:
        patch.set_visible(hasattr(patch, "get_arrowstyle"))
    for artist in (*axes.lines, *axes.patches):
        artist.set_path_effects([])
    axes.set_axis_off()
    canvas.draw()
    return axes, names, np.asarray(canvas.buffer_rgba())[::-1, :, :3].min(axis=2) < 128


@pytest.mark.parametrize("inches", [(4, 5), (2, 2.5), (8, 8)])
def test_names_stand_in_their_blocks_and_on_no_arrow(made: Program, inches: tuple[float, float]) -> None:
    axes, names, arrows = drawn(made, inches)
    assert arrows.sum() > 20
    for name, box in names.drawn.items():
        block = made.block(name)
        ends = axes.transData.transform([(block.x, block.y), (block.x + block.columns, block.y + block.rows)])
        own = Bbox([ends.min(axis=0), ends.max(axis=0)])
        assert own.x0 < box.x0 < box.x1 < own.x1 and own.y0 < box.y0 < box.y1 < own.y1
        assert not arrows[int(box.y0) : int(np.ceil(box.y1)), int(box.x0) : int(np.ceil(box.x1))].any(), name
    assert not any(a.overlaps(b) for a, b in combinations(names.drawn.values(), 2))


def test_names_are_left_out_where_they_do_not_fit() -> None:
    made = program("smollm2-135m", "wse3")
    large, small = (set(drawn(made, inches)[1].drawn) for inches in ((8, 8), (1.2, 1.2)))
    assert {f"layer{n}" for n in range(30)} <= large
    assert not small


def test_a_part_of_the_wafer_is_shown_where_the_blocks_take_little_of_it() -> None:
    little, whole = program("tiny", "wse3"), program("tiny", "toy4x4")
    for made, columns in ((little, 200), (whole, 4.2)):
        axes, *_ = drawn(made, (4, 4))
        west, east = axes.get_xlim()
        assert west <= 0 and max(b.x + b.columns for b in made.blocks) <= east <= columns


def test_labels_say_the_layers() -> None:
    assert [label_of(b) for b in program("tiny", "toy4x4").blocks] == ["table", "0", "1"]
    assert [label_of(b) for b in program("smollm2-135m", "wse3", "shared").blocks] == ["table", "0-29"]


@pytest.mark.parametrize(
    ("segment", "inside"),
    [
        (((0, 0), (4, 4)), True),
        (((0, 0), (0.9, 0.9)), False),
        (((1.5, 0), (1.5, 4)), True),
        (((0, 3), (4, 3)), False),
        (((1.2, 1.2), (1.8, 1.8)), True),
        (((0, 1.5), (1.5, 3.2)), False),
    ],
)
def test_a_line_touches_a_box_or_not(segment: tuple[tuple[float, float], ...], inside: bool) -> None:
    assert _touches(np.array(segment), Bbox([(1, 1), (2, 2)])) is inside
