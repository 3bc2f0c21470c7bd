"""Compiled kernels on disk: damaged files are compiled again, and file names change with every edit of a source."""

from __future__ import annotations

import ast
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.small_kernel import COMPILED, READ, doubled, run_doubled
from tests.test_imports import MODULES, imported
from wsesim import cache, digests, jit

Capsys = pytest.CaptureFixture[str]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of `doubled`, compiled once."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "_done", set())
    assert run_doubled() == COMPILED
    (file,) = cache.kernels_dir().iterdir()
    return file


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def from_an_older_numba(path: Path) -> None:
    """A valid file that names a class which no longer exists."""
    code = b"cnumba.core.gone\nGone\n."
    path.write_bytes(hashlib.sha256(code).digest() + code)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "a bit of the machine code": lambda path: flip(path, path.stat().st_size // 2),
    "a bit of the checksum": lambda path: flip(path, 3),
    "text": lambda path: path.write_text("not machine code"),
    "an older numba's": from_an_older_numba,
    "folder": replace_by_folder,
    "pipe": replace_by_pipe,
    "unreadable": lambda path: path.chmod(0),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_kernel_is_compiled_again_once_and_said(kept: Path, damage: str, capsys: Capsys) -> None:
    DAMAGES[damage](kept)
    if damage == "unreadable" and os.access(kept, os.R_OK):
        pytest.skip("root reads everything")
    assert run_doubled() == COMPILED
    assert capsys.readouterr().err == f"{kept} is damaged or cannot be read: it is made again\n"
    assert run_doubled() == READ
    assert capsys.readouterr().err == ""


def test_a_folder_with_files_in_place_of_a_kernel_stays(kept: Path, capsys: Capsys) -> None:
    replace_by_folder(kept)
    (kept / "notes").touch()
    assert run_doubled() == COMPILED
    assert "is made again\n" in (said := capsys.readouterr().err)
    assert said.endswith(f"cannot keep {kept}: Directory not empty; going on without\n")
    assert (kept / "notes").exists()


def test_damage_is_said_in_one_line_of_a_process(tmp_path: Path) -> None:
    def run() -> tuple[str, str]:
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
        command = [sys.executable, "-c", "from tests.small_kernel import run_doubled; print(run_doubled())"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout, done.stderr

    assert run() == (f"{COMPILED}\n", "")
    for file in (tmp_path / "kernels").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert run() == (f"{COMPILED}\n", f"{file} is damaged or cannot be read: it is made again\n")
    assert run() == (f"{READ}\n", "")


def test_one_file_for_each_signature(kept: Path) -> None:
    kernel = jit.njit(_nrt=False)(doubled)
    for dtype in (np.int64, np.float32, np.float64):
        kernel(np.ones(3, dtype))
    assert len([*kept.parent.iterdir()]) == 3
    again = jit.njit(_nrt=False)(doubled)
    values = np.full(2, 1.25, np.float32)
    again(values)
    assert values.dtype == np.float32 and values.tolist() == [2.5, 2.5]
    assert sum(again.stats.cache_hits.values()) == 1


def test_numba_s_other_users_keep_their_own_cache(kept: Path) -> None:
    script = "import wsesim.engine.flow.event_loop, numba; print(repr(numba.config.CACHE_DIR))"
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "''\n"


# digests


def kernel_modules() -> list[str]:
    return [name for name, tree in MODULES.items() if "wsesim.jit" in imported_whole(name, tree)]


def imported_whole(name: str, tree: ast.Module) -> set[str]:
    """Modules that names are imported from, too."""
    return {module if module in MODULES else module.rpartition(".")[0] for module in imported(name, tree)}


COMPILERS = {"numba.njit", "numba.jit", "numba.vectorize", "numba.guvectorize", "numba.cfunc", "numba.stencil"}


def test_only_jit_compiles() -> None:
    """What numba itself keeps would miss edits in other files."""
    for name, tree in MODULES.items():
        used = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                used |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                used.add(f"{node.value.id}.{node.attr}")
        assert name == "wsesim.jit" or not used & COMPILERS, name


@pytest.mark.parametrize("module", kernel_modules())
def test_a_kernel_s_digest_covers_all_that_its_module_imports(module: str) -> None:
    """Compared with imports found by parsing."""
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in MODULES and name not in (jit.__name__, *reached):
            reached.add(name)
            waiting += imported(name, MODULES[name])
            waiting += imported_whole(name, MODULES[name])
    assert reached <= set(digests.sources(module, without=jit.__name__))


def test_the_kernels_are_found() -> None:
    assert {"wsesim.engine.flow.event_loop", "wsesim.execute.tiles"} <= set(kernel_modules())
    assert {"wsesim.engine.flow.event_loop", "wsesim.engine.flow.state", "wsesim.engine.graph.taskgraph"} <= set(
        digests.sources("wsesim.engine.exact.line_kernels")
    )


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """package(text): the digest of a module that imports, by way of another, one with this text."""
    folder = tmp_path / "layered"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "top.py").write_text("import numpy\nfrom layered import (\n    middle,  # a comment\n)\n")
    (folder / "middle.py").write_text("def late():\n    from layered.deep import CONSTANT\n    import layered.top\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(digests, "OURS", ("layered",))

    def digest(text: str) -> str:
        (folder / "deep.py").write_text(text)
        for known in (digests.sources_digest, digests._imports, digests._text, digests._file):
            known.cache_clear()
        return digests.sources_digest("layered.top")

    return digest


def test_an_edit_far_away_is_another_digest(package: Callable[[str], str]) -> None:
    first = package("CONSTANT = 1\n")
    assert package("CONSTANT = 2\n") != first
    assert package("CONSTANT = 1\n") == first


def test_code_of_other_sources_is_not_used(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_doubled() == READ
    assert jit.is_compiled("tests.small_kernel", "doubled")
    monkeypatch.setattr(jit, "sources_digest", lambda module, without: "edited")
    assert not jit.is_compiled("tests.small_kernel", "doubled")
    assert run_doubled() == COMPILED
    assert len([*kept.parent.iterdir()]) == 2
