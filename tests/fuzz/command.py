"""`python -m tests.fuzz`: damages valid files of every kind and shows what their readers make of them.

    python -m tests.fuzz --cases 100000 --seed 0      the table; exit status 1 if a reader failed
    python -m tests.fuzz --only gguf --case 1234      one case in this process, with its traceback

Nothing is imported here that reads OMP_NUM_THREADS: this module sets it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fuzz.area import Area

_GROUPS = ("weights", "tokenizers", "graphs", "settings", "requests", "reports")
MODULES = tuple(f"tests.fuzz.{group}" for group in _GROUPS)
"""Each has AREAS."""

_THREADS = ("OMP", "OPENBLAS", "MKL", "NUMBA", "NUMEXPR", "RAYON")
_HANG_S = 20.0


def main(arguments: Sequence[str] | None = None, modules: Sequence[str] = MODULES) -> int:
    """The command; its exit status."""
    options = _parser().parse_args(arguments)
    options.failures = options.failures or Path(tempfile.gettempdir()) / f"wsesim-fuzz-failures-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="wsesim-fuzz-") as folder:
        _settle(Path(folder))
        areas = _chosen([area for name in modules for area in importlib.import_module(name).AREAS], options.only)
        if options.case is not None:
            return _run_one(areas, options, Path(folder))
        return _run_all(areas, options, Path(folder))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description="Damages valid files of every kind; shows what their readers do."
    )
    parser.add_argument("--cases", type=int, default=10_000, metavar="N", help="in all (default 10,000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="other damage (default 0)")
    parser.add_argument("--only", action="append", metavar="AREA", help="may be given several times (default: all)")
    parser.add_argument("--case", type=int, metavar="N", help="this case of one area, here, with its traceback")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="children at once")
    parser.add_argument("--hang-s", type=float, default=_HANG_S, metavar="S", help="a case may take (default 20)")
    parser.add_argument("--failures", metavar="FOLDER", help="for files that fail (default: a new folder)")
    parser.add_argument("--json", action="store_true", help="one object instead of the table")
    return parser


def _settle(folder: Path) -> None:
    """One thread in every library, and caches of this run's own; compiled kernels are those of the user."""
    from wsesim.cache import cache_dir

    os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_dir()))
    os.environ.update({f"{library}_NUM_THREADS": "1" for library in _THREADS})
    places = {name: str(folder / name.lower()) for name in ("WSESIM_CACHE_DIR", "TMPDIR", "TORCHINDUCTOR_CACHE_DIR")}
    os.environ.update({"TOKENIZERS_PARALLELISM": "false", **places})
    for place in places.values():
        Path(place).mkdir()
    tempfile.tempdir = places["TMPDIR"]


def _chosen(areas: Sequence[Area], names: Iterable[str] | None) -> list[Area]:
    known = {area.name: area for area in areas}
    wrong = [name for name in names or () if name not in known]
    if wrong:
        sys.exit(f"unknown area {wrong[0]!r}; known: {', '.join(known)}")
    return [known[name] for name in names] if names else list(areas)


def _run_one(areas: Sequence[Area], options: argparse.Namespace, folder: Path) -> int:
    """Run one case in this process. Its exception is not caught."""
    from tests.fuzz.area import damaged, write
    from tests.fuzz.child import limit_memory
    from tests.fuzz.sandbox import fence, lift_fence
    from wsesim.errors import WsesimError

    if len(areas) != 1:
        sys.exit("--case is a case of one area: give --only AREA")
    content = damaged(areas[0], areas[0].make_seeds(), options.seed, options.case)
    inputs = folder / "inputs"
    inputs.mkdir()
    areas[0].prepare(inputs)
    path = write(inputs, areas[0], content, options.case)
    print(f"the file: {_keep(Path(options.failures), areas[0], options.case, content)}")
    os.chdir(inputs)
    warnings.simplefilter("error")
    fence(inputs, *_writable())
    limit_memory(areas[0].room_bytes)
    try:
        areas[0].read(path)
    except WsesimError as error:
        print(f"{type(error).__name__}: {error}")
    else:
        print("accepted")
    finally:
        lift_fence()
    return 0


def _run_all(areas: Sequence[Area], options: argparse.Namespace, folder: Path) -> int:
    from tests.fuzz.area import damaged
    from tests.fuzz.run import Settings, run
    from tests.fuzz.table import Summary

    work = folder / "work"
    work.mkdir()
    seeds = {area: tuple(area.make_seeds()) for area in areas}
    for area in areas:
        _warm_up(area, seeds[area], folder / "warm")
    settings = Settings(options.seed, max(options.jobs, 1), options.hang_s, work, _writable())
    summary, kept = Summary(area.name for area in areas), Path(options.failures)
    counts = _counts(areas, options.cases)
    for done, outcome in enumerate(run(counts, seeds, settings), start=1):
        _show_progress(done, sum(counts.values()))
        if summary.add(outcome):
            content = damaged(outcome.area, seeds[outcome.area], options.seed, outcome.number)
            _keep(kept, outcome.area, outcome.number, content)
    failures = summary.failures()
    print(json.dumps(summary.to_json()) if options.json else summary.text())
    if failures and not options.json:
        again = f"--only {failures[0].area} --case {failures[0].case} --seed {options.seed}"
        print(f"\nthe first of each: {kept}\none of them again: python -m tests.fuzz {again}")
    return 1 if failures else 0


def _show_progress(done: int, cases: int) -> None:
    """On a terminal, and gone at the end."""
    if sys.stderr.isatty() and (done % 100 == 0 or done == cases):
        line = f"{done:,} of {cases:,} cases"
        print(f"\r{line if done < cases else ' ' * len(line)}\r", end="", file=sys.stderr, flush=True)


def _writable() -> tuple[Path, ...]:
    """Caches, and where temporary files go."""
    from wsesim.cache import kernels_dir

    return (kernels_dir(), Path(os.environ["WSESIM_CACHE_DIR"]), Path(os.environ["TMPDIR"]))


def _warm_up(area: Area, seeds: Sequence[bytes], folder: Path) -> None:
    """Read every seed, which must be accepted. So no child has to import and compile for them again."""
    import shutil

    from tests.fuzz.area import write

    folder.mkdir()
    area.prepare(folder)
    with contextlib.chdir(folder):
        for seed in filter(area.warm, seeds):
            area.read(write(folder, area, seed, 0))
    shutil.rmtree(folder)


def _counts(areas: Sequence[Area], cases: int) -> dict[Area, int]:
    """Cases by area, at least one each."""
    whole = sum(area.share for area in areas)
    return {area: max(1, round(cases * area.share / whole)) for area in areas}


def _keep(folder: Path, area: Area, number: int, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{area.name}-{number}-{area.file}"
    path.write_bytes(content)
    return path
