"""`python -m benchmarks [commands|engine|execute|generate|prefill|serve|steps]`: all of them, or some."""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks import (
    bench_commands,
    bench_engine,
    bench_execute,
    bench_generate,
    bench_prefill,
    bench_serve,
    bench_steps,
)
from benchmarks.machine import machine_text
from benchmarks.row import Row
from wsesim.tables import aligned

ALL: dict[str, Callable[[], list[Row]]] = {
    "commands": bench_commands.rows,
    "engine": bench_engine.rows,
    "execute": bench_execute.rows,
    "generate": bench_generate.rows,
    "prefill": bench_prefill.rows,
    "serve": bench_serve.rows,
    "steps": bench_steps.rows,
}


def main(names: list[str]) -> None:
    """Prints a table for each name."""
    print(machine_text())
    for name in names or list(ALL):
        print(f"\n{name}")
        print(aligned(row.text() for row in ALL[name]()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
