"""Wrong and hostile files: a clean error each, that names what is wrong; bounded memory; nothing read elsewhere."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.fuzz.sandbox import files_read
from tests.onnx_genai import write_genai
from tests.onnx_masked import masked_model, save
from tests.onnx_models import model
from wsesim.errors import InvalidInputError
from wsesim.toolchain.onnx_model import understand_onnx
from wsesim_compiler.errors import OnnxFileError, UnsupportedOperatorError
from wsesim_compiler.frontends.onnx import from_onnx


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sound files, and beside it what they must not read."""
    root = tmp_path_factory.mktemp("hostile")
    (root / "secret").write_bytes(b"\0" * (1 << 20))
    (made := root / "models").mkdir()
    os.symlink(root / "secret", made / "link")
    os.mkfifo(made / "pipe")
    write_genai(model("qwen3"), made / "fp32.onnx")
    write_genai(model("qwen2"), made / "int4.onnx", int4=True)
    masked_model(made / "masked.onnx")
    return made


def test_the_sound_files_are_read(folder: Path) -> None:
    for name in ("fp32.onnx", "int4.onnx"):
        weights = understand_onnx(str(folder / name)).weights
        assert [weights.load(each).shape for each in weights.names()]
    assert len(from_onnx(folder / "masked.onnx").graph.parameters) == 5


@pytest.mark.parametrize(
    "location", ["/etc/hostname", "../secret", "link", "a/../../secret", "C:\\secret", "pipe", "."]
)
def test_data_outside_the_folder_is_not_read(location: str, folder: Path) -> None:
    path = folder / "outside.onnx"
    file = onnx.load(folder / "fp32.onnx", load_external_data=False)
    entries = [entry for tensor in file.graph.initializer for entry in tensor.external_data]
    for entry in (entry for entry in entries if entry.key == "location"):
        entry.value = location
    path.write_bytes(file.SerializeToString())
    with files_read() as opened, pytest.raises((OnnxFileError, UnsupportedOperatorError), match=r"folder|are absent"):
        from_onnx(path)
    assert not [name for name in opened if "secret" in os.path.realpath(name) or name.endswith(("hostname", "pipe"))]


def changed(folder: Path, tmp_path: Path, change: Any) -> Path:
    file = onnx.load(folder / "masked.onnx")
    change(file)
    (tmp_path / "changed.onnx").write_bytes(file.SerializeToString())
    return tmp_path / "changed.onnx"


def _input(name: str, node: int, at: int) -> Any:
    def change(file: onnx.ModelProto) -> None:
        file.graph.node[node].input[at] = name

    return change


def _initializer(name: str, /, **fields: Any) -> Any:
    def change(file: onnx.ModelProto) -> None:
        tensor = next(tensor for tensor in file.graph.initializer if tensor.name == name)
        for field, value in fields.items():
            if field == "dims":
                tensor.dims[:] = value
            else:
                setattr(tensor, field, value)

    return change


def _opset(version: int) -> Any:
    def change(file: onnx.ModelProto) -> None:
        file.opset_import[0].version = version

    return change


def _fixed(file: onnx.ModelProto) -> None:
    file.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 13


def _two_inputs(file: onnx.ModelProto) -> None:
    file.graph.input.append(helper.make_tensor_value_info("other", TensorProto.INT64, [1, "T"]))


def _pixels(file: onnx.ModelProto) -> None:
    file.graph.input.append(helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, 8]))


WRONG = {
    "cycle": (_input("y", 6, 1), "Gather '' reads 'y', which is no input, initialiser or result before it"),
    "missing": (_initializer("wq", name="elsewhere"), "reads 'wq', which is no input, initialiser or result"),
    "twice": (_initializer("wq", name="wk"), "initialiser 'wk' is defined twice"),
    "negative": (_initializer("wq", dims=[-12, -12]), r"initialiser 'wq' has the shape \[-12, -12\]"),
    "huge": (_initializer("wq", dims=[2**40, 2**40]), "initialiser 'wq' has the shape"),
    "old": (_opset(9), "its opset is 9; read are 13 to"),
    "future": (_opset(10_000), "its opset is 10000; read are 13 to"),
    "fixed": (_fixed, "the number of tokens is fixed to 13; export it dynamic"),
    "two inputs": (_two_inputs, "its inputs of token ids are tokens, other; the compiler reads one"),
    "pixels": (_pixels, r"input 'pixels' f32 \[1, 3, 8\] is neither token ids"),
    "strings": (_initializer("wq", data_type=8), "initialiser 'wq' has the element type 8"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_what_breaks_the_format_is_named(change: Any, message: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OnnxFileError, match=message):
        from_onnx(changed(folder, tmp_path, change))


def test_a_weight_that_is_cut_off_is_named_when_it_is_read(folder: Path, tmp_path: Path) -> None:
    read = from_onnx(changed(folder, tmp_path, _initializer("bias", raw_data=b"\0" * 8)))
    with pytest.raises(OnnxFileError, match=r"initialiser 'bias' f32 \[12\] holds 8 bytes"):
        read.weights.load("bias")


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    for text in (b"", b"program 2", b"\x08" * 100):
        (tmp_path / "no.onnx").write_bytes(text)
        with pytest.raises(OnnxFileError, match=r"no\.onnx: it (is damaged|holds no nodes)"):
            from_onnx(tmp_path / "no.onnx")
    with pytest.raises(InvalidInputError, match=r"absent\.onnx: cannot be read as an ONNX model: No such file"):
        from_onnx(tmp_path / "absent.onnx")


def test_operators_that_are_not_read_are_named_all_at_once(folder: Path, tmp_path: Path) -> None:
    def change(file: onnx.ModelProto) -> None:
        file.graph.node[6].name, file.graph.node[6].op_type = "/embed", "Gelu"
        file.graph.node[12].name, file.graph.node[12].op_type = "/softmax", "Hardmax"
        file.graph.node[9].op_type, file.graph.node[9].domain = "Turn", "my.own"

    with pytest.raises(UnsupportedOperatorError) as raised:
        from_onnx(changed(folder, tmp_path, change))
    assert {(what.op, what.source) for what in raised.value.operators} == {
        *(("Gelu", "/embed"), ("Hardmax", "/softmax"), ("my.own.Turn", "kt"))
    }


def _big(op: str, inputs: list[str], **arrays: Any) -> tuple[list[onnx.NodeProto], dict[str, Any]]:
    nodes = [helper.make_node(op, inputs, ["big"]), helper.make_node("Cast", ["big"], ["wide"], to=1)]
    nodes += [helper.make_node("Gather", ["table", "tokens"], ["x"]), helper.make_node("Add", ["x", "wide"], ["y"])]
    return nodes, {"table": np.ones((4, 4), np.float32), **arrays}


BIG = {
    "Expand": _big("Expand", ["one", "sizes"], one=np.array(1), sizes=np.array([1 << 30, 1 << 30])),
    "ConstantOfShape": _big("ConstantOfShape", ["sizes"], sizes=np.array([1 << 40])),
    "Range": _big("Range", ["a", "b", "c"], a=np.array(0), b=np.array(1 << 60), c=np.array(1)),
    "Range by nothing": _big("Range", ["a", "b", "c"], a=np.array(0), b=np.array(5), c=np.array(0)),
    "MatMul": _big("MatMul", ["a", "b"], a=np.ones((1 << 16, 1), np.int64), b=np.ones((1, 1 << 16), np.int64)),
    "Mul": _big("Mul", ["a", "b"], a=np.ones((1 << 16, 1), np.int64), b=np.ones((1, 1 << 16), np.int64)),
}


@pytest.mark.parametrize(("nodes", "arrays"), BIG.values(), ids=BIG)
def test_tables_that_are_asked_to_be_huge_are_refused(nodes: Any, arrays: Any, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnsupportedOperatorError, match=r"a table of|a range from"):
        from_onnx(save(tmp_path / "big.onnx", nodes, arrays))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_tables_that_are_many_are_refused_too(tmp_path: Path) -> None:
    """Each below the limit of one, together beyond that of all."""
    nodes = [helper.make_node("ConstantOfShape", ["sizes"], [f"t{i}"]) for i in range(40)]
    nodes += [helper.make_node("Add", [f"t{i}", f"t{i}" if not i else f"s{i - 1}"], [f"s{i}"]) for i in range(40)]
    nodes += [helper.make_node("Gather", ["table", "tokens"], ["x"]), helper.make_node("Add", ["x", "s39"], ["y"])]
    arrays = {"sizes": np.array([1 << 10, 1 << 10]), "table": np.ones((4, 4), np.float32)}
    with pytest.raises(UnsupportedOperatorError, match="its tables need more than"):
        from_onnx(save(tmp_path / "many.onnx", nodes, arrays))


def test_a_long_chain_is_no_deep_recursion(tmp_path: Path) -> None:
    """Positions through thousands of operators: read where they still count, refused where they do not."""
    shape = [
        ("Shape", ["tokens"], "n1", {"start": 1}),
        ("Squeeze", ["n1"], "n", {}),
        ("Range", ["a", "n", "b"], "c0", {}),
    ]
    for bend, message in (("Add", None), ("Mul", "in a way that is not read")):
        nodes = [helper.make_node(op, inputs, [made], **given) for op, inputs, made, given in shape]
        nodes += [
            helper.make_node(bend, [f"c{i}", f"c{i}" if bend == "Mul" else "b"], [f"c{i + 1}"]) for i in range(3000)
        ]
        nodes += [
            helper.make_node("Cast", ["c3000"], ["f"], to=1),
            helper.make_node("Unsqueeze", ["f", "last"], ["column"]),
        ]
        nodes += [
            helper.make_node("Gather", ["table", "tokens"], ["x"]),
            helper.make_node("Add", ["x", "column"], ["y"]),
        ]
        arrays = {"a": np.array(0), "b": np.array(1), "last": np.array([1]), "table": np.ones((4, 4), np.float32)}
        path = save(tmp_path / "long.onnx", nodes, arrays)
        if message is None:
            assert len(from_onnx(path).graph.nodes) < 20
        else:
            with pytest.raises(UnsupportedOperatorError, match=message):
                from_onnx(path)
