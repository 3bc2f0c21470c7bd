"""A file without its external data still gives timings. RoPE comes from a config.json or from rope_theta."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import wsesim
from tests.command_line import run
from tests.onnx_genai import write_genai
from tests.onnx_models import export_onnx, model, recognised_text
from wsesim.errors import InvalidInputError, WsesimError
from wsesim_compiler.errors import OnnxFileError, UnsupportedOperatorError
from wsesim_compiler.frontends.onnx import from_onnx
from wsesim_compiler.frontends.torch_export import export

Capsys = pytest.CaptureFixture[str]


def text_of(path: Path, theta: float | None = None) -> str:
    """The text of a file's recognised graph; numbers to five digits, since tables are rounded."""
    text = recognised_text(from_onnx(path, theta).graph)
    return re.sub(r"\d+\.\d+(e-?\d+)?", lambda number: f"{float(number[0]):.5g}", text)


def genai(folder: Path, name: str) -> tuple[Path, str]:
    """A file whose tables of cosines and sines lie in its external data, and the text of its graph."""
    path = write_genai(model(name), folder / "model.onnx")
    text = text_of(path)
    (folder / "model.onnx.data").unlink()
    return path, text


def write_config(folder: Path, name: str, **changes: Any) -> None:
    (folder / "config.json").write_text(json.dumps(model(name).config.to_dict() | changes), encoding="utf-8")


@pytest.mark.parametrize("name", ["llama", "llama3.1"])
def test_tables_that_are_absent_come_from_the_configuration(name: str, tmp_path: Path) -> None:
    path, text = genai(tmp_path, name)
    with pytest.raises(UnsupportedOperatorError, match=r"tables .* are absent; put the data or .*config\.json"):
        from_onnx(path)
    write_config(tmp_path, name)
    assert text_of(path) == text


def test_tables_that_are_absent_come_from_rope_theta(tmp_path: Path) -> None:
    path, text = genai(tmp_path, "llama")
    theta = model("llama").config.rope_parameters["rope_theta"]
    assert text_of(path, theta) == text
    assert text_of(path, 2 * theta) != text


def test_frequencies_that_are_absent_come_from_the_configuration(tmp_path: Path) -> None:
    """Of torch's exporter, which keeps the frequencies as one small tensor among the weights."""
    path = export_onnx(export(model("llama")), 18, tmp_path, external_data=True)["plain"]
    text = text_of(path)
    for data in tmp_path.glob("*.data"):
        data.unlink()
    write_config(tmp_path, "llama")
    assert text_of(path) == text


def test_rope_theta_is_refused_where_the_file_has_its_own(tmp_path: Path) -> None:
    path = write_genai(model("llama"), tmp_path / "model.onnx")
    with pytest.raises(OnnxFileError, match="its own RoPE frequencies are there, so it takes no `rope_theta`"):
        from_onnx(path, rope_theta=10000.0)
    for wrong in ("tiny", "tiny.pt2"):
        with pytest.raises(WsesimError, match=r"`rope_theta` is for an \.onnx file"):
            wsesim.compile(wrong, rope_theta=10000.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}},
        {"rope_parameters": {"rope_type": "linear"}, "rope_theta": "x"},
        {"num_attention_heads": 0, "head_dim": 0},
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}},
    ],
)
def test_a_configuration_that_does_not_tell_rope_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    path, _ = genai(tmp_path, "llama")
    write_config(tmp_path, "llama", **changes)
    with pytest.raises(InvalidInputError) as refused:
        from_onnx(path)
    assert "config.json" in str(refused.value)


def test_the_command_line_takes_rope_theta(tmp_path: Path, capsys: Capsys) -> None:
    path, _ = genai(tmp_path, "llama")
    machine = ("--machine", "toy4x4", "--strategy", "shared", "--max-context", "64")
    for theta, said in (("0", "--rope-theta is 0.0; it is a number above 0"), ("x", "'x' is not a number")):
        done = run(capsys, "compile", str(path), *machine, "--rope-theta", theta)
        assert done.status == 2 and said in done.err
    done = run(capsys, "compile", str(path), *machine)
    assert done.status == 2 and "give --rope-theta THETA" in done.err
    done = run(capsys, "compile", str(path), *machine, "--rope-theta", "10000")
    assert (done.status, done.out[:6]) == (0, "model "), done.err
