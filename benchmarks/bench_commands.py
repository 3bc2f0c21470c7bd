"""Whole commands, timed from outside. Memory is the peak of the process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from statistics import median

from benchmarks.row import Row
from wsesim.cache import cache_dir

MEASURED = """
import runpy, sys
sys.argv = ["wsesim", *sys.argv[1:]]
try:
    runpy.run_module("wsesim.cli", run_name="__main__")
finally:
    status = open("/proc/self/status").read()  # getrusage counts the memory of the process that started this one
    print(status.partition("VmHWM:")[2].split()[0], file=sys.stderr)
"""


@dataclass(frozen=True, slots=True)
class Finished:
    wall_s: float
    peak_gb: float
    output: str
    first_output_s: float


def rows() -> list[Row]:
    """Compile, simulate, complete and --help, with their limits."""
    with tempfile.TemporaryDirectory() as empty:
        compiled = _run("compile", "llama3.1-8b", cache=empty)
        simulated = json.loads(_run("simulate", "llama3.1-8b", "--context", "512", "--json", cache=empty).output)
        peak = _run("simulate", "llama3.1-8b", "--context", "512", cache=empty)
    assert compiled.output.startswith("llama3.1-8b on wse3") and simulated["cycles"] > 0
    prompt = "Once upon a time"  # printed first, then the tokens as they come
    second = [_run("complete", prompt, "--max-tokens", "2", until_byte=len(prompt) + 1) for _ in range(3)][1:]
    helps = [_run("--help") for _ in range(5)]
    sample_us = 460
    return [
        Row("compile llama3.1-8b from its torch graph, cold", compiled.wall_s, "s", 40),
        Row("memory of this compilation", compiled.peak_gb, "GB", 2),
        Row("simulate one decode step of llama3.1-8b, cold", simulated["simulate_wall_s"], "s", 30),
        Row("load the compiled engine before that", simulated["jit_wall_s"], "s"),
        Row("memory of this simulation", peak.peak_gb, "GB", 4),
        Row(
            "modelled time of this step, over the 460 us of the public service",
            simulated["seconds_per_token"] * 1e6 / sample_us,
            "x",
            2,
        ),
        Row("simulate a decode step of smollm2-135m again", _repeated_step_ms(), "ms", 1),
        Row(
            "second `wsesim complete` of smollm2-135m, from start to first token",
            median(f.first_output_s for f in second),
            "s",
            5,
        ),
        Row("`wsesim --help`", median(h.wall_s for h in helps), "s", 0.3),
    ]


def _run(*words: str, cache: str | None = None, until_byte: int = 1) -> Finished:
    """Run one command in another process. `cache` is an empty cache folder for it; compiled kernels are kept.

    `first_output_s` is the time to byte `until_byte` of its output.
    """
    environment = {"NUMBA_CACHE_DIR": str(cache_dir())} | os.environ | ({"WSESIM_CACHE_DIR": cache} if cache else {})
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", MEASURED, *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,  # communicate() would miss bytes that a buffer holds
    )
    assert process.stdout is not None
    first = b""
    while len(first) < until_byte and (more := process.stdout.read(until_byte - len(first))):
        first += more
    first_s = time.perf_counter() - began
    rest, errors = process.communicate()
    wall_s = time.perf_counter() - began
    assert process.returncode == 0, errors.decode()
    peak_gb = int(errors.decode().split()[-1]) * 1024 / 1e9
    return Finished(wall_s, peak_gb, (first + rest).decode(), first_s)


def _repeated_step_ms() -> float:
    """A decode step at a context seen before."""
    import wsesim
    from wsesim.toolchain import make_timing

    timing = make_timing(wsesim.compile("smollm2-135m", strategy="pipelined"))
    cycles = timing.decode(100).cycles
    taken = []
    for _ in range(100):
        began = time.perf_counter()
        assert timing.decode(101).cycles == cycles
        taken.append(1e3 * (time.perf_counter() - began))
    return median(taken)
