"""No reader fails on damaged files. The harness itself is tested with readers that do fail."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.command import MODULES
from tests.fuzz.judge import FAILURES, KINDS, ROOT


def run(*arguments: str, module: str = "tests.fuzz") -> subprocess.CompletedProcess[str]:
    """The harness in a process of its own: it forks, and this one has threads."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": PATHS})


PATHS = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))


def found(folder: Path, cases: int, *areas: str) -> dict[str, Any]:
    """The summary of so many cases of these areas."""
    only = [word for area in areas for word in ("--only", area)]
    ran = run("--json", "--jobs", "1", "--cases", str(cases), "--failures", str(folder), *only)
    assert ran.stdout, ran.stderr
    summary: dict[str, Any] = json.loads(ran.stdout)
    assert not summary["failures"], "\n".join(map(str, summary["failures"]))
    assert ran.returncode == 0, ran.stderr
    refusing = {area for area, row in summary["areas"].items() if row["clean"]}
    assert refusing == set(areas) - {"steps"}  # which are simulated again where they cannot be read
    areas_found: dict[str, Any] = summary["areas"]
    return areas_found


GROUPS = {
    "weights": ("safetensors", "shard-index", "config", "gguf"),
    "tokenizers": ("tokenizer.json", "tokenizer-config", "chat-template", "tokenizer.model", "gguf-tokenizer"),
    "texts": ("graph", "partition", "program", "factory"),
    "files": ("onnx", "pt2"),
    "tables": ("machine", "placement", "software", "defects", "http-body", "steps", "report"),
    "command lines": ("options",),
}


def test_every_area_is_run() -> None:
    areas = [area.name for name in MODULES for area in importlib.import_module(name).AREAS]
    assert sorted(areas) == sorted(name for group in GROUPS.values() for name in group)


# A class each, so that pytest-xdist hands them to different processes.


class TestModels:
    def test_weights(self, tmp_path: Path) -> None:
        found(tmp_path, 2000, *GROUPS["weights"])

    def test_tokenizers(self, tmp_path: Path) -> None:
        found(tmp_path, 2000, *GROUPS["tokenizers"])


class TestGraphs:
    def test_texts(self, tmp_path: Path) -> None:
        found(tmp_path, 800, *GROUPS["texts"])

    def test_files(self, tmp_path: Path) -> None:
        onnx = found(tmp_path, 300, *GROUPS["files"])["onnx"]
        assert onnx["accepted"] < onnx["clean"]
        assert {"OnnxFileError", "UnsupportedOperatorError"} <= set(onnx["errors"])


class TestSettings:
    def test_tables(self, tmp_path: Path) -> None:
        found(tmp_path, 1500, *GROUPS["tables"])

    def test_command_lines(self, tmp_path: Path) -> None:
        found(tmp_path, 150, *GROUPS["command lines"])


@cache
def probes() -> dict[str, Any]:
    ran = run("--json", "--cases", "17", "--jobs", "2", "--hang-s", "0.5", module="tests.fuzz_probes")
    assert ran.returncode == 1, ran.stderr
    summary: dict[str, Any] = json.loads(ran.stdout)
    return summary


EXPECTED = {
    "accepts": "accepted",
    "refuses": "clean",
    "refuses_in_two_lines": "message",
    "refuses_in_silence": "message",
    "echoes": "message",
    "raises": "traceback",
    "panics": "traceback",
    "warns": "traceback",
    "loops": "hang",
    "waits_in_native_code": "hang",
    "takes_memory": "crash",
    "recurses": "traceback",
    "leaves": "crash",
    "writes_elsewhere": "traceback",
    "runs_a_program": "traceback",
    "calls": "traceback",
}


class TestHarness:
    @pytest.mark.parametrize(("reader", "kind"), EXPECTED.items(), ids=EXPECTED)
    def test_what_a_reader_does_is_told(self, reader: str, kind: str) -> None:
        counts = probes()["areas"][reader]
        assert {name: counts[name] for name in KINDS if counts[name]} == {kind: 1}
        failures = [failure for failure in probes()["failures"] if failure["area"] == reader]
        assert [failure["kind"] for failure in failures] == [kind] * (kind in FAILURES)

    @pytest.mark.parametrize("reader", ["raises", "loops", "waits_in_native_code", "takes_memory", "recurses"])
    def test_the_place_is_told(self, reader: str) -> None:
        (failure,) = (failure for failure in probes()["failures"] if failure["area"] == reader)
        file, _, line = failure["place"].rpartition(":")
        assert file.endswith("fuzz_probes.py") and f"def {reader}(" in text_before(Path(ROOT, file), int(line))

    def test_cases_after_a_crash_are_run(self) -> None:
        ran = run("--json", "--only", "aborts_now_and_then", "--cases", "9", module="tests.fuzz_probes")
        summary = json.loads(ran.stdout)
        counts = summary["areas"]["aborts_now_and_then"]
        assert (counts["crash"], counts["accepted"]) == (3, 6)
        (failure,) = summary["failures"]
        assert (failure["what"], failure["case"], failure["count"]) == ("SIGABRT", 1, 3)

    @pytest.mark.parametrize(
        ("reader", "words"),
        [("raises", "ValueError: wrong"), ("warns", "RuntimeWarning: odd"), ("writes_elsewhere", "Escaped: open")],
    )
    def test_a_case_is_run_again_with_its_traceback(self, reader: str, words: str, tmp_path: Path) -> None:
        ran = run("--only", reader, "--case", "7", "--failures", str(tmp_path), module="tests.fuzz_probes")
        assert ran.returncode == 1
        assert f"in {reader}" in ran.stderr and words in ran.stderr

    def test_a_case_is_a_function_of_seed_and_number(self, tmp_path: Path) -> None:
        """In one run and in another."""
        for folder, seed, case in (("a", 3, 7), ("b", 3, 7), ("c", 3, 8), ("d", 4, 7)):
            words = "--case", str(case), "--seed", str(seed), "--failures", str(tmp_path / folder)
            assert run("--only", "accepts", *words, module="tests.fuzz_probes").returncode == 0
        first, again, *others = (next(path.iterdir()).read_bytes() for path in sorted(tmp_path.iterdir()))
        assert first == again and first not in others

    def test_failures_are_kept_and_the_table_says_where(self, tmp_path: Path) -> None:
        ran = run("--only", "raises", "--cases", "5", "--failures", str(tmp_path), module="tests.fuzz_probes")
        assert ran.returncode == 1
        assert [path.name for path in tmp_path.iterdir()] == ["raises-0-a.txt"]
        assert str(tmp_path) in ran.stdout and "--only raises --case 0 --seed 0" in ran.stdout


def text_before(path: Path, line: int) -> str:
    """The nearest line that begins a function, at this line or before it."""
    lines = path.read_text(encoding="utf-8").splitlines()[:line]
    return next(text for text in reversed(lines) if text.startswith("def "))
