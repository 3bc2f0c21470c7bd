"""Areas of graphs: ONNX, .pt2, Graph and Partition text, saved Programs, file.py:factory."""

from __future__ import annotations

import dataclasses
import io
import os
import sys
import tempfile
from functools import cache
from pathlib import Path
from random import Random

from tests.fuzz.apart import apart
from tests.fuzz.area import Area, all_of
from tests.fuzz.damage import NUMBER_WORDS, damage_bytes, damage_text, one_to_three
from tests.fuzz.onnx_damage import damage_onnx
from tests.fuzz.sandbox import files_read
from tests.fuzz.zip_damage import damage_zip, zeros

MACHINE = "toy4x4"
_SMALL_ROOM_BYTES = 700 << 20  # what a file of kilobytes may ask for


@cache
def _onnx_files() -> dict[str, bytes]:
    """The files of torch's models, with what lies beside them."""

    def make() -> dict[str, bytes]:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the factories import each other from it
        from tests.onnx_genai import write_genai
        from tests.onnx_masked import masked_model
        from tests.onnx_models import model

        with tempfile.TemporaryDirectory() as folder:
            write_genai(model("qwen3"), Path(folder) / "fp32.onnx")
            write_genai(model("qwen2"), Path(folder) / "int4.onnx", int4=True)
            masked_model(Path(folder) / "masked.onnx")
            return {path.name: path.read_bytes() for path in Path(folder).iterdir()}

    return apart(make)


def _onnx_seeds() -> tuple[bytes, ...]:
    return tuple(_onnx_files()[name] for name in ("fp32.onnx", "int4.onnx", "masked.onnx"))


def _write_beside_onnx(folder: Path) -> None:
    """External data, and what a file must not read."""
    for name, data in _onnx_files().items():
        if not name.endswith(".onnx"):
            (folder / name).write_bytes(data)
    (folder.parent / "secret").write_bytes(b"\0" * (1 << 20))
    os.symlink(folder.parent / "secret", folder / "link")
    os.mkfifo(folder / "pipe")


_PYTHON = tuple(map(os.path.realpath, (sys.prefix, sys.base_prefix)))


def _read_onnx(path: Path) -> None:
    """The graph and every weight, and no file elsewhere."""
    from wsesim.toolchain.onnx_model import understand_onnx

    with files_read() as opened:
        try:
            model = understand_onnx(str(path))
            all_of(*(lambda name=name: model.weights.load(name) for name in model.weights.names()))
        finally:
            inside = (os.path.realpath(path.parent), *_PYTHON)
            names = [name for name in opened if not os.path.realpath(name).startswith(inside)]
            elsewhere = [name for name in names if not name.endswith((".py", ".pyc"))]
    assert not elsewhere, elsewhere


@cache
def _pt2_seeds() -> tuple[bytes, ...]:
    def make() -> tuple[bytes, ...]:
        import torch

        from wsesim_compiler.frontends.torch_export import export
        from wsesim_models.config import config
        from wsesim_models.llama import Llama

        small = dataclasses.replace(config("tiny"), vocab_size=8, layers=1, ffn_dim=32)
        files = []
        for model in (small, dataclasses.replace(small, qkv_bias=True)):
            torch.export.save(export(Llama(model)), saved := io.BytesIO())
            files.append(saved.getvalue())
        return tuple(files)

    zeros()  # once, for all children
    return apart(make)


def _read_pt2(path: Path) -> None:
    from wsesim_compiler.frontends.exported import read_exported
    from wsesim_compiler.frontends.torch_export import from_exported
    from wsesim_compiler.lower import understand

    understand(from_exported(read_exported(path)))


@cache
def stages() -> dict[str, str]:
    """The text of each stage of tiny's lowering, on a wafer of sixteen PEs."""

    def make() -> dict[str, str]:
        import wsesim
        from wsesim.toolchain.compiling import stage_text

        seen: dict[str, object] = {}
        wsesim.compile("tiny", machine=MACHINE, max_context=64, observe=seen.__setitem__)
        return {name: stage_text(value) for name, value in seen.items()}

    return apart(make)


def write_text(stage: str, folder: Path) -> Path:
    """The file of a stage's text in `folder`, written once."""
    path = folder / f"{stage}.txt"
    if not path.exists():
        path.write_text(stages()[stage], encoding="utf-8")
    return path


def _graph_seeds() -> tuple[bytes, ...]:
    return tuple(stages()[name].encode() for name in ("graph", "canonicalize", "recognize"))


def _read_text(path: Path) -> None:
    from wsesim.toolchain.compiling import compile_from
    from wsesim.toolchain.options import Lowering

    compile_from(str(path), Lowering(machine=MACHINE, max_context=64))


def _read_program(path: Path) -> None:
    """Reads the Program and simulates a step of it. A verified Program must be one that can be simulated."""
    import wsesim

    wsesim.simulate(str(path), context=3)


GRAPH_WORDS = (
    *NUMBER_WORDS,
    *("[", "]", "(", ")", "{", "}", "%", "@", "=", ":", ",", "//", '"', '"a b"', '"\\ud800"', '"\\n"', "\0", "\u2028"),
    *("T", "C", "f32", "i64", "bool", "f8", "[T, 32] f32", "[] f32", "[0] f32", "[-1] f32", "[1e999] f32", "([] f32)"),
    *(
        "true",
        "none",
        "(1, 2)",
        "(" * 2000,
        "(" * 300 + ")" * 300,
        "add",
        "view",
        "slice",
        "reshape",
        "axis=9",
        "dim=-9",
    ),
    "[" + "2, " * 2000 + "2] f32",
    f"[{'9' * 5000}] f32",
)
PROGRAM_WORDS = (
    *NUMBER_WORDS,
    *("None", "True", "()", "(1,)", "''", "'a'", "'x'", "'columns'", "{}", "[]", "[1]", "1j", "b'a'", "...", "f''"),
    *(
        "Fraction('1/0')",
        "Fraction('-1/3')",
        "Fraction('1e999')",
        "Fraction(1)",
        "frozenset(((0, 0),))",
        "frozenset(1)",
    ),
    *(
        "Rect(x=0, y=0, columns=1, rows=1)",
        "Uniform()",
        "Heads()",
        "__import__('os')",
        "(" * 300,
        "[" * 100 + "]" * 100,
    ),
    *("-" * 5000 + "1", "1+" * 3000 + "1", "'" + "a" * 5000 + "'", "\0", "\r", "#", "*", "**{}", "x=1", "="),
)

_FACTORIES = (
    b"""import torch
from torch import nn

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(8, 4)
        self.head = nn.Linear(4, 8, bias=False)

    def forward(self, tokens):
        return self.head(self.table(tokens))

def factory():
    return Small()
""",
    b"""import dataclasses

from wsesim_models.config import config
from wsesim_models.llama import Llama

def factory():
    return Llama(dataclasses.replace(config("tiny"), layers=1))
""",
)
_FACTORY_WORDS = (
    *(
        "None",
        "0",
        "-1",
        "1",
        "[]",
        "{}",
        "''",
        "lambda: 1",
        "1 / 0",
        "(",
        ")",
        ":",
        "\n",
        "    ",
        "\0",
        "pass",
        "return",
    ),
    *("raise BaseException('a\\nb')", "raise KeyboardInterrupt", "raise SystemExit(0)", "raise GeneratorExit"),
    *(
        "raise StopIteration",
        "raise MemoryError",
        "raise RecursionError",
        "factory()",
        "nn.Linear(4, 4)",
        "torch.ones(2)",
    ),
    *("raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})", "import nothing_there", "global factory"),
    *(
        "def factory(): return factory()",
        "factory = 1",
        "del factory",
        "yield",
        "await 1",
        "nn.Module()",
        "é",
        "'\\ud800'",
    ),
    *("raise ValueError('x' * 9999)", "raise ValueError('a\\rb\\x1b[2J')", "raise ExceptionGroup('g', [ValueError()])"),
    *(
        "import warnings; warnings.warn('a')",
        "print('a')",
        "import sys; sys.exit('a')",
        "__name__ = 1",
        "torch.compile",
    ),
)


def _read_factory(path: Path) -> None:
    import wsesim
    from wsesim.signals import guarded

    def compile_it() -> int:
        wsesim.compile(f"{path}:factory", machine=MACHINE, max_context=64)
        return 0

    guarded(compile_it)  # like a command: without a signal, a KeyboardInterrupt comes from the file


def _understood(seed: bytes) -> bool:
    """The other factory's module is no Llama."""
    return b"Llama" in seed


def _insert_statement(rng: Random, data: bytes) -> bytes:
    """A word as a statement, as deep as a line that is there."""
    lines = data.decode().split("\n")
    at = rng.randrange(len(lines))
    indentation = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
    return "\n".join([*lines[:at], indentation + rng.choice(_FACTORY_WORDS), *lines[at:]]).encode()


AREAS = (
    Area(
        "onnx",
        "model.onnx",
        _onnx_seeds,
        damage_onnx,
        _read_onnx,
        _write_beside_onnx,
        share=0.5,
        room_bytes=500_000_000,
        warm=lambda seed: seed != _onnx_files()["masked.onnx"],  # its graph is read, but is no model
    ),
    Area("pt2", "model.pt2", _pt2_seeds, damage_zip, _read_pt2, share=0.1, room_bytes=_SMALL_ROOM_BYTES),
    Area(
        "graph",
        "graph.txt",
        _graph_seeds,
        one_to_three(*[damage_text(GRAPH_WORDS)] * 12, damage_bytes),
        _read_text,
        share=0.5,
    ),
    Area(
        "partition",
        "partition.txt",
        lambda: (stages()["partition"].encode(),),
        one_to_three(*[damage_text(GRAPH_WORDS)] * 12, damage_bytes),
        _read_text,
        share=0.5,
    ),
    Area(
        "program",
        "program.txt",
        lambda: (stages()["emit"].encode(),),
        one_to_three(*[damage_text(PROGRAM_WORDS)] * 12, damage_bytes),
        _read_program,
        share=0.5,
    ),
    Area(
        "factory",
        "factory.py",
        lambda: _FACTORIES,
        one_to_three(_insert_statement, _insert_statement, damage_text(_FACTORY_WORDS)),
        _read_factory,
        share=0.02,
        warm=_understood,
    ),
)
