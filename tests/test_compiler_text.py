"""The text of a Graph parses back to the same Graph, and says where it does not parse."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsesim_compiler.errors import GraphSyntaxError
from wsesim_compiler.ir import Constant, Graph, Node, Parameter, TensorType, Value, attributes
from wsesim_compiler.text import parse_graph

TEXT = """\
graph tiny
input %tokens : [T] i64
parameter @model.embed.weight : [16, 4] f32
constant %inv_freq : [2] f32 = (1.0, 0.1)
%embedding_0 : [T, 4] f32 = embedding(%tokens, @model.embed.weight)  // model.embed
%rope_0 : [T, 4] f32 = rope(%embedding_0, %inv_freq) {head_dim=4, heads=1, pairing="half"}  // model.layers.0
%head_0 : [T, 16] f32 = head(%rope_0, @model.embed.weight)
output %head_0
"""


def tiny() -> Graph:
    rows, table = TensorType(("T", 4), "f32"), TensorType((16, 4), "f32")
    rope = attributes(heads=1, head_dim=4, pairing="half")
    return Graph(
        "tiny",
        (Value("tokens", TensorType(("T",), "i64")),),
        (Parameter("model.embed.weight", table),),
        (Constant("inv_freq", TensorType((2,), "f32"), (1.0, 0.1)),),
        (
            Node("embedding_0", "embedding", ("tokens", "model.embed.weight"), (), rows, "model.embed"),
            Node("rope_0", "rope", ("embedding_0", "inv_freq"), rope, rows, "model.layers.0"),
            Node("head_0", "head", ("rope_0", "model.embed.weight"), (), TensorType(("T", 16), "f32")),
        ),
        ("head_0",),
    )


def test_text_is_this() -> None:
    assert str(tiny()) == TEXT
    assert parse_graph(TEXT) == tiny()


def test_short_form_has_no_sources() -> None:
    short = tiny().text(provenance=False)
    assert "//" not in short
    assert {node.source for node in parse_graph(short).nodes} == {""}


names = st.text(max_size=6) | st.from_regex(r"\A[a-z_.0-9/:+-]{1,8}\Z")
dims = st.integers(-1, 1 << 40) | st.sampled_from(["T", "1", "inf", "T+1"]) | names
tensor_types = st.builds(TensorType, st.lists(dims, max_size=3).map(tuple), names)
numbers = st.integers() | st.floats(allow_nan=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | names,
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=5,
)
nodes = st.builds(
    Node,
    names,
    names,
    st.lists(names, max_size=3).map(tuple),
    st.lists(st.tuples(names, values), max_size=3).map(tuple),
    tensor_types | st.lists(tensor_types, max_size=2).map(tuple),
    names,
)


def many(elements: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(elements, max_size=3).map(tuple)


graphs = st.builds(
    Graph,
    names,
    many(st.builds(Value, names, tensor_types)),
    many(st.builds(Parameter, names, tensor_types)),
    many(st.builds(Constant, names, tensor_types, many(numbers | st.booleans()))),
    many(nodes),
    many(names),
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(graphs)
def test_any_graph_parses_back(graph: Graph) -> None:
    text = str(graph)
    assert parse_graph(text) == graph
    assert str(parse_graph(text)) == text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%a : [T] f32 = neg(%b", "expected ')'"),
        ("%a [T] f32 = neg(%b)", "expected ':'"),
        ("%a : [T] f32 = neg(%b) {dim=x}", "expected a value, found 'x'"),
        ("%a : [T] f32 = neg(%b) and more", "unexpected 'and'"),
        ("%a : [T] f32 = neg(%b) ;", "cannot read ';'"),
        ("let %a", "found 'let'"),
        ("input tokens : [T] f32", "expected %NAME or @NAME, found 'tokens'"),
        ("input %x : ([T] f32)", "only a node has several results"),
        ("constant %c : [1] f32 = 1.0", "values in parentheses"),
        ("constant %c : [1] f32 = (x)", "expected a value"),
        ("%a : [1e999] f32 = neg(%b)", "a dimension is a whole number below 2^62 or a name, not '1e999'"),
        ("%a : [inf] f32 = neg(%b)", "a dimension is a whole number below 2^62 or a name, not 'inf'"),
        (f"%a : [{'9' * 5000}] f32 = neg(%b)", "has more than 300 digits"),
        (f"%a : [T] f32 = neg(%b) {{dim={'9' * 5000}}}", "has more than 300 digits"),
        ("%a : [9223372036854775808] f32 = neg(%b)", "a dimension is a whole number below 2^62"),
        (f"%a : [T] f32 = neg(%b) {{dim={'(' * 5000}}}", "nested too deeply"),
        (f"%{'a' * 5000} : [T] f32 = neg(%b)", "is longer than 400 characters"),
        ('%"\\x" : [T] f32 = neg(%b)', "is no JSON string"),
        ('%"\\ud800" : [T] f32 = neg(%b)', "is no JSON string"),
        (f"%a : [T] f32 = neg(%b) {'z' * 5000}", "unexpected 'zzz"),
    ],
)
def test_syntax_errors_name_the_line(line: str, message: str) -> None:
    with pytest.raises(GraphSyntaxError) as caught:
        parse_graph(f"graph g\n\n{line}\noutput %a\n")
    assert caught.value.line == 3
    assert "line 3" in str(caught.value)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_graph_needs_name_and_output() -> None:
    with pytest.raises(GraphSyntaxError, match="ends with `output"):
        parse_graph("graph g\ninput %x : [T] i64\n")


def test_graph_helpers() -> None:
    graph = tiny()
    assert graph.producer("rope_0") is graph.nodes[1]
    assert graph.producer("tokens") is None
    assert graph.users()["model.embed.weight"] == (graph.nodes[0], graph.nodes[2])
    assert graph.users()["head_0"] == ()
    assert graph.parameter("model.embed.weight").type.shape == (16, 4)
    with pytest.raises(KeyError):
        graph.constant("nothing")
    assert graph.replace(outputs=("embedding_0",)).live().nodes == graph.nodes[:1]
    assert hash(graph) == hash(tiny())
