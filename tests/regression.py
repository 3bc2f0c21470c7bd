"""Modelled cycles of a few cases. regression.json holds them.

`python -m tests.regression` shows what moved and exits 1 if anything did; `--refresh` (`make refresh`) also holds the
new cycles. Programs are compiled afresh: nothing comes from the user's cache.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.programs import program
from wsesim.engine.exact.wafer import EffectCache
from wsesim.engine.steps.timing import Timing
from wsesim.tables import aligned

HELD = Path(__file__).with_name("regression.json")


@dataclass(frozen=True, slots=True)
class Case:
    """One step: a decode over `tokens` cached ones, or the prefill of `tokens`."""

    model: str
    machine: str
    strategy: str
    phase: str
    tokens: int
    layers_per_block: int = 1

    def __str__(self) -> str:
        strategy = f"{self.strategy}/{self.layers_per_block}" if self.strategy == "hybrid" else self.strategy
        return f"{self.model} {self.machine} {strategy} {self.phase} {self.tokens}"

    def cycles(self) -> int:
        options = {"layers_per_block": self.layers_per_block} if self.strategy == "hybrid" else {}
        made = program(self.model, self.machine, self.strategy, **options)
        timing = Timing(made, EffectCache(keep_timelines=False))
        step = timing.decode(self.tokens) if self.phase == "decode" else timing.prefill(self.tokens)
        return step.cycles


CASES = (
    Case("tiny", "toy4x4", "pipelined", "decode", 16),
    Case("tiny", "toy4x4", "pipelined", "prefill", 9),
    Case("tiny", "toy4x4", "shared", "decode", 16),
    Case("tiny", "toy4x4", "shared", "prefill", 9),
    Case("tiny", "wse3", "pipelined", "decode", 16),
    Case("tiny", "wse2", "shared", "prefill", 9),
    Case("smollm2-135m", "wse3", "pipelined", "decode", 0),
    Case("smollm2-135m", "wse3", "pipelined", "decode", 512),
    Case("smollm2-135m", "wse3", "pipelined", "decode", 4096),
    Case("smollm2-135m", "wse3", "pipelined", "prefill", 16),
    Case("smollm2-135m", "wse2", "shared", "decode", 512),
    Case("smollm2-135m", "wse3", "shared", "decode", 512),
    Case("smollm2-135m", "wse3", "auto", "decode", 512),
    Case("llama3.2-1b", "wse3", "auto", "decode", 512),
    Case("llama3.1-8b", "wse3", "auto", "decode", 512),
    Case("llama3.2-1b", "wse3", "pipelined", "decode", 512),
    Case("llama3.1-8b", "wse3", "pipelined", "decode", 512),
    Case("llama3.1-8b", "wse3", "pipelined", "decode", 4096),
    Case("llama3.1-8b", "wse3", "hybrid", "decode", 512, layers_per_block=4),
)


@dataclass(frozen=True, slots=True)
class Move:
    """A case whose cycles are not the held ones. None: not held, or no longer a case."""

    case: str
    held: int | None
    now: int | None

    def row(self) -> tuple[str, str, str, str]:
        change = f"{100 * (self.now - self.held) / self.held:+.3f} %" if self.held and self.now else "-"
        return self.case, _shown(self.held), _shown(self.now), change


def measure(cases: Iterable[Case]) -> dict[str, int]:
    """Cycles by case."""
    return {str(case): case.cycles() for case in cases}


def moves(held: Mapping[str, int], now: Mapping[str, int]) -> tuple[Move, ...]:
    """What differs, in the order of the cases; cases that are no longer there come last."""
    names = [*now, *(name for name in held if name not in now)]
    return tuple(Move(n, held.get(n), now.get(n)) for n in names if held.get(n) != now.get(n))


def moves_text(moved: tuple[Move, ...]) -> str:
    """A table of the moves and what to do about them; one line if nothing moved."""
    if not moved:
        return "no modelled cycles moved"
    table = aligned([("case", "held", "now", "difference"), *(move.row() for move in moved)])
    return f"modelled cycles moved; if that is intended, `make refresh` holds the new ones\n{table}"


def load(path: Path = HELD) -> dict[str, int]:
    """Held cycles by case; none where there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def save(cycles: Mapping[str, int], path: Path = HELD) -> None:
    path.write_text(json.dumps(cycles, indent=2) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None, cases: Iterable[Case] = CASES, path: Path = HELD) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.regression", description="Shows which modelled cycles moved."
    )
    parser.add_argument("--refresh", action="store_true", help="hold the new cycles")
    refresh = parser.parse_args(arguments).refresh
    now = measure(cases)
    moved = moves(load(path), now)
    print(moves_text(moved))
    if refresh and moved:
        save(now, path)
        print(f"{path.name} holds the new cycles")
    return 1 if moved and not refresh else 0


def _shown(cycles: int | None) -> str:
    return "-" if cycles is None else f"{cycles:,}"


if __name__ == "__main__":
    raise SystemExit(main())
