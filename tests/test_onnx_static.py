"""Values that depend on T alone are computed if that is exact for every T; otherwise they stay operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.onnx_models import session
from wsesim_compiler.frontends.onnx import from_onnx
from wsesim_compiler.interpret import interpret

Nodes = tuple[tuple[str, list[str], str, dict[str, Any]], ...]
LINE: Nodes = (
    ("Shape", ["tokens"], "count1", {"start": 1}),
    ("Squeeze", ["count1"], "count", {}),
    ("Range", ["zero", "count", "one"], "line", {}),
    ("Unsqueeze", ["line", "last"], "column", {}),
)
"""Positions [T] and [T, 1]."""
CASES: dict[str, Nodes] = {
    "a window": (("Sub", ["column", "line"], "back", {}), ("Less", ["back", "length"], "made", {})),
    "lengths that add up": (
        *(("Sub", ["column", "line"], "b0", {}), ("Sub", ["b0", "five"], "b1", {}), ("Sub", ["b1", "five"], "b2", {})),
        *(("Sub", ["b2", "five"], "b3", {}), ("Less", ["b3", "zero"], "made", {})),
    ),
    "a product of lengths": (*(("Mul", ["five", "five"], "window", {}), ("Less", ["line", "window"], "made", {})),),
    "a minimum": (("Min", ["line", "length"], "least", {}), ("Equal", ["least", "column"], "made", {})),
    "a clamped slice": (
        *(("Slice", ["line", "first", "length1"], "some", {}), ("ReduceMax", ["some"], "most", {"keepdims": 0})),
        ("Less", ["most", "column"], "made", {}),
    ),
    "parity": (("Mod", ["line", "two"], "odd", {}), ("Equal", ["odd", "one"], "made", {})),
}
NUMBERS = {"zero": 0, "one": 1, "two": 2, "five": 5}


def write(folder: Path, nodes: Nodes, length: int) -> Path:
    arrays = {name: np.array(value) for name, value in NUMBERS.items()}
    arrays |= {"length": np.array(length), "length1": np.array([length]), "first": np.array([0]), "last": np.array([1])}
    arrays |= {"table": np.ones((4, 1), np.float32)}
    made = [helper.make_node(op, inputs, [out], **given) for op, inputs, out, given in (*LINE, *nodes)]
    made += [helper.make_node("Cast", ["made"], ["wide"], to=TensorProto.FLOAT)]
    made += [helper.make_node("Gather", ["table", "tokens"], ["x"]), helper.make_node("Add", ["x", "wide"], ["y"])]
    inputs = [helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, "T"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(made, "main", inputs, outputs, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / "m.onnx")
    return folder / "m.onnx"


@pytest.mark.parametrize("length", [3, 6, 7, 9, 10, 11, 40])
@pytest.mark.parametrize("nodes", CASES.values(), ids=CASES)
def test_a_length_shows_at_any_number_of_tokens(nodes: Nodes, length: int, tmp_path: Path) -> None:
    """The Graph computes the same as the file for any T, or the file is refused."""
    from wsesim_compiler.errors import UnsupportedOperatorError

    path = write(tmp_path, nodes, length)
    try:
        read = from_onnx(path)
    except UnsupportedOperatorError:
        return
    oracle = session(path)
    for tokens in (1, 5, 12, 60):
        ids = np.zeros((1, tokens), np.int64)
        made = interpret(read.graph, read.weights.load, {"tokens": ids})[0]
        np.testing.assert_array_equal(made, oracle.run(None, {"tokens": ids})[0])


@pytest.mark.parametrize("name", ["a window", "lengths that add up", "a product of lengths", "a minimum"])
def test_windows_are_not_refused(name: str, tmp_path: Path) -> None:
    assert from_onnx(write(tmp_path, CASES[name], 4096)).graph.nodes
