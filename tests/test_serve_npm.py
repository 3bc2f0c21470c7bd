"""The npm client, unmodified, against a server on loopback. Needs node and npm; elsewhere these tests are skipped."""

from __future__ import annotations

import json
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


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script beside an installation of the client."""
    folder = tmp_path_factory.mktemp("npm")
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix", str(folder), PACKAGE]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return Path(shutil.copy(SCRIPT, folder))


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
    gate = Gate(tiny_session(4).engine.arithmetic)
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
