"""The server under load, on loopback: its own CPU time, and the gain from running requests together."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import httpx

from benchmarks.row import Row
from wsesim.toolchain.serving import Client

CLIENTS, REQUESTS, TOKENS = 64, 2000, 16
GONE = 1000
PROMPT = "It was a dark and stormy night"
IN_FLIGHT = 8


@dataclass(frozen=True, slots=True)
class Child:
    """A server in another process."""

    url: str
    pid: int

    def cpu_s(self) -> float:
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
            user, system = file.read().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        with open(f"/proc/{self.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def open_requests(self) -> int:
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        found = [line for line in lines if line.startswith(("wsesim_in_flight{", "wsesim_waiting{"))]
        return sum(int(float(line.split()[-1])) for line in found)


def rows() -> list[Row]:
    """The figures with their limits. Every reply must be the text that its seed gives alone."""
    return [*_load(), *_overhead(), *_vanishing(), *_together()]


@contextmanager
def _child(*arguments: str) -> Iterator[Child]:
    command = [sys.executable, "-m", "benchmarks.serve_child", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Child(process.stdout.readline().strip(), process.pid)
        finally:
            process.terminate()


def _body(model: str, **options: Any) -> dict[str, Any]:
    return {"model": model, "prompt": PROMPT, "max_tokens": TOKENS, "seed": 0, **options}


async def _one(client: httpx.AsyncClient, url: str, body: dict[str, Any]) -> str:
    """The text of a reply, streamed or not."""
    if not body.get("stream"):
        answer = await client.post(f"{url}/v1/completions", json=body)
        answer.raise_for_status()
        return str(answer.json()["choices"][0]["text"])
    async with client.stream("POST", f"{url}/v1/completions", json=body) as answer:
        answer.raise_for_status()
        text, done = "", False
        async for line in answer.aiter_lines():
            done = done or line == "data: [DONE]"
            if line.startswith("data: {"):
                text += json.loads(line[6:])["choices"][0]["text"]
        assert done, "a stream ended early"
        return text


async def _crowd(url: str, bodies: list[dict[str, Any]]) -> list[str]:
    """All bodies, by CLIENTS clients at a time."""
    texts = [""] * len(bodies)
    queue = list(enumerate(bodies))[::-1]
    async with httpx.AsyncClient(timeout=300, limits=httpx.Limits(max_connections=CLIENTS)) as client:

        async def work() -> None:
            while queue:
                number, body = queue.pop()
                texts[number] = await _one(client, url, body)

        await asyncio.gather(*(work() for _ in range(CLIENTS)))
    return texts


def _load() -> list[Row]:
    bodies = [_body("tiny", seed=i % 10, stream=i % 2 == 0) for i in range(REQUESTS)]
    with _child("tiny", "8") as server:
        expected = [asyncio.run(_crowd(server.url, [body]))[0] for body in bodies[:20]]
        began = time.perf_counter()
        texts = asyncio.run(_crowd(server.url, bodies))
        wall_s = time.perf_counter() - began
    assert texts == [expected[i % 20] for i in range(REQUESTS)], "a reply was lost or is another one's"
    with _child("tiny", "8", "idle") as server:
        before_s = server.cpu_s()
        texts = asyncio.run(_crowd(server.url, bodies))
        own_s = server.cpu_s() - before_s
    assert texts == ["a" * TOKENS] * REQUESTS
    tokens = REQUESTS * TOKENS
    note = "half are streams; every reply is the text that its seed has alone"
    return [
        Row(
            f"the tiny model under load, {CLIENTS} clients, {REQUESTS:,} requests",
            tokens / wall_s,
            "tokens/s",
            note=note,
        ),
        Row("the server's own CPU time a token under this load", 1e3 * own_s / tokens, "ms", 1.0),
    ]


def _overhead() -> list[Row]:
    """The server's own CPU time for a token of one client, over the wall time of a token of smollm2-135m."""
    bodies = [_body("smollm2-135m", stream=True, temperature=0)] * 20
    with _child("smollm2-135m", "1", "idle") as server:
        asyncio.run(_crowd(server.url, bodies[:1]))
        before_s = server.cpu_s()
        for body in bodies:
            asyncio.run(_crowd(server.url, [body]))
        own_s = (server.cpu_s() - before_s) / (len(bodies) * TOKENS)
    with _child("smollm2-135m", "1") as server:
        asyncio.run(_crowd(server.url, bodies[:1]))
        walls = []
        for body in bodies[:5]:
            began = time.perf_counter()
            asyncio.run(_crowd(server.url, [body]))
            walls.append((time.perf_counter() - began) / TOKENS)
    note = f"{1e3 * own_s:.2f} ms of CPU time, with a draw over 49,152 logits, of {1e3 * median(walls):.1f} ms a token"
    return [Row("the server's own share of a token of smollm2-135m", 100 * own_s / median(walls), "%", 5.0, note=note)]


def _vanishing() -> list[Row]:
    with _child("tiny", "8") as server:
        asyncio.run(_leave(server.url, GONE))  # the first clients make the process as large as it needs to be
        _until_empty(server)
        before_mb = server.resident_mb()
        asyncio.run(_leave(server.url, GONE))
        _until_empty(server)
        grown_mb = server.resident_mb() - before_mb
    return [Row(f"memory that {GONE:,} clients leave behind if they vanish in mid-stream", grown_mb, "MB", 10.0)]


async def _leave(url: str, count: int) -> None:
    """`count` streams, each left after its first event."""
    raw = json.dumps(_body("tiny", stream=True, max_tokens=200)).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(raw)}"
    host, port = url.removeprefix("http://").split(":")

    async def one() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode() + b"\r\n\r\n" + raw)
        await reader.readuntil(b"data: ")
        writer.transport.abort()

    for first in range(0, count, 50):
        await asyncio.gather(*(one() for _ in range(first, min(first + 50, count))))


def _until_empty(server: Child) -> None:
    ends = time.monotonic() + 60
    while server.open_requests():
        assert time.monotonic() < ends, "requests of vanished clients are still open"
        time.sleep(0.05)


def _together() -> list[Row]:
    with Client("smollm2-135m", sequences=IN_FLIGHT) as client:

        def one(seed: int) -> str:
            body = _body("smollm2-135m", max_tokens=48, seed=seed, logit_bias={"0": -100, "2": -100})
            return str(client.completions.create(**body).choices[0].text)

        expected = [one(seed) for seed in range(IN_FLIGHT)]
        alone, together = [], []
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            for _ in range(3):
                alone.append(_rate(lambda: [one(0)], expected[:1]))
                together.append(_rate(lambda: list(pool.map(one, range(IN_FLIGHT))), expected))
    ratios = [both / single for both, single in zip(together, alone, strict=True)]
    note = f"{median(alone):.1f} and {median(together):.1f} tokens/s, fp32, texts as alone"
    return [
        Row(
            f"tokens/s of smollm2-135m, {IN_FLIGHT} requests in flight over one",
            median(ratios),
            "x",
            2.5,
            at_most=False,
            note=note,
        )
    ]


def _rate(run: Callable[[], list[str]], expected: list[str]) -> float:
    """Tokens a wall second."""
    began = time.perf_counter()
    assert run() == expected, "a text depends on who else is in flight"
    return 48 * len(expected) / (time.perf_counter() - began)
