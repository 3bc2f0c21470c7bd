"""The npm client, unmodified, against a server on loopback. Needs node, npm and its registry.

Without node or npm these tests are skipped. Where the client cannot be installed they are skipped too, except in CI:
there (`CI` is set in the environment) they fail.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving import Gate, served, tiny_api, tiny_session

PACKAGE = "@cerebras/cerebras_cloud_sdk@1.91.0"
SCRIPT = Path(__file__).parent / "clients" / "npm_client.mjs"
CALL = {"model": "tiny", "prompt": "It was a dark", "max_tokens": 4, "seed": 1}

pytestmark = pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="node and npm are not here")


INSTALL = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--fetch-timeout=30000"]
RETRIES = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"]


def installed(folder: Path, ci: bool) -> Path:
    """The script beside an installation of the client. Without one it skips, and in CI it fails."""
    command = [*INSTALL, *([] if ci else RETRIES), "--prefix", str(folder), PACKAGE]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
        reason = f"npm cannot install {PACKAGE} (is its registry reachable?): {said.partition(chr(10))[0]}"
        (pytest.fail if ci else pytest.skip)(reason)
    return Path(shutil.copy(SCRIPT, folder))


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(tmp_path_factory.mktemp("npm"), bool(os.environ.get("CI")))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(tiny_api()) as found:
        yield found


def lines(script: Path, url: str, **call: Any) -> list[Any]:
    command = ["node", str(script), url, json.dumps(CALL | call)]
    out = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return [json.loads(line) for line in out.splitlines()]


def test_replies_and_streams(script: Path, url: str) -> None:
    (reply,) = lines(script, url)
    assert (reply["object"], reply["usage"]["completion_tokens"]) == ("text_completion", 4)
    assert reply["time_info"]["total_time"] > 0
    chunks = lines(script, url, stream=True)
    assert "".join(c["choices"][0]["text"] for c in chunks) == reply["choices"][0]["text"]
    assert chunks[-1]["usage"] == reply["usage"]


def test_errors_are_of_its_classes_and_print_well(script: Path, url: str) -> None:
    assert lines(script, url, model="gpt")[0]["error"] == "NotFoundError"
    (error,) = lines(script, url, temperature=9)
    assert (error["error"], error["status"]) == ("BadRequestError", 400)
    assert error["message"] == "400 body.temperature: input should be less than or equal to 1.5"


def test_each_event_arrives_before_the_next_one_is_made(script: Path) -> None:
    gate = Gate(tiny_session(4).loop.arithmetic)
    with served(tiny_api(arithmetic=gate)) as url:
        command = ["node", str(script), url, json.dumps(CALL | {"stream": True})]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout is not None
            assert json.loads(client.stdout.readline())["choices"][0]["text"] == ""
            for passes in range(1, 5):
                gate.let(1)
                assert len(json.loads(client.stdout.readline())["choices"][0]["text"]) == 1
                assert gate.passes <= passes + 1
            assert json.loads(client.stdout.readline())["usage"]


@pytest.mark.parametrize(("ci", "outcome"), [(False, pytest.skip.Exception), (True, pytest.fail.Exception)])
def test_without_the_registry_these_tests_are_skipped_and_fail_in_ci(
    ci: bool, outcome: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")  # the port of `discard`: nobody listens
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    with pytest.raises(outcome, match=r"npm cannot install @cerebras.*: npm (ERR!|error)"):
        installed(tmp_path, ci)
