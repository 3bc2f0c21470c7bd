"""MODEL as an `.onnx` file: compile, simulate and complete, from the command line and from Python."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from safetensors.numpy import save_file

import wsesim
from tests.command_line import TOY, run
from tests.compiler_modules import VOCAB
from tests.onnx_genai import write_genai
from tests.onnx_models import model, ort_greedy, recognised_text, session
from wsesim.errors import WsesimError
from wsesim.toolchain import onnx_model
from wsesim_compiler.frontends import onnx as onnx_frontend
from wsesim_compiler.frontends.onnx import file as onnx_file
from wsesim_compiler.frontends.onnx import from_onnx
from wsesim_compiler.roles import roles

LETTERS = "".join(map(chr, range(ord("A"), ord("A") + VOCAB)))
PLACE = (*TOY, "--strategy", "shared", "--max-context", "32")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with its data and a tokenizer of one letter a token beside it."""
    folder = tmp_path_factory.mktemp("model")
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({letter: i for i, letter in enumerate(LETTERS)}, []))
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.save(str(folder / "tokenizer.json"))
    return write_genai(model("qwen3"), folder / "letters.onnx")


def test_compile_prints_its_stages(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = run(capsys, "compile", str(path), *PLACE, "--stop-after", "graph")
    assert raw.status == 0 and raw.out == str(from_onnx(path).graph)
    recognised = run(capsys, "compile", str(path), *PLACE, "--stop-after", "recognize")
    assert "parameter @model.layers.1.self_attn.k_proj.weight : [32, 64] f32" in recognised.out
    assert recognised_text(from_onnx(path).graph).split("input", 1)[1][:80] in recognised.out
    assert "letters" in run(capsys, "compile", str(path), *PLACE).out


def test_simulate_gives_the_cycles_of_torchs_graph(
    path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made = wsesim.simulate(str(path), machine="toy4x4", strategy="shared", max_context=32, context=9)
    program = wsesim.compile(str(path), machine="toy4x4", strategy="shared", max_context=32)
    assert wsesim.simulate(program, context=9).cycles == made.cycles > 0
    assert run(capsys, "simulate", str(path), *PLACE, "--context", "9").status == 0


def test_a_file_s_program_is_remembered_until_it_or_what_lies_beside_it_changes(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def understand(model: str, *rest: Any) -> object:
        read.append(model)
        return original(model, *rest)

    original = onnx_model.understand_onnx
    monkeypatch.setattr(onnx_model, "understand_onnx", understand)
    for file in path.parent.iterdir():
        shutil.copy(file, tmp_path)
    mine = str(tmp_path / path.name)
    place: dict[str, Any] = {"machine": "toy4x4", "strategy": "shared", "max_context": 32}
    first = wsesim.compile(mine, **place)
    assert wsesim.compile(mine, **place) == first
    assert len(read) == 1
    (tmp_path / "more.bin").write_bytes(b"x")
    assert wsesim.compile(mine, **place) == first
    assert len(read) == 2


def test_a_completion_reads_its_file_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One read gives both its tensors and its Program, which is not in the cache."""
    read: list[object] = []

    def open_onnx(path: str) -> object:
        read.append(path)
        return onnx_file.open_onnx(path)

    monkeypatch.setattr(onnx_frontend, "open_onnx", open_onnx)
    place: dict[str, Any] = {"machine": "toy4x4", "strategy": "shared", "max_context": 31}
    assert wsesim.complete("HELLO", model=str(path), max_tokens=2, **place).completion.prompt_tokens == 5
    assert read == [str(path)]


def test_complete_says_what_onnxruntime_says(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = wsesim.complete(
        "HELLO", model=str(path), machine="toy4x4", strategy="shared", max_context=32, max_tokens=12
    )
    expected = ort_greedy(session(path), [LETTERS.index(letter) for letter in "HELLO"], 12)
    assert answer.text == "".join(LETTERS[i] for i in expected)
    assert answer.model == "letters" and answer.completion.times.completion_s > 0
    told = run(capsys, "complete", "HELLO", "--model", str(path), *PLACE, "--max-tokens", "12")
    assert told.out.startswith("HELLO" + answer.text)


def test_without_its_data_it_is_timed_and_may_take_other_weights(path: Path, tmp_path: Path) -> None:
    """By the names of their roles, from safetensors."""
    bare = tmp_path / "letters.onnx"
    bare.write_bytes(path.read_bytes())
    place: dict[str, Any] = {"machine": "toy4x4", "strategy": "shared", "max_context": 32}
    with pytest.raises(WsesimError, match="its tables of cosines and sines are absent"):
        wsesim.compile(str(bare), **place)
    weights = {name: p.detach().numpy() for name, p in model("qwen3").named_parameters()}
    (folder := tmp_path / "weights").mkdir()
    save_file({name: np.ascontiguousarray(array) for name, array in weights.items()}, folder / "model.safetensors")
    (folder / "tokenizer.json").write_bytes((path.parent / "tokenizer.json").read_bytes())
    (own, other) = (
        wsesim.complete("HELLO", model=str(path), weights=w, max_tokens=8, **place) for w in (None, str(folder))
    )
    assert own.text == other.text and own.fingerprint != other.fingerprint


def test_what_is_missing_is_said(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = run(capsys, "simulate", "absent.onnx", *PLACE)
    assert absent.status == 2 and "absent.onnx: cannot be read as an ONNX model: No such file" in absent.err
    (tmp_path / "letters.onnx").write_bytes(path.read_bytes())
    (tmp_path / "letters.onnx.data").write_bytes((path.parent / "letters.onnx.data").read_bytes())
    mute = run(capsys, "complete", "HELLO", "--model", str(tmp_path / "letters.onnx"), *PLACE)
    assert mute.status == 2 and "holds no tokenizer" in mute.err


def test_roles_are_told_apart_and_other_names_stay(path: Path) -> None:
    from wsesim_compiler.lower import understand

    graph = understand(from_onnx(path).graph)
    named = roles(graph)
    assert len(set(named.values())) == len(named) == len(graph.parameters) == 2 * 11 + 3
    assert named["model.layers.0.self_attn.qkv_proj.MatMul.weight[0:64]"] == "model.layers.0.self_attn.q_proj.weight"
    assert named["lm_head.MatMul.weight"] == "lm_head.weight"
