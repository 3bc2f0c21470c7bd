"""The interpreter: each operator means what torch's does, and cached tokens stand for a longer prompt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.compiler_modules import Spelt, randomize, tokens_of, weights_of
from wsesim_compiler.errors import InterpretError, ShapeError
from wsesim_compiler.frontends.torch_export import from_torch
from wsesim_compiler.interpret import compute, interpret
from wsesim_compiler.ir import Graph, Node, TensorType, attributes
from wsesim_compiler.operators.llama import KVState, rotated
from wsesim_compiler.ops import OPERATORS, infer_shape
from wsesim_compiler.passes.canonicalize import canonicalize
from wsesim_compiler.passes.recognize import recognize

Case = tuple[str, tuple[Any, ...], dict[str, Any]]
X, POSITIVE = (2, 3, 4), "positive"
CASES: list[Case] = [
    *((op, (X,), {}) for op in ("neg", "abs", "reciprocal", "exp", "cos", "sin", "tanh", "sigmoid", "silu", "clone")),
    *((op, (POSITIVE,), {}) for op in ("sqrt", "rsqrt", "log")),
    *((op, (X, (3, 1)), {}) for op in ("add", "sub", "mul", "div", "maximum", "minimum", "lt", "ge", "eq", "type_as")),
    *((op, (X,), {"other": 0.5}) for op in ("add", "sub", "mul", "div", "rsub", "gt", "le", "ne")),
    *((op, ("bool", "bool"), {}) for op in ("logical_and", "logical_or", "__and__", "__or__", "bitwise_and")),
    *((op, ("bool",), {}) for op in ("logical_not", "bitwise_not")),
    *(("pow", (POSITIVE,), {"exponent": e}) for e in (2, 3, 0.5, -0.5, -1)),
    ("pow", (X,), {"self": 10.0}),
    ("pow", (POSITIVE, X), {}),
    ("where", ("bool", X, X), {}),
    ("masked_fill", (X, "bool"), {"value": -3.0}),
    ("clamp", (X,), {"min": -0.5, "max": 0.25}),
    ("view", (X,), {"size": (6, -1)}),
    ("reshape", (X,), {"shape": (2, -1)}),
    ("flatten", (X,), {"start_dim": 1, "end_dim": -1}),
    ("unflatten", (X,), {"dim": -1, "sizes": (2, -1)}),
    ("unsqueeze", (X,), {"dim": -1}),
    ("squeeze", ((1, 3, 1),), {"dim": 0}),
    ("squeeze", ((1, 3, 1),), {}),
    ("permute", (X,), {"dims": (2, 0, -2)}),
    ("transpose", (X,), {"dim0": -1, "dim1": 0}),
    ("t", ((2, 3),), {}),
    ("expand", ((3, 1),), {"size": (2, -1, 4)}),
    ("expand_as", ((3, 1), X), {}),
    ("slice", (X,), {"dim": 2, "start": 1, "end": 2**63 - 1, "step": 2}),
    ("slice", (X,), {"dim": 1, "start": -2}),
    ("select", (X,), {"dim": 1, "index": -1}),
    ("chunk", (X,), {"chunks": 3, "dim": -1}),
    ("split", (X,), {"split_size": 3, "dim": 2}),
    ("split_with_sizes", (X,), {"split_sizes": (1, 3), "dim": 2}),
    ("unbind", (X,), {"dim": 1}),
    ("repeat", (X,), {"repeats": (2, 1, 1, 3)}),
    ("repeat_interleave", (X,), {"repeats": 2, "dim": 1}),
    ("full", (), {"size": (2, 3), "fill_value": -1.5}),
    ("ones", (), {"size": (2, 3)}),
    ("zeros_like", (X,), {}),
    ("new_ones", (X,), {"size": (2,)}),
    ("full_like", (X,), {"fill_value": 7.0}),
    ("scalar_tensor", (), {"s": 2.5}),
    *((op, (X,), {"diagonal": 1}) for op in ("tril", "triu")),
    ("outer", ((3,), (4,)), {}),
    ("cumsum", (X,), {"dim": -1}),
    ("diff", (X, (2, 3, 1)), {}),
    ("matmul", (X, (4, 5)), {}),
    ("bmm", (X, (2, 4, 5)), {}),
    ("linear", (X, (5, 4), (5,)), {}),
    ("softmax", (X,), {"dim": 1}),
    ("mean", (X,), {"dim": (-1,), "keepdim": True}),
    ("sum", (X,), {"dim": (0, 2)}),
    ("rms_norm", (X, (4,)), {"normalized_shape": (4,), "eps": 1e-3}),
    ("scaled_dot_product_attention", ((1, 4, 3, 8), (1, 2, 5, 8), (1, 2, 5, 8)), {"enable_gqa": True}),
    (
        "scaled_dot_product_attention",
        ((1, 2, 3, 8), (1, 2, 3, 8), (1, 2, 3, 8)),
        {"is_causal": True, "scale": 0.3},
    ),
    ("scaled_dot_product_attention", ((1, 2, 3, 8), (1, 2, 3, 8), (1, 2, 3, 8), (3, 3)), {}),
]


def operand(shape: Any, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(X if isinstance(shape, str) else shape)
    return values > 0 if shape == "bool" else np.abs(values) + 0.1 if shape == POSITIVE else values


@pytest.mark.parametrize(("op", "shapes", "keywords"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_meaning_and_shape_rule_are_torchs(op: str, shapes: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    arrays = [operand(shape, seed) for seed, shape in enumerate(shapes)]
    tensors = [torch.from_numpy(array) for array in arrays]
    given = dict(keywords)
    positional = [given.pop(name) for name in ("other", "value") if name in given]
    if "self" in given:
        expected: Any = torch.pow(given["self"], tensors[0])
    elif op == "rms_norm":
        expected = torch.rms_norm(tensors[0], given["normalized_shape"], tensors[1], given["eps"])
    elif op == "diff":
        expected = torch.diff(tensors[0], prepend=tensors[1])
    else:
        expected = getattr(torch.ops.aten, op)(*tensors, *positional, **given)
    types = [TensorType(array.shape, "f64") for array in arrays]
    pairs = tuple(sorted(keywords.items()))
    inferred = infer_shape(op, types, pairs)
    result = compute(Node("n", op, (), pairs, TensorType((), "f64")), arrays, tokens=5)
    parts = list(expected) if isinstance(expected, list | tuple) else [expected]
    assert (inferred if isinstance(inferred, list) else [inferred]) == [tuple(part.shape) for part in parts]
    for ours, theirs in zip(result if isinstance(result, list) else [result], parts, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-14)
        assert ours.dtype.kind == theirs.numpy().dtype.kind


@pytest.mark.parametrize(
    ("op", "shapes", "keywords"),
    [
        ("add", [(2, 3), (2, 4)], {}),
        ("add", [("T", 3), (5, 3)], {}),
        ("linear", [("T", 3), (4, 5)], {}),
        ("matmul", [(2, 3), (4, 5)], {}),
        ("reshape", [("T", 6)], {"shape": (6,)}),
        ("reshape", [("T", 6)], {"shape": (-1, 5)}),
        ("reshape", [("T", 6)], {"shape": (-1,)}),
        ("permute", [(2, 3)], {"dims": (0, 0)}),
        ("expand", [(2, 3)], {"size": (2, 4)}),
        ("slice", [("T", 3)], {"dim": 0, "start": 1}),
        ("select", [(2, 3)], {"dim": 1, "index": 3}),
        ("cat", [(2, 3), (3, 3)], {"dim": 1}),
        ("cat", [("T", 3), ("T", 3)], {"dim": 0}),
        ("unsqueeze", [(2,)], {"dim": 3}),
        ("scaled_dot_product_attention", [(1, 4, "T", 8), (1, 2, "T", 8), (1, 2, "T", 8)], {}),
        (
            "attention",
            [("T", 8), ("T", 4), ("T", 2)],
            {"heads": 2, "kv_heads": 1, "head_dim": 4, "scale": 1.0},
        ),
        (
            "attention",
            [("T", 12), ("T", 8), ("T", 8)],
            {"heads": 3, "kv_heads": 2, "head_dim": 4, "scale": 1.0},
        ),
        ("swiglu", [("T", 8), ("T", 4)], {}),
        ("rmsnorm", [("T", 8), (4,)], {"eps": 1e-5}),
        ("qk_norm", [("T", 8), (8,)], {"heads": 2, "head_dim": 4, "eps": 1e-5}),
        ("qk_norm", [("T", 8), (4,)], {"heads": 3, "head_dim": 4, "eps": 1e-5}),
        ("neg", [(2,), (2,)], {}),
        ("reshape", [(2,)], {}),
    ],
)
def test_shape_rules_refuse(op: str, shapes: list[tuple[Any, ...]], keywords: dict[str, Any]) -> None:
    with pytest.raises(ShapeError):
        infer_shape(op, [TensorType(shape, "f32") for shape in shapes], attributes(**keywords))


def test_every_value_has_its_declared_shape() -> None:
    spellings: list[dict[str, Any]] = [{}, {"rope": "unbind", "attention": "where", "angles": "powers"}]
    for spelling in spellings:
        graph = from_torch(Spelt(**spelling))
        weights, tokens = weights_of(randomize(Spelt(**spelling))), tokens_of()[None]
        for node in graph.nodes:
            if isinstance(node.type, TensorType):
                (value,) = interpret(graph.replace(outputs=(node.name,)), weights, {graph.inputs[0].name: tokens})
                assert value.shape == tuple(11 if dim == "T" else dim for dim in node.shape), node


@pytest.fixture(scope="module")
def recognised() -> tuple[Graph, dict[str, np.ndarray]]:
    module = randomize(Spelt(layers=2))
    return recognize(canonicalize(from_torch(module))), weights_of(module)


def test_cached_tokens_continue_a_prompt(recognised: tuple[Graph, dict[str, np.ndarray]]) -> None:
    graph, weights = recognised
    tokens, state = tokens_of(11), KVState()
    (whole,) = interpret(graph, weights, {"tokens": tokens})
    pieces = [
        interpret(graph, weights, {"tokens": tokens[part]}, cached=state)[0]
        for part in (slice(0, 6), slice(6, 9), slice(9, 10), slice(10, 11))
    ]
    assert state.length == 11
    np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=1e-10, atol=1e-12)


def test_precision_is_chosen(recognised: tuple[Graph, dict[str, np.ndarray]]) -> None:
    graph, weights = recognised
    (single,) = interpret(graph, weights.__getitem__, {"tokens": tokens_of()}, dtype=np.float32)
    (double,) = interpret(graph, weights, {"tokens": tokens_of()})
    assert single.dtype == np.float32 and double.dtype == np.float64
    np.testing.assert_allclose(single, double, rtol=1e-3, atol=1e-4)
    assert not np.array_equal(single, double)


def test_what_is_missing_is_named(recognised: tuple[Graph, dict[str, np.ndarray]]) -> None:
    graph, weights = recognised
    with pytest.raises(InterpretError, match=r"no weights for parameter 'table.weight'"):
        interpret(graph, {}, {"tokens": tokens_of()})
    with pytest.raises(InterpretError, match=r"'last.scale' are \[3\], the graph needs \[32\]"):
        interpret(graph, {**weights, "last.scale": np.ones(3)}, {"tokens": tokens_of()})
    with pytest.raises(InterpretError, match=r"input 'tokens' \['T'\] is missing"):
        interpret(graph, weights, {})
    with pytest.raises(InterpretError, match=r"input 'tokens' is \[1, 11\]"):
        interpret(graph, weights, {"tokens": tokens_of()[None]})
    with pytest.raises(InterpretError, match="no `attention` to keep cached tokens"):
        interpret(graph.replace(nodes=graph.nodes[:1]), weights, {"tokens": tokens_of()}, cached=KVState())


def test_rotation_is_a_turn_in_the_plane_of_each_pair() -> None:
    x = np.arange(8.0).reshape(1, 8) + 1
    half = rotated(x, [np.pi / 2, 0.0], 2, "half", first_position=1)
    np.testing.assert_allclose(half, [[-3, 2, 1, 4, -7, 6, 5, 8]], atol=1e-12)
    interleaved = rotated(x, [np.pi / 2, 0.0], 2, "interleaved", first_position=1)
    np.testing.assert_allclose(interleaved, [[-2, 1, 3, 4, -6, 5, 7, 8]], atol=1e-12)
    np.testing.assert_array_equal(rotated(x, [1.0, 0.5], 2, "half"), x)


def test_all_operators_have_a_stage() -> None:
    assert all(operator.stages for operator in OPERATORS.values())
    assert {name for name, o in OPERATORS.items() if "recognized" in o.stages} == {
        *("embedding", "rmsnorm", "linear", "qk_norm", "rope", "attention", "swiglu", "add", "head"),
    }
