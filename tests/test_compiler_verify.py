"""Every rule of a Graph refuses a graph that breaks it, by the node's name and source."""

from __future__ import annotations

import pytest

from wsesim_compiler.errors import GraphVerificationError
from wsesim_compiler.text import parse_graph
from wsesim_compiler.verify import RULES, verify

RECOGNIZED = """\
graph tiny
input %tokens : [T] i64
parameter @table : [16, 4] f32
parameter @scale : [4] f32
parameter @gate : [4, 4] f32
constant %inv_freq : [2] f32 = (1.0, 0.1)
%x : [T, 4] f32 = embedding(%tokens, @table)  // model.embed
%n : [T, 4] f32 = rmsnorm(%x, @scale) {eps=1e-05}  // model.norm
%g : [T, 4] f32 = linear(%n, @gate)  // model.gate
%r : [T, 4] f32 = rope(%g, %inv_freq) {head_dim=4, heads=1, pairing="half"}  // model.attn
%a : [T, 4] f32 = attention(%r, %r, %g) {head_dim=4, heads=1, kv_heads=1, scale=0.5}  // model.attn
%s : [T, 4] f32 = add(%x, %a)  // model.layer
%h : [T, 16] f32 = head(%s, @table)  // model.head
output %h
"""
CANONICAL = """\
graph tiny
input %x : [1, T, 4] f32
parameter @w : [6, 4] f32
%y : [1, T, 6] f32 = linear(%x, @w)  // model.y
%z : [T, 6] f32 = reshape(%y) {shape=("T", 6)}  // model.z
output %z
"""
RAW = """\
graph tiny
input %x : [1, T, 4] f32
%p : ([1, T, 2] f32, [1, T, 2] f32) = chunk(%x) {chunks=2, dim=-1}  // model.p
%y : [1, T, 2] f32 = getitem(%p) {index=1}  // model.p
output %y
"""
VALID = {"recognized": RECOGNIZED, "canonical": CANONICAL, "raw": RAW}

BREACHES: list[tuple[str, str, str, str, str]] = [
    ("recognized", "%n : [T, 4]", "%x : [T, 4]", "names are unique", "x"),
    ("recognized", "parameter @gate", "parameter @scale", "names are unique", "scale"),
    ("recognized", "add(%x, %a)", "add(%x, %later)", "values are defined before use", "s"),
    ("recognized", "linear(%n,", "linear(%s,", "values are defined before use", "g"),
    ("recognized", "output %h", "output %q", "outputs are defined", "q"),
    ("recognized", "output %h", "output", "outputs are defined", "tiny"),
    ("recognized", "(1.0, 0.1)", "(1.0)", "constants hold as many values as their shape", "inv_freq"),
    ("recognized", "%inv_freq : [2]", "%inv_freq : [two]", "constants hold as many values as their shape", "inv_freq"),
    ("recognized", "rmsnorm(", "layernorm(", "operators belong to the stage", "n"),
    ("recognized", "add(%x, %a)", "sub(%x, %a)", "operators belong to the stage", "s"),
    ("canonical", "reshape(", "view(", "operators belong to the stage", "z"),
    ("recognized", "rmsnorm(%x, @scale)", "rmsnorm(%x)", "operand counts fit", "n"),
    ("recognized", "{eps=1e-05}", "{epsilon=1e-05}", "attributes are known", "n"),
    ("recognized", "{head_dim=4, heads=1, pair", "{heads=1, head_dim=4, pair", "attributes are known", "r"),
    ("recognized", "{eps=1e-05}", '{eps="a b"}', "attributes have their types", "n"),
    ("recognized", "scale=0.5", "scale=true", "attributes have their types", "a"),
    ("recognized", "heads=1, pairing", "heads=1.0, pairing", "attributes have their types", "r"),
    ("recognized", "{eps=1e-05}", "", "types agree with the shape rules", "n"),
    ("recognized", "heads=1, pairing", "heads=2, pairing", "types agree with the shape rules", "r"),
    ("recognized", '"half"', '"thirds"', "types agree with the shape rules", "r"),
    ("recognized", "%h : [T, 16]", "%h : [T, 15]", "types agree with the shape rules", "h"),
    ("canonical", '("T", 6)', '("T", 5)', "types agree with the shape rules", "z"),
    ("raw", "[1, T, 2] f32, [1, T, 2] f32", "[1, T, 4] f32", "types agree with the shape rules", "p"),
    ("recognized", "head(%s, @table)", "head(%s, @scale)", "types agree", "h"),
    ("canonical", "@w : [6, 4] f32", "@w : [6, 4] f32\nparameter @u : [1] f32", "parameters and", "u"),
    (
        "canonical",
        "output",
        "%dead : [1, T, 4] f32 = neg(%x)  // model.dead\noutput",
        "every node is used",
        "dead",
    ),
    ("recognized", "%tokens : [T]", "%tokens : [1, T]", "types agree with the shape rules", "x"),
    ("recognized", "rmsnorm(%x, @scale)", "rmsnorm(%x, %f)", "weights are parameters", "n"),
    ("recognized", "rope(%g, %inv_freq)", "rope(%g, @inv)", "weights are parameters", "r"),
    ("recognized", "add(%x, %a)", "add(%a) {other=1.0}", "add takes two values", "s"),
    ("recognized", "output %h", "output %s", "every node is used", "h"),
    ("recognized", "head(%s", "linear(%s", "the output is the head", "tiny"),
]


@pytest.mark.parametrize("stage", VALID)
def test_valid_graphs_pass(stage: str) -> None:
    verify(parse_graph(VALID[stage]), stage)


@pytest.mark.parametrize(("stage", "before", "after", "rule", "node"), BREACHES)
def test_a_broken_rule_is_named(stage: str, before: str, after: str, rule: str, node: str) -> None:
    text = VALID[stage]
    assert before in text
    text = text.replace(before, after)
    if "%f" in after:
        text = text.replace("constant", "constant %f : [4] f32 = (1.0, 1.0, 1.0, 1.0)\nconstant").replace(
            "parameter @scale : [4] f32\n", ""
        )
    if "@inv" in after:
        text = text.replace("constant %inv_freq : [2] f32 = (1.0, 0.1)", "parameter @inv : [2] f32")
    graph = parse_graph(text)
    with pytest.raises(GraphVerificationError) as caught:
        verify(graph, stage)
    assert caught.value.rule.startswith(rule)
    assert caught.value.node == node
    source = next((n.source for n in reversed(graph.nodes) if n.name == node), "")
    assert caught.value.source == source
    assert source in str(caught.value)


def test_batched_rows_are_refused_after_recognition() -> None:
    batched = RECOGNIZED.replace("[T, ", "[1, T, ").replace("%tokens : [T]", "%tokens : [1, T]")
    with pytest.raises(GraphVerificationError, match=r"the tokens are \[1, 'T'\], not \[T\]") as caught:
        verify(parse_graph(batched), "recognized")
    assert caught.value.rule == "values are rows of features"


def test_every_rule_has_a_breach() -> None:
    covered = {rule for _, _, _, rule, _ in BREACHES} | {"values are rows of features"}
    assert [rule.name for rule in RULES if not any(rule.name.startswith(c) for c in covered)] == []
