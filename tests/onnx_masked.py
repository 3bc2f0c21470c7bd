"""An ONNX file of plain operators, and a file of any nodes and tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MASKED: tuple[tuple[str, list[str], str, dict[str, Any]], ...] = (
    ("Shape", ["tokens"], "count1", {"start": 1}),
    ("Squeeze", ["count1"], "count", {}),
    ("Range", ["zero", "count", "one"], "line", {}),
    ("Unsqueeze", ["line", "axis"], "column", {}),
    ("LessOrEqual", ["line", "column"], "visible", {}),
    ("Where", ["visible", "nothing", "lowest"], "mask", {}),
    ("Gather", ["table", "tokens"], "x", {}),
    ("MatMul", ["x", "wq"], "q", {}),
    ("MatMul", ["x", "wk"], "k", {}),
    ("Transpose", ["k"], "kt", {"perm": [0, 2, 1]}),
    ("MatMul", ["q", "kt"], "scores", {}),
    ("Add", ["scores", "mask"], "masked", {}),
    ("Softmax", ["masked"], "weights", {"axis": -1}),
    ("MatMul", ["weights", "x"], "mixed", {}),
    ("Concat", ["one1", "count1", "width"], "shape", {"axis": 0}),
    ("Reshape", ["mixed", "shape"], "rows", {}),
    ("Gemm", ["flat", "wv", "bias"], "y", {}),
)


def masked_model(path: Path) -> Path:
    """A file of plain operators: positions, a mask, one head, a bias."""
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal((12, 12)).astype(np.float32) for name in ("table", "wq", "wk", "wv")}
    arrays |= {
        "bias": np.ones(12, np.float32),
        "nothing": np.array(0, np.float32),
        "lowest": np.array(-1e9, np.float32),
    }
    arrays |= {
        "zero": np.array(0),
        "one": np.array(1),
        "axis": np.array([1]),
        "one1": np.array([1]),
        "width": np.array([12]),
    }
    nodes = [helper.make_node(op, inputs, [made], **given) for op, inputs, made, given in MASKED]
    nodes.insert(-1, helper.make_node("Squeeze", ["rows", "zero1"], ["flat"]))
    return save(path, nodes, arrays | {"zero1": np.array([0])})


def save(path: Path, nodes: list[onnx.NodeProto], arrays: dict[str, np.ndarray], output: str = "y") -> Path:
    tokens = helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, "T"])
    made = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "main", [tokens], [made], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path
