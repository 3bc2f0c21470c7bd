"""MODEL as file.py:factory: whatever the user's code does, a command ends with one line and status 2."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.command_line import TOY, run

MODULE = "import torch\n\nclass Model(torch.nn.Module):\n    def forward(self, tokens):\n        {}\n\nmake = Model\n"
CODES: dict[str, tuple[str, str]] = {
    "interrupt of its own": (
        "def make():\n    raise KeyboardInterrupt",
        "f.py, line 2, raised KeyboardInterrupt\n",
    ),
    "exit": ("import sys\n\ndef make():\n    sys.exit(0)", "f.py, line 4, raised SystemExit: 0"),
    "exit while it is read": ("raise SystemExit", "f.py, line 1, raised SystemExit\n"),
    "end of a generator": ("def make():\n    raise GeneratorExit", "f.py, line 2, raised GeneratorExit\n"),
    "base of all errors": ("def make():\n    raise BaseException('x')", "f.py, line 2, raised BaseException: x"),
    "error of its own": (
        "class Own(BaseException):\n    pass\n\ndef make():\n    raise Own('first\\nsecond')",
        "f.py, line 5, raised Own: first\n",
    ),
    "error that cannot be shown": (
        "class Own(Exception):\n    def __str__(self): raise self\n\ndef make():\n    raise Own",
        "f.py, line 5, raised Own\n",
    ),
    "no end": (
        "def make():\n    return make()",
        "f.py, line 2, raised RecursionError: maximum recursion depth exceeded",
    ),
    "5 kB": ("def make():\n    raise ValueError('x' * 5000)", "x..."),
    "no memory": (
        "import torch\n\ndef make():\n    return torch.nn.Linear(1 << 40, 1 << 20)",
        "f.py, line 4, raised Runtime",
    ),
    "a class": ("def make():\n    return int", "f.py:make returned a type, a torch.nn.Module is needed"),
    "another search path": ("import sys\nsys.path.clear()\n\ndef make():\n    return 1", "f.py:make returned a int"),
    "a name that is no callable": ("make = 3", "unknown factory in f.py 'make'"),
    "a callable that raises when it is looked at": (
        "class Odd:\n    def __getattribute__(self, name): raise OSError('no')\n    __call__ = len\n\nodd = Odd()",
        "f.py, line 2, raised OSError: no",
    ),
    "no text": ("\0", "f.py raised "),
    "exit in forward": (MODULE.format("raise SystemExit(1)"), "f.py, line 5, raised SystemExit: 1"),
    "interrupt in forward": (MODULE.format("raise KeyboardInterrupt"), "f.py, line 5, raised KeyboardInterrupt"),
    "error in forward": (MODULE.format("raise ValueError('a\\nb')"), "Model cannot be exported as forward(tokens"),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", CODES)
def test_what_the_code_does_is_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, words = CODES[name]
    Path("f.py").write_text(code)
    path = list(sys.path)
    left = run(capsys, "compile", "f.py:make", *TOY)
    assert left.status == 2
    assert left.out == ""
    assert words in left.err.splitlines()[-1] + "\n"
    assert len(left.err.splitlines()[-1]) < 400
    assert "Traceback" not in left.err
    assert sys.path == path


def test_a_signal_while_the_code_runs_is_no_error_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    Path("f.py").write_text("import os, signal\n\ndef make():\n    os.kill(os.getpid(), signal.SIGINT)\n    return 1\n")
    left = run(capsys, "compile", "f.py:make", *TOY)
    assert (left.status, left.out) == (130, "")
    assert left.err.splitlines()[-1] == "interrupted"


def test_what_the_code_prints_is_not_the_commands_output(capsys: pytest.CaptureFixture[str]) -> None:
    Path("f.py").write_text("print('hello')\n\ndef make():\n    print('there')\n    return 1\n")
    left = run(capsys, "compile", "f.py:make", *TOY)
    assert left.out == ""
    assert "hello" in left.err and "there" in left.err
