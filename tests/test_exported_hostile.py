"""A .pt2 file that brings code with it: torch.export.load runs it, wsesim does not, and says so in one line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import wsesim
from tests.compiler_modules import Spelt
from wsesim.errors import InvalidInputError
from wsesim_compiler.frontends.exported import read_exported
from wsesim_compiler.frontends.torch_export import export

Members = dict[str, bytes]
GRAPH = "models/model.json"
WEIGHTS, CONSTANTS = "data/weights/model_weights_config.json", "data/constants/model_constants_config.json"


class Payload:
    """Leaves a folder behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = str(trace)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.trace,)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Members:
    """The members of a file that torch.export.save has written."""
    file = tmp_path_factory.mktemp("good") / "m.pt2"
    torch.export.save(export(Spelt()), file)
    with zipfile.ZipFile(file) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write(members: Members, file: Path, packing: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(file, "w", packing) as archive:
        for name, data in members.items():
            archive.writestr(f"m/{name}", data)
    return file


def saved(payload: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    return buffer.getvalue()


def edited(members: Members, name: str, edit: Callable[[Any], None]) -> Members:
    data = json.loads(members[name])
    edit(data)
    return {**members, name: json.dumps(data).encode()}


def replaced(members: Members, old: str, new: str) -> Members:
    assert json.dumps(old).encode() in members[GRAPH]
    return {**members, GRAPH: members[GRAPH].replace(json.dumps(old).encode(), json.dumps(new).encode())}


def sample_inputs(members: Members, trace: Path) -> Members:
    return {**members, "data/sample_inputs/model.pt": saved(Payload(trace))}


def pickled_weight(members: Members, trace: Path) -> Members:
    first = next(iter(json.loads(members[WEIGHTS])["config"].values()))["path_name"]
    made = edited(members, WEIGHTS, lambda data: next(iter(data["config"].values())).update(use_pickle=True))
    return {**made, f"data/weights/{first}": saved(Payload(trace))}


def pickled_constant(members: Members, trace: Path) -> Members:
    made = edited(members, CONSTANTS, lambda data: next(iter(data["config"].values())).update(use_pickle=True))
    return {**made, "data/constants/tensor_0": saved(Payload(trace))}


def opaque_object(members: Members, trace: Path) -> Members:
    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    made = edited(members, CONSTANTS, lambda data: data["config"].update(odd=entry))
    return {**made, "data/constants/opaque_obj_0": pickle.dumps(Payload(trace))}


def legacy_weights(members: Members, trace: Path) -> Members:
    return {**members, "data/weights/model.pt": saved(Payload(trace))}


def legacy_constants(members: Members, trace: Path) -> Members:
    return {**members, "data/constants/model.pt": saved(Payload(trace))}


def size(members: Members, trace: Path) -> Members:
    """torch evaluates sizes."""

    def edit(data: Any) -> None:
        sizes = data["graph_module"]["graph"]["sym_int_values"]
        next(iter(sizes.values()))["as_expr"]["expr_str"] = f"__import__('os').mkdir({str(trace)!r})"

    return edited(members, GRAPH, edit)


def name_of_an_input(members: Members, trace: Path) -> Members:
    """torch makes Python source of names and runs it, the values that parameters have by default included."""
    return replaced(members, "tokens", f"tokens=__import__('os').mkdir({str(trace)!r})")


def pytree(members: Members, trace: Path) -> Members:
    """torch imports what a pytree's context names."""
    (trace.parent / "brought_along.py").write_text(f"import os\nos.mkdir({str(trace)!r})\n")
    context = json.dumps({"__enum__": True, "fqn": "brought_along:A", "name": "a"})
    spec = json.dumps([1, {"type": "builtins.dict", "context": context, "children_spec": []}])

    def edit(data: Any) -> None:
        data["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = spec

    return edited(members, GRAPH, edit)


def older_archive(members: Members, trace: Path) -> Members:
    """What torch wrote until 2.7, all of it pickled; it is read where the newer form fails."""
    pickles = ("serialized_state_dict.pt", "serialized_constants.pt", "serialized_example_inputs.pt")
    return {"../version": b"8.20", "../serialized_exported_program.json": members[GRAPH]} | {
        f"../{name}": saved(Payload(trace)) for name in pickles
    }


IGNORED = (sample_inputs, pytree)
REFUSED = {
    pickled_weight: "is pickled",
    pickled_constant: "is pickled",
    opaque_object: "is pickled",
    legacy_weights: "data/weights/model.pt is pickled",
    legacy_constants: "data/constants/model.pt is pickled",
    size: "is not a size",
    name_of_an_input: "is not a name",
    older_archive: "has no member 'archive_format'",
}


def crafted(attack: Callable[[Members, Path], Members], good: Members, folder: Path) -> tuple[Path, Path]:
    """The file, and the trace that it leaves when its code runs."""
    file, trace = folder / "odd.pt2", folder / "trace"
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in attack(good, trace).items():
            archive.writestr(name[3:] if name.startswith("../") else f"odd/{name}", data)
    return file, trace


@pytest.mark.parametrize("attack", [*IGNORED, *REFUSED])
def test_torch_itself_runs_what_the_file_brings(
    attack: Any, good: Members, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the tests below would show nothing."""
    monkeypatch.syspath_prepend(tmp_path)
    file, trace = crafted(attack, good, tmp_path)
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.load(str(file))
    assert trace.exists()


@pytest.mark.parametrize("attack", IGNORED)
def test_what_is_not_needed_is_not_read(
    attack: Any, good: Members, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file, trace = crafted(attack, good, tmp_path)
    before = file.read_bytes()
    assert wsesim.compile(str(file), machine="toy4x4", max_context=32).model == "odd"
    assert not trace.exists()
    assert file.read_bytes() == before
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("attack", REFUSED)
def test_what_would_run_code_is_refused_in_one_line(
    attack: Any, good: Members, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file, trace = crafted(attack, good, tmp_path)
    with pytest.raises(InvalidInputError, match=re.escape(REFUSED[attack])) as refusal:
        wsesim.compile(str(file), machine="toy4x4")
    assert not trace.exists()
    assert str(refusal.value).startswith(f"{file}: ")
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 300 + len(str(file))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s70', positive=True).__class__",
        "Symbol('s70', positive=open('a'))",
        "Symbol(open('a'))",
        "Pow(Integer(9), Pow(Integer(9), Integer(9)))",
        "Pow(Symbol('s1'), Integer(999999999))",
        "9**9**9**9",
        "Symbol('u99999999999')",
        "[].append(1)",
        "'a'",
        "Integer(" * 150 + "1" + ")" * 150,
        "Integer(" + "9" * 1500 + ")",
        "Add(",
    ],
)
def test_a_size_that_torch_does_not_write_is_refused(text: str, good: Members, tmp_path: Path) -> None:
    def edit(data: Any) -> None:
        next(iter(data["graph_module"]["graph"]["sym_int_values"].values()))["as_expr"]["expr_str"] = text

    with pytest.raises(InvalidInputError, match=r"is not a size|cannot be read as a file of torch.export.save"):
        read_exported(write(edited(good, GRAPH, edit), tmp_path / "odd.pt2"))


def test_a_packed_member_is_refused_before_it_is_unpacked(good: Members, tmp_path: Path) -> None:
    file = write({**good, "data/weights/weight_0": bytes(1 << 22)}, tmp_path / "bomb.pt2", zipfile.ZIP_DEFLATED)
    assert file.stat().st_size < 1 << 20
    with pytest.raises(InvalidInputError, match=r"its members claim [\d,]+ bytes, the file has"):
        read_exported(file)


def test_members_that_share_their_bytes_are_refused(good: Members, tmp_path: Path) -> None:
    """Many entries of the table of contents for one member's bytes: each is within the file, all together are not."""
    file = tmp_path / "overlapping.pt2"
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in good.items():
            archive.writestr(f"m/{name}", data)
        archive.filelist += [archive.getinfo(f"m/{GRAPH}")] * 50
    with pytest.raises(InvalidInputError, match=r"its members claim [\d,]+ bytes, the file has"):
        read_exported(file)


def test_sizes_beyond_the_bytes_that_are_there_are_refused(good: Members, tmp_path: Path) -> None:
    def edit(data: Any) -> None:
        meta = next(iter(data["config"].values()))["tensor_meta"]
        meta.update(sizes=[{"as_int": 1 << 20}, {"as_int": 1 << 20}], strides=[{"as_int": 1 << 20}, {"as_int": 1}])

    with pytest.raises(InvalidInputError, match="goes beyond the 16 bytes of 'data/constants/tensor_0'"):
        read_exported(write(edited(good, CONSTANTS, edit), tmp_path / "odd.pt2"))


def test_weights_are_known_by_shape_and_tables_by_value(good: Members, tmp_path: Path) -> None:
    module = Spelt()
    program = read_exported(write(good, tmp_path / "m.pt2"))
    assert {name: tensor.shape for name, tensor in program.state_dict.items()} == {
        name: tensor.shape for name, tensor in module.state_dict().items()
    }
    assert {tensor.device.type for tensor in program.state_dict.values()} == {"meta"}
    assert program.constants["frequencies"].tolist() == module.frequencies.tolist()


@pytest.mark.parametrize("depth", [100, 900, 100_000])
def test_deep_nesting_is_refused(depth: int, good: Members, tmp_path: Path) -> None:
    graph = b"[" * depth + b"]" * depth
    file = write({**good, GRAPH: b'{"graph_module": {"graph": ' + graph + b"}}"}, tmp_path / "deep.pt2")
    with pytest.raises(InvalidInputError, match="nested too deeply"):
        read_exported(file)
