"""Software: forms as data, presets and files; what a step costs by hand; what --software changes."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wsesim
from tests.command_line import run
from wsesim.engine.expand.canvas import Canvas
from wsesim.engine.expand.forms import Place, draw_steps
from wsesim.engine.flow.simulate import simulate
from wsesim.execute.executor import Executor
from wsesim.machine import Rect, load_machine
from wsesim.program import verify_program
from wsesim.program.errors import ProgramRuleError
from wsesim.program.files import parse_program
from wsesim.software import Form, Software, SoftwareFileError, UnknownSoftwareError, load_software, software_names
from wsesim.software.form import KINDS, STEP_NAMES, parse_step, size_value
from wsesim.software.form import SIZES as SIZES_OF
from wsesim.software.load import parse_software
from wsesim.software.rules import check_software
from wsesim_models.config import CONFIGS
from wsesim_models.weights.arrays import ArrayWeights
from wsesim_models.weights.random import random_weights

Capsys = pytest.CaptureFixture[str]
PLAIN = "wsesim-plain"
TOY = load_machine("toy4x4")
COMMAND = ("--machine", "toy4x4", "--json")
SIZES = {"heads": 3, "features": 4, "positions": 5, "tokens": 1, "width": 6}


def cycles(step: str, software: Software | None = None) -> int:
    """Cycles of one step on one PE of toy4x4."""
    canvas = Canvas(Rect(0, 0, 1, 1), TOY, "fp16", software=software or load_software(PLAIN))
    place = Place("kernel", np.array([0]), lambda elements: None, "fp16")
    draw_steps(canvas, (step,), SIZES, place)
    graph = canvas.builder.build()
    if graph.task_count == 0:
        return 0
    nothing = np.empty(0, np.int64)
    return int(simulate(graph, TOY.fabric, nothing, nothing).task_end.max())


# By hand on toy4x4: an elementwise operation is launched in 1, the next one of a sequence in 1, an FMA in 2. An element
# takes a cycle, of an exponential 4. A turn of a loop costs 2.
BY_HAND = [
    ("elementwise(width)", 1 + 6),
    ("elementwise(width, times=2)", 1 + 6 + 1 + 6),
    ("elementwise(features, slots=heads)", 1 + 3 * 4 + 2 * 1 + 3 * 2),
    ("elementwise(features, times=2, loop=heads)", 1 + 6 * 4 + 5 * 1 + 3 * 2),
    ("elementwise(features, loop=tokens)", 1 + 4 + 2),
    ("elementwise(features, slots=tokens)", 1 + 4),
    ("exp(width)", 1 + 6 * 4),
    ("fma(features, times=positions)", 2 + 5 * 4 + 4 * 1),
    ("product(positions, times=features, slots=tokens)", 2 + 4 * 5 + 3 * 1),
    ("product(features, times=positions, slots=tokens)", 2 + 4 * 5 + 4 * 1),
    ("product(features, times=positions, slots=heads)", 2 + 4 * 5 * 3 + 14 * 1 + 3 * 2),
    ("product(features, times=positions, slots=heads, groups=1)", 2 + 3 * 4 * 5 + 19 * 1),
    ("fold(positions, slots=heads)", 1 + 3 * 5 + 4 * 1),
    ("fold(positions, slots=tokens)", 1 + 5),
    ("exp(width, vector=3)", 1 + 6 * 3 + 2 * 1),
    ("exp(width, vector=9)", 1 + 6 * 4),
    ("elementwise(width, times=2, slice=4)", 1 + 3 * 4 + 3 * 1 + 2 * 2),
    ("elementwise(width, times=2, slice=6)", 1 + 6 + 1 + 6),
    ("scalar(positions, cycles='7/2')", 18),
    ("scalar(positions, cycles='7/2', slots=heads)", 53 + 3 * 2),
    ("setup(3, slots=heads)", 0),
    ("elementwise(width*0)", 0),
]


@pytest.mark.parametrize(("step", "expected"), BY_HAND, ids=[step for step, _ in BY_HAND])
def test_a_step_costs_what_it_costs_by_hand(step: str, expected: int) -> None:
    assert cycles(step) == expected


def test_a_slot_costs_what_the_software_says() -> None:
    slow = dataclasses.replace(load_software(PLAIN), slot_cycles=10)
    assert cycles("elementwise(features, slots=heads)", slow) == 1 + 3 * 4 + 2 + 3 * (2 + 10)
    assert cycles("elementwise(features, slots=tokens)", slow) == 1 + 4 + 10
    assert cycles("elementwise(features, loop=heads)", slow) == 1 + 3 * 4 + 2 + 3 * 2, "a plain loop has no slots"
    assert cycles("setup(3, slots=heads)", slow) == 3 * 3 * 10


@pytest.mark.parametrize("name", software_names())
def test_every_preset_has_all_forms_and_its_sources(name: str) -> None:
    software = load_software(name)
    check_software(software)
    assert tuple(dict.fromkeys(form.kind for form in software.forms)) == KINDS
    assert software.assumptions
    assert software.fingerprint() != dataclasses.replace(software, slot_cycles=7).fingerprint()


def test_a_file_states_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('base = "wsesim"\nslot_cycles = 5\n[forms.Add]\nname = "twice"\nsteps = ["copy(width)"]\n')
    mine, base = load_software(str(path)), load_software("wsesim")
    assert (mine.name, mine.slot_cycles, mine.form("Add")) == ("mine", 5, Form("Add", "twice", ("copy(width)",)))
    assert [f for f in mine.forms if f not in base.forms] == [mine.form("Add")]


BROKEN = [
    ("slots = 3", "unknown field 'slots'"),
    ("slot_cycles = 1.5", "field 'slot_cycles' is 1.5, not of type int"),
    ("slot_cycles = -1", "slot_cycles is -1; it is from 0 to 10,000"),
    ("stage_cycles = 101", "stage_cycles is 101; it is from 0 to 100"),
    ('routes = "none"', "routes is 'none'; known: rewritten, switched, apart"),
    ("forms = 3", "field 'forms' is 3, not a table"),
    ('[forms.Norm]\nname = "a"\nsteps = []', "kernel 'Norm' has no form; those that have: RMSNorm, Linear"),
    ('[forms.Add]\nname = "a"\nsteps = "copy(width)"', "field 'steps' is 'copy(width)', not a list of texts"),
    ('[forms.Add]\nname = "a"\nsteps = ["copy width"]', "'copy width' is not a step"),
    ('[forms.Add]\nname = "a"\nsteps = ["divid(width)"]', "unknown step 'divid'; known: copy, fma"),
    ('[forms.Add]\nname = "a"\nsteps = ["copy(heads)"]', "unknown size 'heads'; known: tokens, width"),
    ('[forms.Add]\nname = "a"\nsteps = ["copy(width - 1)"]', "'width - 1' is no size"),
    ('[forms.Add]\nname = "a"\nsteps = ["copy(width, times=open(3))"]', "'open(3)' is no size"),
    ('[forms.Add]\nname = "a"\nsteps = ["copy(width, cycles=3)"]', "`cycles` goes with scalar"),
    ('[forms.Add]\nname = "a"\nsteps = ["scalar(width, cycles=\'x\')"]', "cycles is 'x', not a number"),
    ('[forms.Add]\nname = "a"\nsteps = ["copy(width, dtype=\'fp8\')"]', "dtype is 'fp8'; known: fp16, fp32, cache"),
    ('[forms.Add]\nname = "a"\nsteps = ["copy(output)"]', "unknown size 'output'"),
    ('[forms.Add]\nname = "a"\nsteps = []\neach_output = ["copy(width)"]', "only a Linear has outputs"),
    ('[forms.Add]\nname = "a"\nsteps = []\nat_root = ["copy(width)"]', "only a Sample has a root"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_a_broken_file_is_one_line(text: str, message: str) -> None:
    with pytest.raises(SoftwareFileError) as caught:
        parse_software(f'base = "wsesim"\n{text}\n', "mine", "mine.toml")
    assert message in str(caught.value) and str(caught.value).startswith("mine.toml: ")
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_without_a_base_states_every_form() -> None:
    with pytest.raises(SoftwareFileError, match="no form of RMSNorm; without `base` every kind of kernel has one"):
        parse_software("slot_cycles = 0\n", "mine", "mine.toml")
    with pytest.raises(SoftwareFileError, match="base is 'mine'; known: edinburgh"):
        parse_software('base = "mine"\n', "mine", "mine.toml")


def test_an_unknown_software_names_those_that_are() -> None:
    with pytest.raises(UnknownSoftwareError, match="unknown software 'waferlm'"):
        load_software("waferlm")


def test_a_size_is_computed() -> None:
    assert size_value("heads*(features + 1)//2", SIZES) == 3 * 5 // 2
    assert parse_step("scalar(width, cycles=12)").cycles == Fraction(12)


def test_a_program_states_its_software_and_parses_back() -> None:
    program = wsesim.compile("tiny", machine="toy4x4", max_context=64, software="edinburgh")
    again = parse_program(program.text())
    assert again == program and again.software == load_software("edinburgh")
    assert program.fingerprint() != wsesim.compile("tiny", machine="toy4x4", max_context=64).fingerprint()


@pytest.mark.parametrize("change", [("slot_cycles=0", "slot_cycles=-3"), ("'copy(tokens*output)'", "'open(1)'")])
def test_a_text_with_a_broken_software_is_refused(change: tuple[str, str]) -> None:
    slow = dataclasses.replace(load_software("wsesim"), name="mine", slot_cycles=1)
    text = wsesim.compile("tiny", machine="toy4x4", max_context=64, software=slow).text()
    broken = text.replace("slot_cycles=1", "slot_cycles=-3") if change[0] not in text else text.replace(*change, 1)
    with pytest.raises(ProgramRuleError, match="software mine: "):
        verify_program(parse_program(broken))


def test_other_software_takes_other_cycles(capsys: Capsys) -> None:
    ours = run(capsys, "simulate", "tiny", *COMMAND)
    theirs = run(capsys, "simulate", "tiny", *COMMAND, "--software", "waferllm")
    assert ours.status == theirs.status == 0
    (own, other) = (json.loads(outcome.out) for outcome in (ours, theirs))
    assert (own["software"], other["software"]) == ("wsesim", "waferllm")
    assert own["cycles"] != other["cycles"]
    unknown = run(capsys, "simulate", "tiny", *COMMAND, "--software", "waferlm")
    assert unknown.status == 2 and "unknown software 'waferlm'; known: waferllm, " in unknown.err


ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "software.md"


@pytest.mark.parametrize("name", software_names())
def test_the_page_states_every_preset_and_its_forms(name: str) -> None:
    page, software = PAGE.read_text(encoding="utf-8"), load_software(name)
    section = page.partition(f"\n### {name}: ")[2].partition("\n### ")[0]
    base = load_software("edinburgh" if name == "edinburgh-9b" else PLAIN)
    for form in software.forms:
        if name == PLAIN or form not in base.forms:
            assert f"| {form.kind} | {form.name} | " in section
            assert all(f"`{step}`" in section for step in (*form.each_output, *form.steps, *form.at_root))
    for constant in ("slot_cycles", "stage_cycles"):
        if number := getattr(software, constant):
            assert f"| `{constant}` | {number} | " in section


def test_the_page_states_every_size_and_step() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for names in SIZES_OF.values() for name in names)
    assert all(f"{name}(" in page or f"`{name}`" in page for name in STEP_NAMES)


def test_routes_that_stay_need_queues_and_colours_of_their_own() -> None:
    """Two sets of five, five for segments, two of the embedding, and those of transfers: a wse3 has eight queues."""
    with pytest.raises(ProgramRuleError, match=r"input queues suffice: .* needs \d+, 8 there"):
        wsesim.compile("tiny", machine="wse3", max_context=64, software="waferllm")
    program = wsesim.compile("tiny", machine="wse2", max_context=64, software="waferllm")
    block = program.blocks[1].name
    own = [set(use.colours) for use in program.colours if use.block == block]
    assert len(own) == 3 and len(set().union(*own)) == 15
    shared = tuple(dataclasses.replace(use, colours=program.colours[0].colours) for use in program.colours)
    with pytest.raises(ProgramRuleError, match="kinds of collectives that stay have colours of their own"):
        verify_program(dataclasses.replace(program, colours=shared))


def logits(software: str, machine: str, **options: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Logits of three tokens of tiny, tile by tile."""
    program = wsesim.compile("tiny", machine=machine, max_context=64, software=software, **options)
    executor = Executor(program, ArrayWeights(random_weights(CONFIGS["tiny"], seed=11)))
    sequence = executor.new_sequence()
    return np.stack([executor.step(sequence, [token]) for token in (3, 14, 15)])


@pytest.mark.parametrize("machine", ["toy4x4", "wse3"])
@pytest.mark.parametrize(
    "form", ["attn_norm=folded,qkv=one_product", "ffn_norm=folded,gate_up=one_product", "swiglu=vector_exp", None]
)
def test_logits_of_every_form_are_those_of_none(machine: str, form: str | None) -> None:
    """Folded norms scale after the product: other roundings in fp32, no other numbers."""
    plain, other = logits(PLAIN, machine), logits("wsesim", machine, form=form)
    assert np.abs(plain - other).max() <= 2e-6 * np.abs(plain).max()


def test_the_compiler_takes_the_form_with_the_fewest_cycles() -> None:
    """Each choice is no slower than any other of its kernel, with everything else the same."""
    chosen = wsesim.compile("smollm2-135m", max_context=512)
    forms = {kernel.role: kernel.form for kernel in chosen.kernels}
    best = wsesim.simulate(chosen, context=300).cycles
    assert forms["swiglu"] == "vector_exp" and forms["attn_norm"] == "folded"
    for form in ("swiglu=scalar_exp", "attn_norm=two_pass,qkv=by_output", "rope=by_head"):
        other = wsesim.compile("smollm2-135m", max_context=512, form=form)
        assert wsesim.simulate(other, context=300).cycles >= best
    plain = wsesim.compile("smollm2-135m", max_context=512, software=PLAIN)
    assert best < 0.8 * wsesim.simulate(plain, context=300).cycles


def test_a_form_is_pinned_by_role_or_by_name(capsys: Capsys) -> None:
    program = wsesim.compile(
        "tiny", machine="toy4x4", max_context=64, form="swiglu=vector_exp,layer1.swiglu=scalar_exp"
    )
    assert [k.form for k in program.kernels if k.role == "swiglu"] == ["vector_exp", "scalar_exp"]
    tiny = ("compile", "tiny", "--machine", "toy4x4", "--form")
    for form, message in (
        ("swiglu", "--form has 'swiglu'; write KERNEL=FORM"),
        ("swiglu=fast", "unknown form of SwiGLU 'fast'; known: scalar_exp, vector_exp, sliced_exp"),
        ("swigl=vector_exp", "unknown kernel with a form 'swigl'; known: swiglu"),
    ):
        outcome = run(capsys, *tiny, form)
        assert outcome.status == 2 and message in outcome.err, outcome.err


def test_a_folded_norm_needs_a_product_that_takes_its_sum(tmp_path: Path, capsys: Capsys) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('base = "wsesim"\n[forms.Linear]\nname = "bare"\nsteps = ["all_reduce(tokens*outputs)"]\n')
    tiny = ("compile", "tiny", "--machine", "toy4x4", "--software", str(path))
    assert run(capsys, *tiny).status == 0
    outcome = run(capsys, *tiny, "--form", "attn_norm=folded")
    assert outcome.status == 2
    assert "layer0.attn_norm as folded needs a layer0.qkv that takes its sum" in outcome.err


def test_a_placement_file_pins_forms(tmp_path: Path, capsys: Capsys) -> None:
    """What `--print choose` prints reads back; a pin of a phase holds in that phase alone."""
    tiny = ("compile", "tiny", "--machine", "toy4x4", "--max-context", "64")
    printed = run(capsys, *tiny, "--print", "choose").out
    assert '\n"layer0.swiglu" = "' in printed.partition("\n[forms]\n")[2] and "\nprefill_chunk = " in printed
    path = tmp_path / "mine.toml"
    path.write_text(
        printed.partition("[forms]")[0] + '[forms]\nswiglu = { decode = "vector_exp", prefill = "sliced_exp" }\n'
    )
    made = wsesim.compile("tiny", machine="toy4x4", max_context=64, placement=str(path))
    assert {(k.form, k.prefill_form) for k in made.kernels if k.role == "swiglu"} == {("vector_exp", "sliced_exp")}
    for option, value in (("--prefill-chunk", "3"), ("--softmax", "two_pass")):
        outcome = run(capsys, *tiny, "--placement", str(path), option, value)
        assert outcome.status == 2 and f"{option} and --placement exclude each other" in outcome.err, outcome.err


def test_the_chunk_is_the_one_with_the_shortest_prompt() -> None:
    """No other chunk that fits is faster by more than what the price leaves out."""
    made = wsesim.compile("smollm2-135m", max_context=512)
    cycles = {}
    for chunk in (1, made.prefill_chunk, 8):
        other = wsesim.compile("smollm2-135m", max_context=512, prefill_chunk=chunk)
        cycles[chunk] = wsesim.simulate(other, phase="prefill", tokens=128).cycles
    assert cycles[made.prefill_chunk] <= 1.05 * min(cycles.values())


def test_the_table_of_forms_is_of_the_held_cycles() -> None:
    """docs/forms.md with all forms on: the cycles of tests/regression.json. `make refresh` does not write the page."""
    held = json.loads((ROOT / "tests" / "regression.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "forms.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith("| all on |"))
    pipelined, hybrid, *_ = (int(cell.replace(",", "")) for cell in row.split("|")[2:-1])
    assert pipelined == held["llama3.1-8b wse3 pipelined decode 512"]
    assert hybrid == held["llama3.1-8b wse3 hybrid/4 decode 512"]
