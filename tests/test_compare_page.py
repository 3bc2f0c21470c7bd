"""The page of a comparison in a real browser: its tables are those of the JSON, and its wafers follow each other."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

import wsesim
from tests.chromium import DESKTOP, PHONE, Page, opened
from tests.command_line import TOY, run
from tests.programs import UNTIED, program
from tests.test_report_page import EVIL, assert_quiet
from wsesim.engine.observe.traffic import pieces_of, wafer_busy_cycles
from wsesim.engine.steps.timing import Timing
from wsesim.errors import InvalidInputError
from wsesim.machine import load_machine
from wsesim.report.compare.comparison import Comparison, compare_runs
from wsesim.report.compare.pairs import TABLES, Side
from wsesim.report.compare.saved import run_of
from wsesim.report.kinds import KINDS
from wsesim.report.page.comparing import comparison_contents
from wsesim.report.report import report
from wsesim.toolchain import comparing, simulating

Capsys = pytest.CaptureFixture[str]
CONTEXT = 100
COMMAND = f"wsesim compare {EVIL} -o compare.html"
BOTH = "const [a, b] = wsesimReport.wafers.explorers;"


def side(letter: str, label: str, strategy: str, *, saved: bool = False, on: str = "wse3", **changes: Any) -> Side:
    """A run of a tiny model on a wafer with its fields changed; a saved one has lost its Program."""
    machine = load_machine(on).with_(changes, name=on)
    placed = program(UNTIED, machine, strategy)
    made = report(placed, Timing(placed).decode(CONTEXT))
    return Side(letter, label, run_of(json.loads(json.dumps(made.to_json())), label), None if saved else placed)


@dataclasses.dataclass(frozen=True)
class Made:
    compared: Comparison
    path: Path

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(json.dumps(self.compared.to_json()))
        return value


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    hops: dict[str, Any] = {"fabric.hop_cycles": 3, "dead": [[750, 900]]}
    saved = side("C", "saved.json", "pipelined", saved=True, **hops)
    compared = compare_runs([side("A", "pipelined", "pipelined"), side("B", EVIL, "shared"), saved])
    path = tmp_path_factory.mktemp("page") / "compare.html"
    compared.write_html(path, command=COMMAND)
    return Made(compared, path)


@pytest.fixture(scope="module")
def page(made: Made) -> Iterator[Page]:
    with opened(made.path) as page:
        yield page


@pytest.fixture(autouse=True)
def quiet(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test that uses the page, its console is empty and it has asked for nothing but its file."""
    yield
    if "page" in request.fixturenames:
        page = request.getfixturevalue("page")
        assert_quiet(page, request.getfixturevalue("made").path)
        page.run("wsesimReport.show(wsesimReport.contents.comparison.comparisons[0])")


def shown(text: str) -> int:
    return int(text.replace(",", "").replace("+", ""))


def press(page: Page, selector: str) -> None:
    """Clicks a button, wherever the page is scrolled to."""
    page.run("document.querySelector(arguments[0]).click()", selector)


def views(page: Page) -> tuple[list[float], list[float]]:
    script = BOTH + "return [a, b].map(({view}) => [view.x, view.y, view.scale])"
    first, second = page.run(script)
    return first, second


@pytest.mark.parametrize("other", ["B", "C"])
@pytest.mark.parametrize("by", TABLES)
def test_the_tables_are_those_of_the_json(made: Made, page: Page, other: str, by: str) -> None:
    """Each row, and the sums: those of the page are of the rows that it shows, and equal the totals of the JSON."""
    press(page, f'[data-pair="{other}"]')
    press(page, f'[data-by="{by}"]')
    pair = next(pair for pair in made.json["comparisons"] if pair["b"] == other)
    kinds = [] if by == "kind" else list(KINDS)
    keys = ["label", "a", "b", "difference", *kinds]
    script = """return [...document.querySelectorAll(`#cycles ${arguments[0]} tr`)].map(
        (row) => arguments[1].map((key) => row.querySelector(`[data-key="${key}"]`).textContent))"""
    rows = {name: list(map(shown, values)) for name, *values in page.run(script, "tbody", keys)}
    assert rows == {
        row[by]: [row["a_cycles"], row["b_cycles"], row["difference_cycles"], *(row["difference"][k] for k in kinds)]
        for row in pair[f"by_{by}"]
        if row["a_cycles"] or row["b_cycles"]
    }
    ((_, *sums),) = page.run(script, "tfoot", keys)
    by_kind = {row["kind"]: row["difference_cycles"] for row in pair["by_kind"]}
    totals = [pair["a_cycles"], pair["b_cycles"], pair["difference_cycles"], *(by_kind[kind] for kind in kinds)]
    assert list(map(shown, sums)) == totals


def test_the_page_holds_the_json_and_the_words_of_the_tables(made: Made, page: Page) -> None:
    assert page.run("return wsesimReport.contents.comparison") == made.json
    text = made.compared.text()
    press(page, '[data-pair="C"]')
    assert page.find(".verdict").text.replace("\u00a0", " ") in text
    inputs = page.find("#inputs").text
    assert "fabric.hop_cycles" in inputs and all(d["what"] in inputs for d in made.json["comparisons"][1]["inputs"])
    for line in page.find(".reasons").text.splitlines():
        assert line in text
    assert page.all(".signed.fewer, .diverging .fewer") or page.all(".signed.more, .diverging .more")


def test_rows_sort_and_filter(page: Page) -> None:
    press(page, '[data-by="operator"]')
    column = "return [...document.querySelectorAll('#cycles tbody [data-key=\"b\"]')].map((cell) => cell.textContent)"
    page.run("document.querySelectorAll('#cycles thead button')[2].click()")
    values = list(map(shown, page.run(column)))
    assert values == sorted(values, reverse=True) and len(values) > 5
    field = page.find('#cycles input[type="search"]')
    field.send_keys("qkv")
    assert len(page.run(column)) == 1
    field.send_keys(Keys.BACKSPACE * 3)
    assert len(page.run(column)) == len(values)


def test_one_wafer_follows_the_other(page: Page) -> None:
    page.scroll_to("#wafers")
    page.keys("0")
    whole = views(page)
    for _ in range(5):
        page.wheel(*page.point(300, 300), -240)
    near = views(page)
    assert near[0] == near[1] != whole[0]
    page.drag(40, -30)
    dragged = views(page)
    assert dragged[0] == dragged[1] != near[0]
    second = page.all(".stage canvas")[1]
    ActionChains(page.driver).move_to_element(second).click_and_hold().move_by_offset(-50, 20).release().perform()
    second.send_keys("+")
    back = views(page)
    assert back[0] == back[1] != dragged[0]
    page.keys("0")
    assert views(page) == whole


def test_a_click_selects_the_pe_in_both(made: Made, page: Page) -> None:
    """Each inspector says what the engine counted for its own Program, whichever wafer was clicked."""
    page.scroll_to("#wafers")
    busy = []
    for each in made.compared.sides[:2]:
        assert each.program is not None
        ran = Timing(each.program).decode(CONTEXT)
        machine = each.program.machine
        busy.append(wafer_busy_cycles(pieces_of(ran.runs), machine.columns, machine.rows))
    first = made.compared.sides[0].program
    assert first is not None
    block = first.blocks[1]
    for number, canvas in enumerate(page.all(".stage canvas")):
        page.keys("0")
        x, y = block.x + block.columns // 2 + number, block.y + block.rows // 2
        page.run(
            "wsesimReport.explorer.view.scale = 60; wsesimReport.explorer.centre(arguments[0], arguments[1])", x, y
        )
        left, top = map(round, page.point(x, y))
        ActionChains(page.driver).move_to_element_with_offset(canvas, left, top).click().perform()
        shown = """const pes = [...document.querySelectorAll(".inspector")].map((each) => each.dataset.pe);
                   return pes.join(" ") === arguments[0];"""
        page.until(partial(page.run, shown, f"{x},{y} {x},{y}"), "no PE was shown")
        found = [int(e.get_attribute("data-value")) for e in page.all('[data-field="busy_cycles"]')]
        assert found == [int(plane[y, x]) for plane in busy]
    page.keys(Keys.ESCAPE)
    assert page.run(BOTH + "return [a.selected, b.selected]") == [None, None]


def test_a_layer_is_chosen_for_both_and_has_one_scale(page: Page) -> None:
    for layer in ("busy", "links", "path", "sram"):
        press(page, f'[data-layer="{layer}"]')
        script = BOTH + f"return a.layer.id === '{layer}' && b.layer.id === '{layer}'"
        page.until(partial(page.run, script), "the layer is not shown")
        last = page.run(BOTH + "return [a, b].map((each) => each.scale.ticks.at(-1))")
        most = page.run(BOTH + "return [a, b].map((each) => each.layer.most?.() ?? largest(each.values))")
        assert last == [max(most)] * 2
    only = "const sides = wsesimReport.wafers.sides.map(({contents}) => contents);"
    operators = page.run(only + "return sides.filter(Boolean).map((c) => Object.keys(c.wafer.operator_cycles))")
    press(page, '[data-layer="busy"]')
    page.until(lambda: page.run(BOTH + "return b.layer.id === 'busy'"), "the layer is not shown")
    assert page.run(BOTH + "return b.layer.options.map(([name]) => name).filter(Boolean)") == list(
        dict.fromkeys([*operators[0], *operators[1]])
    )
    press(page, '[data-layer="block"]')
    page.until(lambda: page.run(BOTH + "return b.layer.id === 'block'"), "the layer is not shown")


def test_the_layer_that_was_asked_for_last_is_shown(page: Page) -> None:
    script = "const done = arguments[0]; const {explorer} = wsesimReport;"
    script += "Promise.all([explorer.show('colours'), explorer.show('block')]).then(() => done(explorer.layer.id));"
    assert page.driver.execute_async_script(script) == "block"
    assert page.run(BOTH + "return b.layer.id") == "block"


@pytest.mark.parametrize("by", ["block", "stage"])
def test_a_row_shows_its_blocks_in_both(made: Made, page: Page, by: str) -> None:
    press(page, f'[data-by="{by}"]')
    rows = made.json["comparisons"][0][f"by_{by}"]
    row = next(row for row in rows if row["a_blocks"] and row["b_blocks"])
    names = "return [...document.querySelectorAll('#cycles tbody .name')]"
    page.run(f"{names}.find((each) => each.textContent === arguments[0]).click()", row[by])
    assert page.run(BOTH + "return [a, b].map((each) => [...each.marked].sort())") == [
        sorted(row["a_blocks"]),
        sorted(row["b_blocks"]),
    ]
    inside = (
        BOTH
        + """return [a, b].every((each) => each.wafer.blocks.filter((block) => each.marked.has(block.name)).every(
        (block) => { const [left, top] = each.view.toScreen(block.x, block.y);
          const [right, bottom] = each.view.toScreen(block.x + block.columns, block.y + block.rows);
          return left >= 0 && top >= 0 && right <= each.view.width && bottom <= each.view.height; }))"""
    )
    assert page.run(inside)
    assert page.find(".marked").text.startswith(row[by])
    assert len(page.all("#cycles tr.picked")) == 1
    page.run("document.querySelector('.marked button').click()")
    assert page.run(BOTH + "return [a.marked, b.marked]") == [None, None]
    assert not page.find(".marked").is_displayed()


def test_a_saved_report_has_no_explorer_and_says_so(page: Page) -> None:
    press(page, '[data-pair="C"]')
    sides = [each for each in page.all(".side") if each.is_displayed()]
    assert len(sides) == 2 and "A saved report holds no Program" in sides[1].text
    assert len(page.all(".stage")) == 2  # those of A and B; that of B is hidden
    press(page, '[data-by="block"]')
    page.run("document.querySelector('#cycles tbody tr').click()")
    assert page.find(".marked").is_displayed()


def test_no_label_is_markup(page: Page) -> None:
    assert EVIL in page.driver.title
    assert [each.text for each in page.all(".run-name")][1].endswith(EVIL)
    assert COMMAND in page.find("#footer").text


def test_a_phone_stacks_the_wafers(made: Made) -> None:
    with opened(made.path, PHONE, dark=True) as page:
        assert page.run("return document.documentElement.scrollWidth") == PHONE[0]
        first, second = (each.rect for each in page.all(".stage"))
        assert first["x"] == second["x"]
        headings = [each.rect["y"] for each in page.all(".side > h3") if each.text]
        assert headings[0] < first["y"] and first["y"] + first["height"] < headings[1] < second["y"]
        assert page.all(".inputs tbody tr")[0].is_displayed()
        page.run("document.querySelector('.stage').scrollIntoView({block: 'center'})")
        before = views(page)
        page.pinch(60, 240)
        after = views(page)
        assert after[0] == after[1] and after[0][2] == pytest.approx(4 * before[0][2], rel=0.05)
        assert_quiet(page, made.path)


def test_wafers_of_two_sizes_follow_as_far_as_they_go(tmp_path: Path) -> None:
    path = tmp_path / "sizes.html"
    compare_runs([side("A", "large", "pipelined"), side("B", "small", "pipelined", on="wse2")]).write_html(path)
    with opened(path) as page:
        sizes = page.run(BOTH + "return [a, b].map(({wafer}) => [wafer.columns, wafer.rows])")
        assert sizes[0] != sizes[1]
        x, y = (min(both) - 1 for both in zip(*sizes, strict=True))
        for place, found in (((x, y), {"x": x, "y": y}), ((x, sizes[0][1] - 1), None)):
            page.run("wsesimReport.explorer.goTo(arguments[0], arguments[1])", *place)
            assert page.run(BOTH + "return [a.selected, b.selected]") == [dict(zip("xy", place, strict=True)), found]
        assert page.run(BOTH + "return b.view.y <= b.wafer.rows && a.view.scale === b.view.scale")
        assert_quiet(page, path)


def test_sides_without_any_program_have_no_explorer(made: Made, tmp_path: Path) -> None:
    bare = [dataclasses.replace(each, program=None) for each in made.compared.sides]
    path = tmp_path / "reports.html"
    compare_runs(bare).write_html(path)
    with opened(path) as page:
        assert page.all(".stage") == [] and len(page.all("#cycles tbody tr")) == len(KINDS)
        assert_quiet(page, path)


@pytest.mark.parametrize("options", [{"phase": "prefill", "tokens": 5}, {"context": 9, "batch": 2, "sequences": 2}])
def test_prompts_and_batches_have_their_explorers(options: dict[str, Any]) -> None:
    """The steps of the explorers are those of the comparison: every kind of step takes as many cycles as before."""
    found = wsesim.compare("tiny", {"strategy": "shared"}, machine="toy4x4", strategy="pipelined", **options)
    contents = comparison_contents(found.sides, found.pairs, found.to_json(), "")
    assert [contents["explorers"][each.letter]["cycles"] for each in found.sides] == [s.run.cycles for s in found.sides]


UNWRITABLE = [
    ("no/where.html", "no/where.html: the comparison is a file in a folder that exists"),
    ("folder", "folder: the comparison is a file in a folder that exists"),
    ("", "-o is empty; give a path"),
]
HERE = ("compare", "tiny", *TOY, "--strategy", "pipelined", "--context", "9", "--with", "strategy=shared")


@pytest.mark.parametrize(("path", "said"), UNWRITABLE, ids=[path for path, _ in UNWRITABLE])
def test_an_unwritable_path_is_found_before_anything_is_simulated(
    path: str, said: str, capsys: Capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("simulated")

    monkeypatch.setattr(simulating, "simulate_program", refuse)
    monkeypatch.setattr(comparing, "compiled", refuse)
    done = run(capsys, *HERE, "-o", path)
    assert (done.status, done.out, done.err) == (2, "", f"error: {said}\n")
    assert sorted(p.name for p in Path().rglob("*")) == ["folder"]


def test_write_html_checks_its_path_first(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Timing, "decode", None)
    with pytest.raises(InvalidInputError, match=r"the comparison is a file in a folder that exists$"):
        made.compared.write_html(tmp_path / "no" / "where.html")


@pytest.mark.parametrize("words", [(), ("--json",)], ids=["text", "json"])
def test_the_command_prints_and_writes(
    words: tuple[str, ...], capsys: Capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = run(capsys, *HERE, *words).out
    done = run(capsys, *HERE, *words, "-o", "compare.html")
    assert done.status == 0 and done.out.startswith(plain)
    assert ("compare.html: " in done.out) == (not words)
    text = Path("compare.html").read_text()
    contents = json.loads(text.split('id="contents">')[1].split("</script>")[0])
    assert contents["command"] == " ".join(["wsesim", *HERE, *words, "-o", "compare.html"])
    assert contents["comparison"] == json.loads(run(capsys, *HERE, "--json").out)
    assert list(tmp_path.iterdir()) == [tmp_path / "compare.html"]


@pytest.mark.slow
def test_two_sides_of_llama_are_small_and_soon_there(tmp_path: Path) -> None:
    path = tmp_path / "compare.html"
    hybrid = {"strategy": "hybrid", "layers_per_block": 4}
    wsesim.compare("llama3.1-8b", hybrid, strategy="pipelined").write_html(path)
    assert path.stat().st_size < 5_000_000
    with opened(path, DESKTOP) as page:
        assert page.run("return wsesimReport.drawnAfterMs") < 2000
        assert_quiet(page, path)
