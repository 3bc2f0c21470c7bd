"""What the command line refuses: one or few lines, exit status 2, no traceback, nothing half-written."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

import wsesim
from tests.command_line import TOY, Outcome, run
from tests.programs import program, recognised_graph
from wsesim.errors import WsesimError
from wsesim_models.config import CONFIGS
from wsesim_models.weights.random import random_weights

Capsys = pytest.CaptureFixture[str]
HI = ("complete", "hi", "--model", "tiny", *TOY)
TINY = ("compile", "tiny", *TOY)

Q = "model.layers.1.self_attn.q_proj.weight"
FILES = {
    "good.py": "def none(): return None\n\ndef boom():\n    raise ValueError('no way')\n\ndef needs(x): return x\n",
    "leaves.py": "import sys\nsys.exit(3)\n",
    "syntax.py": "def make(:\n",
    "imports.py": "import no_such_module\n",
    "notes.txt": "Dear diary,\n",
    "empty.program": "",
    "old.program": "program 0\n",
    "not.toml": "columns = [\n",
    "thin.toml": "columns = 4\n",
    "typo.graph": "graph g\ninput %tokens ; [T] i64\n",
    "raw.graph": "graph g\ninput %tokens : [T] i64\noutput %tokens\n",
    "weights.safetensors": "not a header",
    "weights.gguf": "GGUF, they say",
    "weights.bin": "",
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, and a folder of files that are not what they should be."""
    monkeypatch.setenv("WSESIM_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text, encoding="utf-8")
    saved = program("tiny", "toy4x4").text()
    Path("saved.program").write_text(saved, encoding="utf-8")
    Path("cut.program").write_text(saved[:2000], encoding="utf-8")
    Path("bent.program").write_text(saved.replace("Linear(", "Linnear(", 1), encoding="utf-8")
    Path("far.program").write_text(saved.replace("(name='layer0', x=0", "(name='layer0', x=9"), encoding="utf-8")
    Path("broken.graph").write_text(str(recognised_graph(CONFIGS["tiny"]))[:4000], encoding="utf-8")
    Path("other.program").write_text(saved.replace(Q, "model.layers.1.query"), encoding="utf-8")
    Path("bytes").write_bytes(b"program \xff\xfe")
    Path("folder").mkdir()


def refused(capsys: Capsys, *arguments: str) -> Outcome:
    """Run a command that is refused, and assert what all refusals have in common."""
    before = sorted(Path().rglob("*"))
    done = run(capsys, *arguments)
    assert (done.status, done.out) == (2, "")
    assert "Traceback" not in done.err
    assert sorted(Path().rglob("*")) == before
    assert [*Path(os.environ["WSESIM_CACHE_DIR"]).rglob("*partial*")] == []
    return done


UNKNOWN = [
    ((*HI[:2], "--model", "tinny"), "unknown model 'tinny'; known: tiny, "),
    (("simulate", "lama3.1-8b"), "unknown model 'lama3.1-8b'; known: llama3.1-8b, llama3.1-70b, "),
    (("compile", ""), "unknown model ''; known: "),
    ((*HI, "--text-from", "smollm"), "unknown model 'smollm'; known: smollm2-135m, "),
    (("compile", "tiny", "--machine", "wse-3"), "unknown machine 'wse-3'; known: wse3, "),
    (("compile", "tiny", "--machine", "absent.toml"), "unknown machine 'absent.toml'; known: "),
    ((*TINY, "--strategy", "pipeline"), "unknown strategy 'pipeline'; known: pipelined, "),
    ((*TINY, "--collective", "tee"), "unknown collective 'tee'; known: tree, "),
    ((*TINY, "--order", "snake"), "unknown order 'snake'; known: "),
    ((*TINY, "--kv", "shifted"), "unknown KV policy 'shifted'; known: shift, "),
    ((*TINY, "--timing-dtype", "fp64"), "unknown timing dtype 'fp64'; known: "),
    ((*TINY, "--print", "plan"), "unknown stage 'plan'; known: place, plan_memory, "),
    ((*TINY, "--stop-after", "emitt"), "unknown stage 'emitt'; known: emit, "),
    (("simulate", "tiny", *TOY, "--phase", "prefil"), "unknown phase 'prefil'; known: prefill, decode"),
    ((*HI, "--dtype", "fp8"), "unknown weight dtype 'fp8'; known: "),
    (("models", "pull", "smollm2"), "unknown model to pull 'smollm2'; known: smollm2-135m"),
    (("models", "pull", "llama3.1-8b"), "llama3.1-8b needs your own files: --weights PATH"),
    (("compile", "good.py:bom"), "unknown factory in good.py 'bom'; known: boom, "),
]
RANGES = [
    (("complete", ""), "the prompt is empty"),
    (("complete", "x" * 300, *HI[2:]), "the prompt has 300 tokens, the compiled context 256"),
    (("complete", "hi", "--temperature", "1.6"), "temperature is 1.6, it must be from 0 to 1.5"),
    (("complete", "hi", "--temperature", "-0.1"), "temperature is -0.1"),
    (("complete", "hi", "--temperature", "nan"), "temperature is nan"),
    (("complete", "hi", "--max-tokens", "-1"), "--max-tokens is -1; it is at least 0"),
    (("complete", "hi", "--top-p", "0"), "top_p is 0.0, it must be above 0"),
    (("complete", "hi", "--top-p", "1.01"), "top_p is 1.01"),
    (("complete", "hi", "--seed", "-1"), "seed is -1"),
    (("complete", "hi", *(word for s in "abcde" for word in ("--stop", s))), "stop takes up to 4 sequences"),
    (("complete", "hi", "--stop", ""), "none of them empty"),
    ((*TINY, "--max-context", "0"), "--max-context is 0; it is at least 1"),
    ((*TINY, "--max-context", "257"), "--max-context 257: tiny was made for 256 tokens"),
    ((*TINY, "--sequences", "-1"), "--sequences is -1; it is at least 1"),
    ((*TINY, "--batch", "2"), "--batch 2 takes a token of as many sequences, but --sequences is 1; give --sequences 2"),
    (("simulate", "tiny", *TOY, "--batch", "0"), "--batch is 0; it is at least 1"),
    (("simulate", "tiny", *TOY, "--phase", "prefill", "--batch", "2"), "--batch 2: one prompt goes through at a time"),
    (
        ("simulate", "tiny", *TOY, "--context", "256"),
        "--context 256: it is at most 255 with --max-context 256; one position is for the new token",
    ),
    (("simulate", "tiny", *TOY, "--context", "-1"), "--context -1: it is at least 0"),
    (("simulate", "tiny", *TOY, "--phase", "prefill", "--tokens", "0"), "--tokens 0: it is at least 1"),
    (
        ("simulate", "tiny", *TOY, "--phase", "prefill", "--tokens", "257"),
        "it is at most 256 with --max-context 256",
    ),
]
FILES_REFUSED = [
    (("compile", "notes.txt"), "notes.txt is not a saved Program"),
    (("compile", "empty.program"), "empty.program is not a saved Program"),
    (("simulate", "old.program"), "old.program: cannot be read as a Program: not a Program of version 2"),
    (("simulate", "cut.program"), "cut.program: cannot be read as a Program: not a whole Program"),
    (("complete", "hi", "--model", "bent.program"), "bent.program: cannot be read as a Program: line "),
    (("simulate", "far.program"), "blocks lie inside the usable rectangle: layer0"),
    (("complete", "hi", "--model", "other.program"), "the Program of tiny reads model.layers.1.query, which"),
    (("compile", "bytes"), "bytes: cannot be read as a Program"),
    (("compile", "saved.program", "--machine", "wse2"), "saved.program is a saved Program: it has its machine"),
    (("simulate", "saved.program", "--sequences", "2"), "saved.program is a saved Program"),
    (("simulate", "saved.program", "--batch", "2"), "places for 1; compile with --sequences 2"),
    (("complete", "hi", "--model", "saved.program", "--max-context", "9"), "saved.program is a saved Program"),
    (("compile", "saved.program", "--print", "place"), "it has no earlier stages"),
    (("compile", "folder"), "folder: cannot be read as a model: it is a folder"),
    (("compile", "x" * 300), "unknown model 'xxx"),
    (("compile", "model.onnx"), "model.onnx: cannot be read as an ONNX model: No such file or directory"),
    (("compile", "good.py"), "give good.py:factory"),
    (("compile", "absent.py:make"), "there is no file 'absent.py'"),
    (("compile", "folder:make"), "there is no file 'folder'"),
    (("compile", "good.py:none"), "good.py:none returned a NoneType, a torch.nn.Module is needed"),
    (("compile", "good.py:boom"), "good.py, line 4, raised ValueError: no way"),
    (("compile", "good.py:needs"), "raised TypeError: needs() missing 1 required positional argument"),
    (("compile", "leaves.py:make"), "leaves.py, line 2, raised SystemExit: 3"),
    (("compile", "syntax.py:make"), "syntax.py raised SyntaxError: "),
    (("compile", "imports.py:make"), "raised ModuleNotFoundError: No module named 'no_such_module'"),
    (("complete", "hi", "--model", "good.py:boom"), "good.py:boom has no tokenizer here; --text-from MODEL"),
    (("compile", "tiny", "--machine", "not.toml"), "not.toml: is not TOML"),
    (("compile", "tiny", "--machine", "thin.toml"), "thin.toml: field 'rows' is missing"),
    (("compile", "tiny", "--machine", "folder"), "unknown machine 'folder'"),
    (("compile", "--from", "absent.graph"), "absent.graph: cannot be read as a Graph"),
    (("compile", "--from", "folder"), "folder: cannot be read as a Graph"),
    (("compile", "--from", "bytes"), "bytes: cannot be read as a Graph"),
    (("compile", "--from", "typo.graph"), "graph text, line 2: "),
    (("compile", "--from", "broken.graph", *TOY), "a graph begins with `graph NAME` and ends with"),
    (("compile", "--from", "raw.graph", *TOY), "output at tokens: the output, the logits, is not a linear"),
    (("compile", "tiny", "--from", "typo.graph"), "--from typo.graph and MODEL tiny exclude each other"),
    ((*TINY, "-o", "folder"), "-o folder: a file in a folder that exists is needed"),
    ((*TINY, "-o", "absent/a.program"), "-o absent/a.program: a file in a folder that exists is needed"),
    ((*TINY, "-o", ""), "-o : a file in a folder"),
    ((*TINY, "-o", "x" * 300), "File name too long"),
    ((*TINY, "-o", "a", "--stop-after", "place"), "-o writes the Program, and --stop-after ends before there is one"),
    (("validate", "--only", "parts", "--markdown", ""), "--markdown : a file in a folder"),
    (("validate", "--only", "parts", "--markdown", "folder"), "--markdown folder: a file in a folder that exists"),
    ((*HI, "--weights", "absent"), "no weights at absent: there is no such file or folder"),
    ((*HI, "--weights", "folder"), "folder holds no *.safetensors and no .gguf"),
    ((*HI, "--weights", "weights.bin"), "weights.bin is not a file of weights that is read here"),
    ((*HI, "--weights", "weights.safetensors"), "weights.safetensors is not a safetensors file"),
    ((*HI, "--weights", "weights.gguf"), "weights.gguf"),
]


@pytest.mark.parametrize(("arguments", "said"), [*UNKNOWN, *RANGES, *FILES_REFUSED])
def test_a_mistake_is_named(capsys: Capsys, arguments: tuple[str, ...], said: str) -> None:
    err = refused(capsys, *arguments).err
    assert said in err
    assert "error: " in {line[:7] for line in err.splitlines()[-2:]}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("complete",), "the following arguments are required: PROMPT"),
        (("complte", "hi"), "invalid choice: 'complte'"),
        (("complete", "hi", "--temperature", "warm"), "argument --temperature: 'warm' is not a number"),
        (("complete", "hi", "--max-tokens", "1.5"), "argument --max-tokens: '1.5' is not an integer"),
        (("simulate", "tiny", "--batches", "1"), "unknown argument '--batches'; did you mean --batch?"),
        (("models", "push", "tiny"), "invalid choice: 'push'"),
        (("machines", "toy4x4"), "unknown argument 'toy4x4'"),
    ],
)
def test_a_wrong_word_is_answered_in_one_line(capsys: Capsys, arguments: tuple[str, ...], said: str) -> None:
    err = refused(capsys, *arguments).err
    assert said in err
    assert err.count("\n") == 1 and "; see wsesim" in err and err.endswith(" --help\n")


def test_a_model_that_does_not_fit(capsys: Capsys) -> None:
    """The error names block, operator, bytes needed and available, and the smallest change that fits. It then fits."""
    err = refused(capsys, *TINY, "--sequences", "100").err
    for words in (
        "tiny does not fit toy4x4 with any strategy, not even as shared",
        "block layer0_1 (",
        "bytes on a PE, 32,768 are there",
        "layer0.",
    ):
        assert words in err
    change = err.partition("Smallest change that fits: ")[2].split()
    assert change[0] == "--sequences"
    assert run(capsys, *TINY, *change[:2]).status == 0


def test_weights_that_are_not_at_hand(capsys: Capsys) -> None:
    """The ways out, before anything is compiled."""
    err = refused(capsys, "complete", "hi", "--model", "llama3.1-8b").err
    assert err.startswith("error: the weights of llama3.1-8b are not at hand; ways: ")
    assert "--weights PATH" in err
    assert "--text-from smollm2-135m" in err


Change = Callable[[dict[str, NDArray[np.float32]]], None]


def transpose(arrays: dict[str, NDArray[np.float32]]) -> None:
    arrays["model.layers.0.mlp.up_proj.weight"] = np.zeros((32, 64), np.float32)


def drop(arrays: dict[str, NDArray[np.float32]]) -> None:
    del arrays[Q]


def add(arrays: dict[str, NDArray[np.float32]]) -> None:
    arrays["model.layers.2.mlp.up_proj.weight"] = np.zeros((64, 32), np.float32)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (transpose, "model.layers.0.mlp.up_proj.weight is [32, 64], expected [64, 32]"),
        (drop, f"{Q} is missing, expected [32, 32]"),
        (add, "model.layers.2.mlp.up_proj.weight [64, 32] is not part of this model"),
    ],
)
def test_weights_of_another_model(capsys: Capsys, change: Change, said: str) -> None:
    arrays = random_weights(CONFIGS["tiny"], seed=3)
    change(arrays)
    save_file(arrays, "tiny.safetensors")
    assert said in refused(capsys, *HI, "--weights", "tiny.safetensors").err


def test_truncated_weights(capsys: Capsys) -> None:
    save_file(random_weights(CONFIGS["tiny"], seed=3), "tiny.safetensors")
    whole = Path("tiny.safetensors").read_bytes()
    Path("tiny.safetensors").write_bytes(whole[:-100])
    err = refused(capsys, *HI, "--weights", "tiny.safetensors").err
    assert "tiny.safetensors is truncated: tensor " in err
    Path("tiny.safetensors").write_bytes(whole)
    assert run(capsys, *HI, "--weights", "tiny.safetensors", "--max-tokens", "1").status == 0


UNTYPED: Any = wsesim
"""For calls that a type checker would refuse."""


@pytest.mark.parametrize(
    "call",
    [
        lambda: wsesim.compile("tinny"),
        lambda: wsesim.compile("tiny", machine="wse4"),
        lambda: wsesim.compile("tiny", machine="toy4x4", max_context=0),
        lambda: wsesim.simulate("tiny", machine="toy4x4", phase="training"),
        lambda: wsesim.simulate("tiny", machine="toy4x4", context=1000),
        lambda: wsesim.simulate(program("tiny", "toy4x4"), phase="prefill", tokens=0),
        lambda: wsesim.simulate(program("tiny", "toy4x4"), strategy="shared"),
        lambda: UNTYPED.simulate("tiny", machine="toy4x4", context=1.5),
        lambda: wsesim.simulate("tiny", machine="toy4x4", batch=True),
        lambda: UNTYPED.compile("tiny", machine=None),
        lambda: UNTYPED.compile("tiny", machine="toy4x4", block=(2,)),
        lambda: UNTYPED.compile("tiny", machine="toy4x4", kv_cache="shift"),
        lambda: UNTYPED.compile(None),
        lambda: wsesim.complete("", model="tiny", machine="toy4x4"),
        lambda: UNTYPED.complete(3, model="tiny", machine="toy4x4"),
        lambda: UNTYPED.complete("hi", model="tiny", machine="toy4x4", max_tokens=1.5),
        lambda: wsesim.complete("hi", model="tiny", machine="toy4x4", arrival_s=math.nan),
        lambda: wsesim.complete("hi", model="tiny", machine="toy4x4", temperature=2.0),
        lambda: wsesim.complete("hi", model="tiny", machine="toy4x4", stop=[""]),
        lambda: UNTYPED.complete("hi", model="tiny", machine="toy4x4", seed=1.5),
        lambda: wsesim.open_session("llama3.1-8b"),
    ],
)
def test_python_raises_the_same_errors(call: Callable[[], object]) -> None:
    with pytest.raises(WsesimError):
        call()
