"""`python -m benchmarks [commands|engine|execute|generate|prefill|serve|steps]`: all of them, or some.

Prints a table for each, and writes it into docs/performance.md.
"""

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
from benchmarks.page import write_part
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
    """Runs the named benchmarks, or all. Each table is written as soon as it is measured."""
    unknown = [name for name in names if name not in ALL]
    if unknown:
        sys.exit(f"unknown benchmark {unknown[0]!r}; known: {', '.join(ALL)}")
    print(machine_text())
    for name in names or list(ALL):
        machine = machine_text()  # with the load before the benchmark
        rows = ALL[name]()
        print(f"\n{name}")
        print(aligned(row.cells() for row in rows), flush=True)
        write_part(name, rows, machine)


if __name__ == "__main__":
    main(sys.argv[1:])
