"""docs/stages.md shows what the passes print: its excerpts are lines of the golden texts, in their order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wsesim.toolchain.options import STAGES

PAGE = (Path(__file__).parents[1] / "docs" / "stages.md").read_text(encoding="utf-8")
EXCERPTS = dict(re.findall(r"^## (\w+)\n.*?^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))


def test_every_stage_is_shown_in_order() -> None:
    assert tuple(EXCERPTS) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_an_excerpt_is_of_the_golden_text(stage: str) -> None:
    golden = (Path(__file__).parent / "golden" / "tiny" / f"{stage}.txt").read_text(encoding="utf-8").splitlines()
    shown = EXCERPTS[stage].splitlines()
    assert len(shown) >= 2
    rest = iter(golden)
    follows = True  # the next line stands right behind the one before
    for line in shown:
        if line == "...":
            follows = False
            continue
        found = next(rest, None) if follows else next((own for own in rest if own == line), None)
        assert found == line, f"{line!r} is not there in {stage}.txt, or not at this place"
        follows = True
