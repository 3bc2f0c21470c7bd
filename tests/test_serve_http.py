"""The server behind a socket: bodies, headers, keys, limits, clients that misbehave, and shutdown."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cerebras.cloud.sdk as cerebras
import httpx
import msgpack
import openai
import pytest

from tests.command_line import start
from tests.serving import Gate, served, tiny_api, tiny_session
from wsesim.serve.api import Api
from wsesim.serve.app import make_app
from wsesim.serve.errors import ApiError
from wsesim.serve.limits import Bucket, Limits, Quota

PROMPT = "It was a dark and stormy night"
BODY: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "max_tokens": 8, "seed": 1}
ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "completion.py"


@pytest.fixture(scope="module")
def api() -> Api:
    return tiny_api(body_bytes=1_000_000, body_s=2.0)


@pytest.fixture(scope="module")
def url(api: Api) -> Iterator[str]:
    with served(api) as found:
        yield found


def post(
    url: str, body: Any = None, content: bytes | None = None, path: str = "/v1/completions", **headers: str
) -> Any:
    raw = json.dumps(BODY if body is None else body).encode() if content is None else content
    sent = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(url + path, content=raw, headers=sent, timeout=60)


def text_of(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["text"])


def until(holds: Any, within_s: float = 20.0) -> None:
    """Waits for something that another thread does."""
    ends = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < ends, "it did not come to that"
        time.sleep(0.005)


# Bodies


def test_bodies_may_be_msgpack_and_gzip_in_any_combination(url: str) -> None:
    packed, plain = msgpack.packb(BODY), json.dumps(BODY).encode()
    expected = text_of(post(url))
    kind = {"content_type": "application/vnd.msgpack"}
    assert text_of(post(url, content=packed, **kind)) == expected
    assert text_of(post(url, content=gzip.compress(packed), content_encoding="gzip", **kind)) == expected
    assert text_of(post(url, content=gzip.compress(plain), content_encoding="gzip")) == expected
    members = gzip.compress(plain[:20]) + gzip.compress(plain[20:])
    assert text_of(post(url, content=members, content_encoding="gzip")) == expected
    assert text_of(post(url, content=plain, content_type="application/json; charset=utf-8")) == expected


WRONG = [
    ({"content": b""}, 400, "the body is not JSON"),
    ({"content": b"{"}, 400, "the body is not JSON"),
    ({"content": b"\xff\xfe"}, 400, "the body is not JSON"),
    ({"content": b"[1]"}, 400, "body: an object is needed, this is a list"),
    ({"content": b'{"model": "tiny", "temperature": NaN}'}, 400, "the body is not JSON: NaN is not a JSON number"),
    ({"content": b'{"model": "tiny", "seed": 1' + b"0" * 5000 + b"}"}, 400, "the body is not JSON"),
    ({"content": b'{"a":' * 100_000}, 400, "the body is not JSON"),
    ({"content": b'{"prompt":' + b"[" * 50 + b"]" * 50 + b"}"}, 400, "body: nested deeper than 32 levels"),
    ({"content": b"x" * 1_000_001}, 413, "the body is larger than 1,000,000 bytes"),
    ({"content": b"{}", "content_type": "text/plain"}, 415, "Content-Type 'text/plain' is not read"),
    ({"content": b"{}", "content_encoding": "br"}, 415, "Content-Encoding 'br' is not read"),
    ({"content": b"{}", "content_encoding": "gzip"}, 400, "the body is not gzip"),
    (
        {"content": gzip.compress(b"{}")[:-9], "content_encoding": "gzip"},
        400,
        "the body ends in the middle of its gzip",
    ),
    ({"content": gzip.compress(bytes(200_000_000)), "content_encoding": "gzip"}, 413, "the body is larger"),
    ({"content": b"\xc1", "content_type": "application/vnd.msgpack"}, 400, "the body is not msgpack"),
    ({"content": b"\xdd\xff\xff\xff\xff", "content_type": "application/vnd.msgpack"}, 400, "the body is not msgpack"),
    ({"content": b"\x91" * 100_000, "content_type": "application/vnd.msgpack"}, 400, "the body is not msgpack"),
    ({"content": b"\x81\x01\x01", "content_type": "application/vnd.msgpack"}, 400, "the body is not msgpack"),
    ({"body": {"model": "tiny"} | {f"x{i}": 1 for i in range(2000)}}, 400, "body: 2001 properties are too many"),
    ({"body": {"model": "\ud800", "prompt": "a"}}, 404, "Model does not exist"),
    ({"body": {"prompt": "a"}}, 400, "body.model: field required"),
    ({"body": {"model": "tiny", "\ud800": 1}}, 400, "body.\\ud800: property 'body.\\ud800' is unsupported"),
    (
        {"content": gzip.compress(b"") * 30_000, "content_encoding": "gzip"},
        400,
        "the body has more than 100 gzip members",
    ),
    ({"body": {**BODY, "prompt": "x" * 900_000}}, 400, "Please reduce the length of the messages"),
    ({"body": {**BODY, "prompt": [[65]] * 150_000}}, 400, "body.prompt: 150000 prompts are more than 128"),
    ({"body": {**BODY, "arrival_time": 1e15}}, 400, "body.arrival_time: input should be less than or equal to 1000000"),
]


@pytest.mark.parametrize(("sent", "status", "said"), WRONG, ids=[f"{status} {said}" for _, status, said in WRONG])
def test_a_wrong_body_is_told_what_is_wrong_in_both_forms(url: str, sent: Any, status: int, said: str) -> None:
    response = post(url, **sent)
    assert response.status_code == status, response.text
    body = response.json()
    assert body["message"].startswith(said)
    assert body["error"] == {key: body[key] for key in ("message", "type", "param", "code")}
    assert "status_code" not in body
    assert text_of(post(url, {**BODY, "max_tokens": 1}))  # and nothing else is disturbed


def test_fifty_megabytes_are_refused_while_they_come(url: str) -> None:
    sent = 0

    def parts() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(50):
            sent += 1
            yield bytes(1_000_000)

    try:
        assert httpx.post(url + "/v1/completions", content=parts(), timeout=60).status_code == 413
    except httpx.WriteError:
        assert sent < 50  # the server had answered and closed before all was sent
    assert text_of(post(url))


def test_a_body_that_does_not_come_times_out_and_is_not_tried_again(url: str) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{"
    with socket.create_connection(_address(url), timeout=30) as client:
        client.sendall(head)
        answer = b""
        while part := client.recv(65536):  # the server closes
            answer += part
    assert answer.startswith(b"HTTP/1.1 408") and b"x-should-retry: false" in answer


# Routes and headers


def test_routes_beside_the_completions(url: str) -> None:
    assert httpx.get(url + "/v1/tcp_warming").status_code == 200
    assert httpx.get(url + "/health").json() == {"status": "ok", "models": ["tiny"]}
    assert httpx.get(url + "/v1/models/ti%6ey").json()["id"] == "tiny"
    assert httpx.get(url + "/v1/models/org/name").status_code == 404
    assert (
        text_of(post(url, path="/v1/v1/completions")) == text_of(post(url)) == text_of(post(url, path="/completions"))
    )
    assert openai.OpenAI(api_key="k", base_url=url).models.retrieve("tiny").id == "tiny"
    for response, status in ((httpx.get(url + "/nope"), 404), (httpx.put(url + "/v1/models"), 405)):
        assert response.status_code == status
        assert response.json()["error"]["message"].endswith("is not a route of this server")
    assert "/v1/completions" in httpx.get(url + "/openapi.json").json()["paths"]


def test_every_answer_has_the_rate_limits_and_a_request_id(url: str) -> None:
    names = [f"x-ratelimit-{part}-{of}" for part in ("limit", "remaining", "reset")
             for of in ("requests-day", "tokens-minute")]  # fmt: skip
    for response in (
        post(url),
        post(url, {**BODY, "n": 0}),
        post(url, {**BODY, "stream": True}),
        post(url, content=b"{"),
    ):
        assert all(float(response.headers[name]) >= 0 for name in names)
        assert response.headers["x-request-id"]


def test_metrics_count_what_was_answered() -> None:
    with served(tiny_api()) as url:
        post(url)
        lines = httpx.get(url + "/metrics").text.splitlines()
    assert 'wsesim_answers_total{route="/v1/completions",status="200"} 1.0' in lines
    assert 'wsesim_tokens_total{kind="completion",model="tiny"} 8.0' in lines
    assert 'wsesim_slots{model="tiny"} 4.0' in lines
    assert 'wsesim_in_flight{model="tiny"} 0.0' in lines


def test_keys_are_asked_for_where_there_are_any() -> None:
    with served(tiny_api(), keys=["one", "zwei-\N{BLACK STAR}"]) as url:
        for given in ("", "Bearer two", "Basic one", "one", "Bearer on"):
            response = post(url, authorization=given)
            assert (response.status_code, response.json()["code"]) == (401, "wrong_api_key")
            assert httpx.get(url + "/v1/models", headers={"authorization": given}).status_code == 401
        assert text_of(post(url, authorization="Bearer one"))
        assert httpx.get(url + "/v1/tcp_warming").status_code == 200
        with pytest.raises(cerebras.AuthenticationError):
            cerebras.Cerebras(api_key="no", base_url=url).completions.create(**BODY)
        with pytest.raises(openai.AuthenticationError, match="Wrong API Key"):
            openai.OpenAI(api_key="no", base_url=f"{url}/v1").completions.create(**BODY)


def test_a_used_up_quota_is_429_and_refills() -> None:
    now_s = 0.0
    quota = Quota(Limits(requests_per_day=2, tokens_per_minute=60), lambda: now_s)
    quota.consume(60)
    with pytest.raises(ApiError, match="Tokens per minute limit exceeded") as caught:
        quota.consume(1)
    assert caught.value.headers()["retry-after"] == "60"
    assert quota.headers()["x-ratelimit-remaining-tokens-minute"] == "0"
    assert float(quota.headers()["x-ratelimit-reset-tokens-minute"]) == 60
    now_s = 30.0
    quota.consume(30)
    now_s = 60.0
    with pytest.raises(ApiError, match="Requests per day limit exceeded"):
        quota.consume(1)
    bucket = Bucket(10, 10, lambda: now_s)
    assert bucket.consume(10) and not bucket.consume(1)
    bucket.give_back(99)
    assert bucket.left == 10


def test_tokens_that_were_not_used_are_given_back() -> None:
    with served(tiny_api(tokens_per_minute=300)) as url:
        for _ in range(3):  # estimated at 38 each, of which 30 + 8 are used
            post(url)
        left = int(post(url, {**BODY, "max_tokens": 1}).headers["x-ratelimit-remaining-tokens-minute"])
        assert 300 - 4 * 38 - 10 <= left <= 300 - 3 * 38
        response = post(url, {**BODY, "max_tokens": None})  # to the end of the context: 256
        assert (response.status_code, response.json()["code"]) == (429, "token_quota_exceeded")
        response = post(url, {**BODY, "max_tokens": None, "n": 2})  # 512, which no waiting brings
        assert (response.status_code, response.json()["param"]) == (400, "max_tokens")


def test_a_client_that_leaves_pays_for_what_was_generated() -> None:
    with served(tiny_api(tokens_per_minute=600)) as url:
        with open_stream(url, max_tokens=200, prompt="x") as client:
            client.recv(100)
        until(lambda: int(post(url, {**BODY, "max_tokens": 0}).headers["x-ratelimit-remaining-tokens-minute"]) > 300)


def test_a_call_that_is_refused_costs_no_tokens() -> None:
    with served(tiny_api(tokens_per_minute=1000)) as url:
        assert post(url, {**BODY, "arrival_time": 5.0}).status_code == 200
        for _ in range(50):
            response = post(url, {**BODY, "arrival_time": 1.0})
            assert response.status_code == 400
        assert int(response.headers["x-ratelimit-remaining-tokens-minute"]) > 900


# Streams


def _address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def open_stream(url: str, **options: Any) -> socket.socket:
    """A connection whose request is a stream, nothing of it read."""
    raw = json.dumps({**BODY, "stream": True} | options).encode()
    head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n"
    client = socket.create_connection(_address(url), timeout=60)
    client.sendall(head.format(len(raw)).encode() + raw)
    return client


def test_events_are_data_lines_that_end_with_two_line_ends(url: str) -> None:
    response = post(url, {**BODY, "stream": True})
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    *events, done, rest = response.content.split(b"\r\n\r\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
    assert all(event.startswith(b"data: ") for event in events)
    assert all("usage" not in chunk and "finish_reason" not in chunk["choices"][0] for chunk in chunks[:-1])
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == text_of(post(url))


def test_the_first_event_leaves_before_the_second_token_is_computed() -> None:
    gate = Gate(tiny_session(4).loop.arithmetic)
    with served(tiny_api(arithmetic=gate)) as url:
        client: Any = cerebras.Cerebras(api_key="k", base_url=url)
        gate.let(1)  # the prompt
        with client.completions.create(**BODY, stream=True) as stream:
            assert next(stream).choices[0].text == ""
            first = next(stream).choices[0].text
            until(lambda: gate.passes == 2)  # the second token's pass has begun, and waits
            gate.let(7)
            assert len(first) == 1 and len("".join(c.choices[0].text for c in stream)) == 7


def test_a_large_prompt_is_encoded_while_others_are_served(url: str) -> None:
    encoding = threading.Thread(target=post, args=(url, {**BODY, "prompt": [65] * 200_000}))
    encoding.start()
    while encoding.is_alive():
        assert httpx.get(url + "/v1/tcp_warming", timeout=1).status_code == 200
    encoding.join()


def test_tcp_warming_answers_while_the_wafer_computes() -> None:
    gate = Gate(tiny_session(4).loop.arithmetic)
    with served(tiny_api(arithmetic=gate)) as url:
        waiting = threading.Thread(target=post, args=(url,))
        waiting.start()
        until(lambda: gate.passes == 1)
        assert httpx.get(url + "/v1/tcp_warming", timeout=1).status_code == 200
        gate.let(8)
        waiting.join()


def test_clients_that_vanish_free_their_slots() -> None:
    gate = Gate(tiny_session(4).loop.arithmetic)
    api = tiny_api(arithmetic=gate)
    worker = api.workers["tiny"]
    with served(api) as url:
        clients = [open_stream(url, max_tokens=200) for _ in range(20)]
        until(lambda: worker.open == 20)
        gate.let(5)
        for client in clients[:10]:
            client.recv(100)
            client.close()
        whole = open_stream(url, stream=False, max_tokens=200)  # waits for a whole reply, then does not
        for client in [*clients[10:], whole]:
            client.close()

        def all_left() -> bool:
            gate.let(1)
            return worker.open == 0

        until(all_left)
        until(lambda: (worker.loop.in_flight, worker.loop.waiting) == (0, 0))
        gate.let(200)
        assert text_of(post(url))
    assert gate.passes < 80


def test_a_full_queue_is_429_with_retry_after() -> None:
    gate = Gate(tiny_session(1).loop.arithmetic)
    api = tiny_api(slots=1, arithmetic=gate, queue=2)
    with served(api) as url:
        clients = [open_stream(url) for _ in range(3)]
        until(lambda: api.workers["tiny"].open == 3)
        response = post(url)
        assert (response.status_code, response.json()["code"]) == (429, "queue_full")
        assert response.headers["retry-after"] == "1"
        assert post(url, {**BODY, "n": 2}).status_code == 429
        assert post(url, {**BODY, "n": 4}).json()["message"].startswith("4 texts are more than run and wait at once, 3")
        sdk: Any = cerebras.Cerebras(api_key="k", base_url=url, max_retries=2)
        gate.let(8 * 4)  # the queue empties while the client waits to try again
        assert sdk.completions.create(**BODY).choices[0].text
        for client in clients:
            client.close()


def test_hundreds_of_idle_connections_disturb_nobody(url: str) -> None:
    idle = [socket.create_connection(_address(url)) for _ in range(400)]
    assert text_of(post(url))
    for client in idle:
        client.close()


def test_a_simulation_that_fails_is_told_and_the_next_request_is_served() -> None:
    class Failing(Gate):
        def step_each(self, sequences: Any, token_ids: Any, *, phase: str) -> Any:
            self.passes += 1
            if self.passes in (1, 3):
                raise FloatingPointError("overflow")
            return self._arithmetic.step_each(sequences, token_ids, phase=phase)

    failing = Failing(tiny_session(4).loop.arithmetic)
    with served(tiny_api(arithmetic=failing)) as url:
        response = post(url)
        assert (response.status_code, response.headers["x-should-retry"]) == (500, "false")
        assert "overflow" not in response.text
        stream = post(url, {**BODY, "stream": True}).text.split("\r\n\r\n")
        last = json.loads(stream[-2].removeprefix("data: "))
        assert (last["status_code"], last["error"]["code"]) == (500, "internal_error")
        assert text_of(post(url)) == text_of(post(url))


def test_a_fault_in_timing_is_told_to_all_who_wait_too() -> None:
    """While a fault is reported, no other request is admitted, because it would meet the same fault."""

    class Failing:
        def prefill(self, tokens: int, candidates: int) -> Any:
            raise OSError("no space left")

        decode = prefill

    api = tiny_api(slots=1)
    loop = api.workers["tiny"].loop
    cycles, loop.cycles = loop.cycles, Failing()
    with served(api) as url:
        clients = [open_stream(url) for _ in range(3)]
        for client in clients:
            with client:
                answer = b""
                while b"internal_error" not in answer:
                    answer += client.recv(65536)
        until(lambda: api.workers["tiny"].open == 0)
        loop.cycles = cycles
        assert text_of(post(url))


# The command


def test_the_readme_shows_the_example_word_for_word() -> None:
    (shown,) = re.findall(r"```py\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert EXAMPLE.read_text(encoding="utf-8").partition("\n")[2] == shown


def test_the_example_of_the_documentation_runs_against_the_command() -> None:
    server = start(["serve", "--port", "0", "--model", "llama3.1-8b", "--text-from", "tiny", "--sequences", "1"])
    try:
        said = _until_listening(server)
        assert "llama3.1-8b on wse3: its text and token counts are tiny's, 1 slots of" in said
        url = _url(said)
        run = subprocess.run(
            [sys.executable, EXAMPLE], capture_output=True, text=True, check=False, timeout=120,
            env={"CEREBRAS_BASE_URL": url, "CEREBRAS_API_KEY": "any", "PATH": ""},
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        assert "model='llama3.1-8b'" in run.stdout and "wsesim_text_from='tiny'" in run.stdout
        assert post(url, {**BODY, "model": "llama3.1-8b"}).headers["x-wsesim-text-from"] == "tiny"
        if shutil.which("curl"):
            command = ["curl", "-sS", f"{url}/v1/completions", "-H", "content-type: application/json", "-d",
                       json.dumps({**BODY, "model": "llama3.1-8b"})]  # fmt: skip
            answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
            assert json.loads(answer)["usage"]["completion_tokens"] == 8
    finally:
        server.send_signal(signal.SIGTERM)
        _, err = server.communicate(timeout=60)
    assert server.returncode == 0, err


def test_sigterm_finishes_what_runs_and_refuses_what_comes() -> None:
    server = start(["serve", "--port", "0", "--model", "tiny", "--sequences", "1"])
    url = _url(_until_listening(server))
    with open_stream(url, prompt="x", max_tokens=250, n=20) as client:  # one after the other: one slot
        assert client.recv(10) == b"HTTP/1.1 2"
        server.send_signal(signal.SIGTERM)
        until(lambda: _refuses(url))
        answer = b""
        while part := client.recv(65536):
            answer += part
    assert answer.count(b'"finish_reason"') == 20 and b"data: [DONE]" in answer
    server.communicate(timeout=60)
    assert server.returncode == 0


def _refuses(url: str) -> bool:
    try:
        socket.create_connection(_address(url), timeout=1).close()
    except OSError:
        return True
    return False


def _until_listening(server: subprocess.Popen[str]) -> str:
    """The output of the command until it listens."""
    assert server.stderr is not None
    said = ""
    for line in server.stderr:
        said += line
        if "listening at" in line:
            return said
    raise AssertionError(f"the server ended with {server.wait()}: {said}")


def _url(said: str) -> str:
    found = re.search(r"listening at (http://\S+)", said)
    assert found is not None, said
    return found[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--port", "99999"), "error: --port 99999: a number from 0 to 65535"),
        (("--host", "192.0.2.1"), "error: --host 192.0.2.1 --port 8000"),
        (("--port", "1_0"), "error: argument --port: '1_0' is not an integer"),
        (("--allow-host", "http://x"), "error: --allow-host 'http://x': a name or an address without a port"),
        (("--allow-origin", "ui.example"), "error: --allow-origin 'ui.example': scheme://host or"),
        (("--queue", "-1"), "error: queue is -1"),
        (("--body-bytes", "0"), "error: body_bytes is 0"),
        (("--model", "nope"), "error: unknown model 'nope'"),
        (("--model", "tiny", "--dtype", "fp8"), "error: unknown"),
        (("--model", "llama3.1-8b"), "error: the weights of llama3.1-8b are not at hand"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_served(
    arguments: tuple[str, ...], said: str, capsys: Any
) -> None:
    from tests.command_line import run

    outcome = run(capsys, "serve", *arguments)
    assert outcome.status == 2 and outcome.err.splitlines()[-1].startswith(said)


def test_an_application_of_its_own_server() -> None:
    assert make_app(tiny_api()).state.service.api.deployments.keys() == {"tiny"}
