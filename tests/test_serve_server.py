"""The HTTP server and its connections: clients that misbehave on the wire, and the end of a server."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import httpx
import pytest
from uvicorn.server import ServerState

from tests import command_line, serving
from tests.serving import Gate, served, tiny_api, tiny_session
from wsesim.serve import server
from wsesim.serve.app import make_app
from wsesim.serve.connection import LEAST_BYTES, Connection
from wsesim.serve.stream import DONE, FILLER
from wsesim.serve.worker import Worker

BODY = {"model": "tiny", "prompt": "It was a dark", "max_tokens": 8, "seed": 0}
ENORMOUS = {**BODY, "n": 2, "logprobs": 20, "max_tokens": 200, "min_tokens": -1}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def _refuses(url: str) -> bool:
    try:
        connect(url).close()
    except OSError:
        return True
    return False


def connect(url: str, sent: bytes = b"", receive_bytes: int | None = None) -> socket.socket:
    """A connection on which `sent` was sent. Its receive buffer has `receive_bytes`."""
    host, port = url.removeprefix("http://").split(":")
    client = socket.socket()
    if receive_bytes is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    client.settimeout(60)
    try:
        client.connect((host, int(port)))
        client.sendall(sent)
    except OSError:
        client.close()
        raise
    return client


def post(body: dict[str, Any], version: str = "1.1", **more: Any) -> bytes:
    raw = json.dumps(body | more).encode()
    head = f"POST /v1/completions HTTP/{version}\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(raw)}\r\n\r\n".encode() + raw


def read_all(client: socket.socket) -> bytes:
    """All bytes until the server closes."""
    with client:
        return b"".join(iter(lambda: client.recv(65536), b""))


def read_until(client: socket.socket, expected: bytes) -> bytes:
    answer = b""
    while expected not in answer:
        part = client.recv(65536)
        assert part, answer
        answer += part
    return answer


def until(holds: Callable[[], bool], every_s: float = 0.01) -> None:
    """Waits for something that another thread or process does."""
    ends = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < ends, "it did not come to that"
        time.sleep(every_s)


def gated(slots: int = 4) -> tuple[Gate, Any]:
    gate = Gate(tiny_session(slots).loop.arithmetic)
    return gate, tiny_api(slots=slots, arithmetic=gate)


# Clients that read nothing


def test_a_server_ends_while_clients_read_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listen(host: str, port: int) -> socket.socket:
        bound = server.listen(host, port)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # of what it accepts
        return bound

    monkeypatch.setattr(serving, "listen", listen)
    api = tiny_api(write_s=0.3)
    with served(api) as url:
        clients = [connect(url, post(ENORMOUS, stream=stream), receive_bytes=4096) for stream in (True, False)]
        until(lambda: api.workers["tiny"].open == 4)
        until(lambda: api.workers["tiny"].open == 0)
    stream, whole = (read_all(client) for client in clients)
    assert stream.startswith(b"HTTP/1.1 200") and DONE not in stream
    assert whole.startswith(b"HTTP/1.1 200") and not whole.endswith(b"}")
    assert not caplog.records


def test_a_client_that_reads_slowly_is_not_left() -> None:
    class Transport(asyncio.Transport):
        waiting, aborted = 10 * LEAST_BYTES, False

        def get_write_buffer_size(self) -> int:
            return self.waiting

        def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
            assert high == 0

        def abort(self) -> None:
            self.aborted = True

    async def read(*taken: int) -> bool:
        """Whether the connection is still open if the client reads so many bytes within each `write_s`."""
        state = ServerState()
        config = server.Server(make_app(tiny_api())).config
        connection = Connection(config=config, server_state=state, app_state={}, write_s=60, idle_s=60)
        transport = Transport()
        connection.connection_made(transport)
        connection.pause_writing()
        for bytes_ in taken:
            transport.waiting -= bytes_
            connection._check_reading()
        connection.connection_lost(ConnectionResetError())
        return not transport.aborted

    assert asyncio.run(read(LEAST_BYTES, 2 * LEAST_BYTES))
    assert not asyncio.run(read(LEAST_BYTES, LEAST_BYTES - 1))


# Clients that send nothing


def test_a_connection_without_a_whole_header_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_S", 0.3)
    gate, api = gated()
    with served(api) as url:
        running = connect(url, post(BODY))
        until(lambda: gate.passes == 1)
        slow = connect(url, b"GET /health HTTP/1.1\r\n")
        until(lambda: _is_closed(slow, b"x"), every_s=0.05)
        slow.close()
        assert read_all(connect(url)) == b""
        assert read_all(connect(url, b"GET /hea")) == b""
        assert read_all(connect(url, b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")).startswith(b"HTTP/1.1 200")
        gate.let(8)
        assert b'"finish_reason":"length"' in read_all(running)  # it took longer than that, and was not closed


def _is_closed(client: socket.socket, sent: bytes) -> bool:
    """Whether the server has closed. If not, send so many more bytes of the header."""
    try:
        client.sendall(sent)
    except OSError:
        return True
    return False


# Clients that send no more


def test_half_closed_clients_get_their_replies() -> None:
    gate, api = gated()
    with served(api) as url:
        whole, stream = connect(url, post(BODY)), connect(url, post(BODY, stream=True))
        until(lambda: api.workers["tiny"].open == 2)
        gate.let(2)  # by then both have begun
        for client in (whole, stream):
            client.shutdown(socket.SHUT_WR)
        asked = read_until(whole, CONTINUE), read_until(stream, FILLER)
        gate.let(20)
        answers = [begun + read_all(client) for begun, client in zip(asked, (whole, stream), strict=True)]
    interim, _, reply = answers[0].partition(b"HTTP/1.1 200 OK\r\n")
    assert interim == CONTINUE * interim.count(CONTINUE)
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["usage"]["completion_tokens"] == 8
    assert b'"completion_tokens":8' in answers[1] and DONE in answers[1]


@pytest.mark.parametrize("stream", [True, False])
def test_clients_that_closed_do_not_wait_for_a_slot(stream: bool) -> None:
    gate, api = gated(slots=1)
    worker: Worker = api.workers["tiny"]
    with served(api) as url:
        first = connect(url, post(BODY, stream=True, max_tokens=200, min_tokens=-1))
        until(lambda: gate.passes == 1)
        second = connect(url, post(BODY, stream=stream))
        until(lambda: worker.open == 2)
        gate.let(1)  # then the second one waits for the slot
        if stream:  # all is read that was sent: so the server hears of no more than a FIN
            read_until(second, b'"text":""')
        second.close()

        def left() -> bool:
            gate.let(1)
            return worker.open == 1

        until(left, every_s=0.02)
        first.close()
        gate.let(300)


def test_before_http_1_1_a_half_closed_client_counts_as_gone() -> None:
    gate, api = gated()
    with served(api) as url:
        client = connect(url, post(BODY, version="1.0"))
        until(lambda: gate.passes == 1)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""
        gate.let(20)


def test_clients_that_leave_are_counted_and_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    gate, api = gated()
    with served(api) as url:
        clients = [connect(url, post(BODY)), connect(url, post(BODY)[:-1])]
        until(lambda: gate.passes == 1)
        for client in clients:
            client.close()
        counted = 'wsesim_answers_total{route="/v1/completions",status="499"} 2.0'
        until(lambda: counted in httpx.get(url + "/metrics").text)
        gate.let(20)
    assert not caplog.records


# Targets and headers


def test_a_target_may_be_absolute() -> None:
    with served(tiny_api()) as url:
        for target in ("http://localhost/health", "HTTP://localhost:80/v1/v1/models?format=default"):
            with connect(url, f"GET {target} HTTP/1.1\r\nhost: elsewhere\r\n\r\n".encode()) as client:
                assert client.recv(65536).startswith(b"HTTP/1.1 200")
        with connect(url, b"GET http://localhost HTTP/1.1\r\nhost: elsewhere\r\n\r\n") as client:
            assert b"GET / is not a route" in read_until(client, b"}}")


def test_every_answer_has_one_request_id() -> None:
    with served(tiny_api()) as url:
        answers = [
            httpx.get(url + "/nope"),
            httpx.put(url + "/v1/models"),
            httpx.get(url + "/health"),
            httpx.get(url + "/health/"),
            httpx.post(url + "/v1/completions", json=BODY | {"stream": True}),
            httpx.post(url + "/v1/completions", json=[]),
        ]
    assert [answer.status_code for answer in answers] == [404, 405, 200, 307, 200, 400]
    ids = [answer.headers.get_list("x-request-id") for answer in answers]
    assert all(len(found) == 1 for found in ids) and len({found[0] for found in ids}) == len(ids)


# What is no HTTP

POST = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
NEXT = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "status", "code", "said"),
    [
        (b"\x16\x03\x01\x02\x00\x01", 400, "invalid_http", "illegal request line"),  # TLS
        (b"HELLO\r\n\r\n", 400, "invalid_http", "illegal request line"),
        (b"GET /health HTTP/1.1\r\n\r\n", 400, "invalid_http", "Missing mandatory Host: header"),
        (b"GET / HTTP/1.1\r\nhost: localhost\r\nhost: a\r\n\r\n", 400, "invalid_http", "Found multiple Host"),
        (POST + b"bad\r\n\r\n", 400, "invalid_http", "illegal header line"),
        (POST + b"content-length: 1x\r\n\r\n", 400, "invalid_http", "bad Content-Length"),
        (POST + b"content-length: 1\r\ncontent-length: 2\r\n\r\n", 400, "invalid_http", "conflicting Content-Length"),
        (POST + b"a: " + b"x" * 70_000, 431, "header_too_large", "a header of more than 16,384 bytes"),
        (POST + b"transfer-encoding: gzip\r\n\r\n", 501, "unsupported_transfer_encoding", "Only Transfer-Encoding: "),
        (POST + CHUNKED + b"\r\nxyz\r\n", 400, "invalid_http", "illegal chunk header"),
        (NEXT[:-2] + CHUNKED + b"\r\nxyz\r\n", 400, "invalid_http", "illegal chunk header"),  # a body nobody reads
        (
            POST + CHUNKED + b"content-length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + NEXT,
            400,
            "invalid_http",
            "Content-Length and Transfer-Encoding are both given",
        ),
        (
            POST.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n0\r\n\r\n" + NEXT,
            400,
            "invalid_http",
            "HTTP/1.0 has no Transfer-Encoding",
        ),
    ],
)
def test_what_is_no_http_is_an_api_error_and_one_line_of_the_log(
    sent: bytes, status: int, code: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with served(tiny_api()) as url:
        client = connect(url, sent)
        host, port = client.getsockname()
        answer = read_all(client)
    head, _, raw = answer.partition(b"\r\n\r\n")
    assert (
        head.startswith(f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()) and b"\r\nx-request-id: " in head
    )
    assert b"\r\nconnection: close" in head.lower() and answer.count(b"HTTP/1.1 ") == 1
    assert (b"x-should-retry: false" in head) == (status >= 500)
    body = json.loads(raw)
    assert (body["code"], body["error"]["message"]) == (code, body["message"])
    assert body["message"].startswith(f"the request is not read: {said}")
    (line,) = caplog.messages
    assert line == f"{host}:{port}: {body['message']}" and "\n" not in line and len(line) < 300


@pytest.mark.parametrize("asked", [b"h2c", b"websocket"])
def test_an_upgrade_is_ignored(asked: bytes, caplog: pytest.LogCaptureFixture) -> None:
    more = b"connection: upgrade, close\r\nupgrade: " + asked + b"\r\n\r\n"
    with served(tiny_api()) as url:
        assert read_all(connect(url, NEXT.removesuffix(b"\r\n") + more)).startswith(b"HTTP/1.1 200 ")
    assert not caplog.records


def test_a_head_request_that_is_no_http_has_an_answer_without_a_body() -> None:
    with served(tiny_api()) as url:
        answer = read_all(connect(url, POST.replace(b"POST", b"HEAD") + CHUNKED + b"content-length: 2\r\n\r\n"))
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.endswith(b"\r\n\r\n")


def test_what_follows_an_answer_and_is_no_http_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    with served(tiny_api()) as url:
        client = connect(url, POST.replace(b"completions", b"nowhere") + CHUNKED + b"\r\n")
        read_until(client, b"}}")
        client.sendall(b"xyz\r\n")
        assert read_all(client) == b""
        assert httpx.get(url + "/health").status_code == 200
    assert [record.levelname for record in caplog.records] == ["WARNING"]


# The command


@pytest.mark.parametrize("host", ["a..b", "a" * 64, "a\0"])
def test_a_host_that_is_no_name_is_one_line(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = command_line.run(capsys, "serve", "--host", host)
    shown = host.replace("\0", "\\x00")  # control characters are escaped
    assert outcome.status == 2 and outcome.err.startswith(f"error: --host {shown} --port 8000: ")
    assert outcome.err.count("\n") == 1


@contextmanager
def command(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`wsesim serve` in a process of its own, and its URL."""
    process = command_line.start(["serve", "--port", "0", "--model", "tiny", "--sequences", "1", *options])
    assert process.stderr is not None
    try:
        while "listening at" not in (line := process.stderr.readline()):
            assert line, "the server ended"
        yield process, line.split()[-1]
    finally:
        process.kill()
        process.communicate()


def test_the_command_s_server_answers_its_own_hosts_and_pages_and_those_that_are_allowed() -> None:
    def status(**headers: str) -> int:
        return httpx.get(url + "/health", headers=headers).status_code

    ui = "https://ui.example"
    with command() as (_, url):
        assert (status(), status(host="evil.example"), status(origin=ui)) == (200, 403, 403)
    with command("--allow-host", "a.example", "--allow-host", "b.example", "--allow-origin", ui) as (_, url):
        assert [status(host=f"{name}.example:80") for name in ("a", "b", "evil")] == [200, 200, 403]
        assert (status(origin=ui), status(origin="https://evil.example")) == (200, 403)


@pytest.mark.parametrize("address", ["0.0.0.0", "::1"])
def test_the_address_that_the_command_is_bound_to_decides_about_hosts(address: str) -> None:
    if address == "::1" and not _has_ipv6():
        pytest.skip("this computer has no IPv6 loopback")
    with command("--host", address) as (_, url):
        host = {"host": "wafer.lan"}
        assert httpx.get(url + "/health").status_code == 200
        assert httpx.get(url + "/health", headers=host).status_code == (200 if address == "0.0.0.0" else 403)
        assert httpx.get(url + "/health", headers={"origin": "http://wafer.lan", **host}).status_code == 403


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_a_signal_right_after_the_start_ends_the_server() -> None:
    with command() as (process, _):
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize(
    ("number", "status", "said"), [(signal.SIGTERM, 0, ""), (signal.SIGINT, 130, "\ninterrupted\n")]
)
def test_a_second_signal_ends_what_runs_and_tells_the_clients(number: int, status: int, said: str) -> None:
    with command() as (process, url):
        stream = connect(url, post(ENORMOUS, n=128, stream=True))
        read_until(stream, b"data:")
        whole, silent = connect(url, post(BODY)), connect(url, post(BODY)[:-1])
        until(lambda: 'waiting{model="tiny"} 128.0' in httpx.get(url + "/metrics").text)
        process.send_signal(number)
        until(lambda: _refuses(url))
        read_until(stream, b"data:")  # the first signal ends nothing that runs
        process.send_signal(number)
        last = read_all(stream).split(b"data: ")[-1]
        assert b'"code": "shutting_down"' in last and b'"status_code": 503' in last
        assert last.endswith(b"\r\n0\r\n\r\n")
        answer = read_all(whole)
        assert answer.startswith(b"HTTP/1.1 503") and b'"shutting_down"' in answer
        assert read_all(silent) == b""
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (status, "finishing 129 requests; a second signal ends them\n" + said)
