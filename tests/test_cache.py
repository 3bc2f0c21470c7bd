"""Kept files: a run continues without them, whatever is wrong with the disk."""

from __future__ import annotations

import os
import re
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_line import run
from wsesim import cache
from wsesim.cache import UNUSED_S, keep, read_kept

Capsys = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_done", set())


@pytest.fixture
def small_disk() -> Iterator[int]:
    """A limit on the size of files. Its error differs from that of a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield 1000
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_is_kept_is_read(tmp_path: Path, capsys: Capsys) -> None:
    path = tmp_path / "a" / "b" / "kept.txt"
    assert read_kept(path, bytes.decode) is None
    keep(path, "text ä")
    assert read_kept(path, bytes.decode) == "text ä"
    keep(path, b"bytes")
    assert read_kept(path, bytes.decode) == "bytes"
    assert [*path.parent.iterdir()] == [path]
    assert capsys.readouterr().err == ""


def test_a_full_disk_is_said_once_and_leaves_the_old_file(tmp_path: Path, small_disk: int, capsys: Capsys) -> None:
    path = tmp_path / "kept.txt"
    keep(path, "old")
    for _ in range(3):
        keep(path, "x" * (small_disk + 1))
    assert capsys.readouterr().err == f"cannot keep {path}: File too large; going on without\n"
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_text() == "old"


@pytest.mark.parametrize("cause", [ValueError, KeyError, RecursionError, MemoryError, ImportError, AssertionError])
def test_whatever_parsing_raises_is_damage(tmp_path: Path, cause: type[Exception], capsys: Capsys) -> None:
    def parse(data: bytes) -> str:
        raise cause(data)

    for name in ("first", "second"):
        keep(tmp_path / name, "text")
        assert read_kept(tmp_path / name, parse) is None
    assert capsys.readouterr().err == f"{tmp_path / 'first'} is damaged or cannot be read: it is made again\n"


def test_ctrl_c_while_parsing_is_not_damage(tmp_path: Path) -> None:
    def parse(data: bytes) -> str:
        raise KeyboardInterrupt

    keep(tmp_path / "kept", "text")
    with pytest.raises(KeyboardInterrupt):
        read_kept(tmp_path / "kept", parse)


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to nothing", "link to itself", "link to a pipe"])
def test_what_else_is_in_the_place_makes_way(tmp_path: Path, kind: str, capsys: Capsys) -> None:
    path = tmp_path / "kept.txt"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a pipe":
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to(tmp_path / "pipe")
    else:
        path.symlink_to(path if kind == "link to itself" else tmp_path / "absent")
    assert read_kept(path, bytes.decode) is None
    keep(path, "text")
    assert path.lstat().st_size == 4
    assert read_kept(path, bytes.decode) == "text"
    assert "cannot keep" not in capsys.readouterr().err


def test_a_file_where_the_folder_should_be(tmp_path: Path, capsys: Capsys) -> None:
    (tmp_path / "file").write_text("mine")
    path = tmp_path / "file" / "programs" / "kept.txt"
    assert read_kept(path, bytes.decode) is None
    keep(path, "text")
    assert capsys.readouterr().err == f"cannot keep {path}: Not a directory; going on without\n"
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: Capsys) -> None:
    tmp_path.chmod(0o500)
    keep(tmp_path / "kept.txt", "text")
    assert capsys.readouterr().err == f"cannot keep {tmp_path / 'kept.txt'}: Permission denied; going on without\n"
    tmp_path.chmod(0o700)


def test_what_nobody_used_of_late_is_removed(tmp_path: Path) -> None:
    now = time.time()
    ages_s = {
        "old.txt": UNUSED_S + 60,
        "recent.txt": UNUSED_S - 60,
        "read.txt": UNUSED_S + 60,
        "old.nbc": UNUSED_S + 60,
        "old.txt.7.8.partial": UNUSED_S + 60,
    }
    for name, age_s in ages_s.items():
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (now - age_s, now - age_s))
    assert read_kept(tmp_path / "read.txt", bytes.decode) == "read.txt"
    keep(tmp_path / "new.txt", "text")
    assert {path.name for path in tmp_path.iterdir()} == {"new.txt", "read.txt", "recent.txt", "old.nbc"}


def test_many_threads_keep_one_file(tmp_path: Path, capsys: Capsys) -> None:
    path = tmp_path / "kept.txt"
    seen: list[str | None] = []

    def work(letter: str) -> None:
        for _ in range(50):
            keep(path, letter * 5000)
            seen.append(read_kept(path, bytes.decode))

    threads = [threading.Thread(target=work, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {value for value in seen if value} <= {letter * 5000 for letter in "abcd"}
    assert None not in seen
    assert [*tmp_path.iterdir()] == [path]
    assert capsys.readouterr().err == ""


# commands

COMPILE = ("compile", "tiny", "--machine", "toy4x4")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that is made by the first command."""
    monkeypatch.setenv("WSESIM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def test_a_command_goes_on_if_the_disk_is_full(folder: Path, small_disk: int, capsys: Capsys) -> None:
    done = run(capsys, *COMPILE)
    assert done.status == 0
    assert "tiny on toy4x4" in done.out
    for kind in ("graphs", "programs"):
        assert re.search(rf"^cannot keep {folder}/{kind}/\S+: File too large; going on without$", done.err, re.M)
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_an_output_that_cannot_be_written_is_an_error(folder: Path, small_disk: int, capsys: Capsys) -> None:
    done = run(capsys, *COMPILE, "-o", "out.program")
    assert (done.status, done.out) == (2, "")
    assert done.err.splitlines()[-1] == "error: -o out.program: File too large"
    assert not Path("out.program").exists()


def test_a_command_goes_on_without_a_folder_for_its_cache(folder: Path, capsys: Capsys) -> None:
    folder.write_text("mine")
    done = run(capsys, *COMPILE)
    assert (done.status, done.err.count("Not a directory; going on without\n")) == (0, 2)
    assert folder.read_text() == "mine"


def test_folders_in_place_of_kept_files_are_replaced(folder: Path, capsys: Capsys) -> None:
    first = run(capsys, *COMPILE)
    kept = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.parent.name for path in kept} == {"graphs", "programs"}
    for path in kept:
        path.unlink()
        path.mkdir()
    second = run(capsys, *COMPILE)
    assert (second.status, second.out) == (0, first.out)
    assert second.err.count("is damaged or cannot be read: it is made again\n") == 2
    assert all(path.is_file() for path in kept)
    assert run(capsys, *COMPILE).err == ""
