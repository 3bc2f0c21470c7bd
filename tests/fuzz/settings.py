"""Areas of files that a user writes or a run keeps: machines, placements, defects, kept steps, command lines."""

from __future__ import annotations

import dataclasses
import io
import json
import os
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.apart import apart
from tests.fuzz.area import Area, all_of
from tests.fuzz.damage import (
    NUMBER_WORDS,
    TOML_WORDS,
    damage_bytes,
    damage_json,
    damage_text,
    damage_toml,
    one_to_three,
)
from wsesim.errors import WsesimError

_FEW_PES = 1000
"""A larger machine is only read: compiling for it takes a second."""

_DERIVED = (
    b'base = "toy4x4"\nloop_cycles = 3\n[fabric]\nhop_cycles = 2\n[op.exp]\nfp16 = "1/3"\n',
    b'base = "beside.toml"\nfabric.wavelet_cycles = "9/8"\nop.fma.launch = 4\nassumptions = ["a guess"]\n',
)
_BASES = (
    '"toy4x4"',
    '"wse3"',
    '"beside.toml"',
    '"circle.toml"',
    '"machine.toml"',
    '"pipe.toml"',
    '"../x.toml"',
    "base",
)
_EXTRAS = b"""
dead = [[0, 0], [3, 2]]
dead_rows = [1]
dead_columns = [2]
slow = [[1, 1, 2], [2, 3, "3/2"]]
"""


@cache
def _machine_seeds() -> tuple[bytes, ...]:
    """Presets, and one with all that a user may add."""
    presets = resources.files("wsesim.machine") / "presets"
    toy, wse3 = ((presets / f"{name}.toml").read_bytes() for name in ("toy4x4", "wse3"))
    return toy, wse3, wse3.replace(b"\n[fabric]", _EXTRAS + b"\n[fabric]"), *_DERIVED, *_DERIVED


def _write_bases(folder: Path) -> None:
    """What a machine may build on, and what it may not."""
    (folder / "beside.toml").write_text('base = "toy4x4"\ncolumns = 5\n')
    (folder / "circle.toml").write_text('base = "machine.toml"\n')
    os.mkfifo(folder / "pipe.toml")


def _read_machine(path: Path) -> None:
    from wsesim.machine import load_machine, machine_text
    from wsesim.machine.load import parse_machine

    machine = load_machine(str(path))
    assert parse_machine(machine_text(machine), machine.name) == machine
    if machine.columns * machine.rows <= _FEW_PES:
        _simulate(path.parent, machine=str(path))


_DEFECTS = (
    b"dead = [[0, 1], [3, 3], [0, 0]]\n",
    b"# two\ndead_rows = [3]\ndead_columns = [3]\n",
    b"dead = [\n  [3, 3],\n]\ndead_rows = [0]\n",
)


def _read_defects(path: Path) -> None:
    from wsesim.machine import load_machine, with_defects

    all_of(
        lambda: with_defects(load_machine("wse3"), str(path)),
        lambda: _simulate(path.parent, machine="toy4x4", defects=str(path)),
    )


@cache
def _placement_seeds() -> tuple[bytes, ...]:
    """What the compiler prints, and one with collectives."""
    from tests.fuzz.graphs import stages

    placed = stages()["place"].encode() + b"\n"
    collectives = b"""
[collectives]
"layer0.qkv" = "ring"
"layer1.o" = { decode = "chain", prefill = "two_phase:2" }
"""
    forms = b"""
[forms]
swiglu = "vector_exp"
"layer0.flash_sum" = { decode = "scalar_exp", prefill = "sliced_exp" }
"""
    return placed, placed + collectives, placed + forms


def _software_seeds() -> tuple[bytes, ...]:
    """The presets, and a file of two forms for a kernel."""
    from wsesim.software.load import software_text

    own = b"""base = "wsesim"
slot_cycles = 5
routes = "apart"
[[forms.SwiGLU]]
name = "one"
scratch = "2*tokens*width"
steps = ["exp(tokens*width, vector=12, slice=32)", "scalar(width, cycles='7/2', loop=tokens)"]
[[forms.SwiGLU]]
name = "two"
steps = ["setup(3, slots=tokens)", "elementwise((tokens*width + 3)//4, times=4, dtype='fp32')"]
"""
    return own, *(software_text(name).encode() for name in ("wsesim", "wsesim-plain"))


_STEP_WORDS = (
    *("tokens", "width", "heads", "positions", "norms", "99999999999", "-1", "0", "'fp32'", "'cache'", "//0", "**"),
    *("all_reduce(", "fold(", "product(", "times=", "loop=", "slots=", "slice=", "groups=", "vector=", "cycles="),
)


def _read_software(path: Path) -> None:
    from wsesim.software import load_software

    load_software(str(path))
    _simulate(path.parent, machine="toy4x4", software=str(path))


def _read_placement(path: Path) -> None:
    _simulate(path.parent, machine="toy4x4", placement=str(path))


def _simulate(folder: Path, **words: Any) -> None:
    """Compiles a small model with these options and simulates a step. A file that is accepted must be usable."""
    import wsesim
    from tests.fuzz.graphs import write_text
    from wsesim.toolchain.compiling import compile_from
    from wsesim.toolchain.options import Lowering

    graph = write_text("recognize", folder)
    wsesim.simulate(compile_from(str(graph), Lowering(max_context=64, **words)), context=3)


def _step_seeds() -> tuple[bytes, ...]:
    steps = {"decode 1 64": {"cycles": 900, "logits_cycles": 800, "busy_cycles": 900}}
    return (json.dumps(steps | {"prefill 1 5": {"cycles": 5000, "logits_cycles": 4000, "busy_cycles": 5000}}).encode(),)


class _Simulated:
    """A Timing with one known step. Only the file decides which steps are kept."""

    def decode_key(self, context: int, candidates: int) -> tuple[object, ...]:
        return ("decode", candidates, context)

    def decode(self, context: int, candidates: int) -> object:
        return _KNOWN

    def prefill_times(self, tokens: int, candidates: int) -> object:
        return _KNOWN

    def forget_steps(self) -> None:
        """There is nothing to forget."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Step:
    cycles: int = 7
    logits_cycles: int = 7
    busy_cycles: int = 7


_KNOWN = _Step()


def _read_steps(path: Path) -> None:
    """Asks for steps, some of which are in the file. The file is then written again."""
    from wsesim.toolchain.kept_steps import KeptSteps

    simulated: Any = _Simulated()  # of a Timing, only what KeptSteps calls
    steps = KeptSteps(simulated, path)
    for step in (steps.decode(64, 1), steps.prefill(5, 1), steps.decode(3, 1)):
        assert all(type(value) is int for value in (step.cycles, step.logits_cycles, step.busy_cycles))


_FIXED = {
    "compile": ("compile", "tiny", "--machine", "toy4x4"),
    "simulate": ("simulate", "tiny", "--machine", "toy4x4"),
    "search": ("search", "tiny", "--machine", "toy4x4", "--budget", "0"),
    "compare": ("compare", "tiny", "--machine", "toy4x4", "--with", "context=3"),
    "complete": ("complete", "Once", "--model", "tiny", "--machine", "toy4x4", "--max-tokens", "2"),
    "serve": ("serve", "--model", "tiny", "--machine", "toy4x4"),
    "machines": ("machines",),
    "models": ("models",),
}
"""What stands before the options, so that no case compiles or runs a large model."""

_OPTIONS = {
    "compile": ("--print", "place", "-o", "out.txt", "--batch", "2"),
    "simulate": ("--phase", "prefill", "--tokens", "3", "--batch", "1", "--in-flight", "1", "--json", "--congestion"),
    "search": ("--objective", "latency=2,prompt=1", "--slo", "context>=8", "--seed", "1", "--jobs", "1", "--top", "2"),
    "compare": (
        "--with",
        "strategy=shared,set.loop_cycles=3",
        "--context",
        "4",
        "--json",
        "--all",
        "--phase",
        "decode",
    ),
    "complete": ("--temperature", "0.5", "--top-p", "0.9", "--seed", "3", "--stop", "x", "--dtype", "bf16", "--json"),
    "serve": (
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--api-key",
        "k",
        "--queue",
        "4",
        "--body-bytes",
        "9",
        "--body-s",
        "1",
    ),
    "machines": ("--print", "toy4x4", "--set", "fabric.hop_cycles=2"),
    "models": (),
}
_LOWERING = (
    *("--strategy", "shared", "--max-context", "64", "--sequences", "2", "--timing-dtype", "fp16", "--kv", "shift"),
    *("--kv-dtype", "int8", "--softmax", "fused", "--collective", "two_phase:2", "--order", "row_major"),
    *("--set", "fabric.hop_cycles=2", "--set", "op.fma.fp16=3/2"),
)
_WORDS = (
    *NUMBER_WORDS,
    *(
        "",
        " ",
        "-",
        "--",
        "---",
        "\0",
        "\ud800",
        "é",
        "a\nb",
        "x" * 5000,
        "/dev/zero",
        "/dev/null",
        ".",
        "..",
        "nothing",
    ),
    *(
        "4x4",
        "0x0",
        "-1x2",
        "9999999999x1",
        "1x",
        "x1",
        "auto",
        "ring",
        "streamed_tree",
        "two_phase:0",
        "two_phase:99999",
    ),
    *(
        "hybrid",
        "pipelined",
        "shared",
        "concat",
        "fp32",
        "wse2",
        "toy4x4",
        "decode",
        "prefill",
        "graph",
        "--help",
        "--version",
    ),
    *(
        "--block",
        "--layers-per-block",
        "--stop-after",
        "emit",
        "--placement",
        "--defects",
        "--from",
        "--machine",
        "--sensitivity",
        "--weights",
    ),
    *("--write-s", "--requests-per-day", "--tokens-per-minute", "--text-from", "--print=", "--batch=2", "-o=", "@file"),
    *(
        "--set",
        "hop_cycles=",
        "=2",
        "fabric.hop_cycles=1e999",
        "name=x",
        "base=wse3",
        "op.exp.fp16=1/0",
        "dead=[[0,0]]",
    ),
    *("--form", "swiglu=scalar_exp", "qkv=", "--prefill-chunk", "--software", "wsesim-plain", "--softmax", "fused"),
    *("--with", "strategy=hybrid,", "form=swiglu=x,kv=shift", "set.dead=[[0,0],[1", "placement=.", "model=", "a.json"),
    *("--print", "--allow-host", "--allow-origin", "http://a:b", "https://x", "*", "null"),
)


@cache
def _option_seeds() -> tuple[bytes, ...]:
    """The parent does not run `complete`, which starts threads; its kernels are compiled all the same."""
    apart(lambda: _command("complete"))
    lines = [
        (w, *options, *(_LOWERING if "--machine" in _FIXED[w] and w != "search" else ()))
        for w, options in _OPTIONS.items()
    ]
    return tuple(json.dumps(line).encode() for line in lines)


def _damage_options(rng: Random, data: bytes) -> bytes:
    """Some of the options, with words replaced, dropped, doubled and moved; what stands before them stays."""
    word, *options = json.loads(data)
    pairs = [options[i : i + 2] for i in range(0, len(options), 2)]
    kept = [w for pair in rng.sample(pairs, min(len(pairs), rng.randrange(4))) for w in pair]
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, kind = rng.randrange(len(kept) + 1), rng.randrange(5)
        if kind < 2 and at < len(kept):
            kept[at] = rng.choice(_WORDS)
        elif kind == 2:
            kept[at : at + 1] = []
        elif kind == 3:
            kept.insert(at, rng.choice((*options, *_WORDS)))
        else:
            kept[at:at] = [rng.choice(_LOWERING[::2]), rng.choice(_WORDS)]
    return json.dumps([word, *kept]).encode()


def _read_options(path: Path) -> None:
    """The command in this process. Its refusal is what it prints from `error:` on."""
    _command(*json.loads(path.read_bytes()))


def _command(word: str, *options: str) -> None:
    from wsesim.cli import main

    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main([*_FIXED[word], *options])
        except SystemExit as left:  # argparse exits
            status = int(left.code or 0)
    if status == 0:
        return
    said = err.getvalue()
    assert status == 2 and "error: " in said, (status, said[-500:])
    refusal = said[said.index("error: ") + len("error: ") :].removesuffix("\n")
    if refusal == "out of memory":
        raise MemoryError(refusal)
    raise WsesimError(refusal)


AREAS = (
    Area(
        "machine",
        "machine.toml",
        _machine_seeds,
        one_to_three(*[damage_text((*TOML_WORDS, *_BASES * 3))] * 9, damage_bytes),
        _read_machine,
        _write_bases,
    ),
    Area("placement", "placement.toml", _placement_seeds, damage_toml, _read_placement, share=0.5),
    Area(
        "software",
        "software.toml",
        _software_seeds,
        one_to_three(*[damage_text((*TOML_WORDS, *_STEP_WORDS * 3))] * 9, damage_bytes),
        _read_software,
        share=0.5,
    ),
    Area("defects", "defects.toml", lambda: _DEFECTS, damage_toml, _read_defects),
    Area("steps", "steps.json", _step_seeds, one_to_three(*[damage_json] * 5, damage_bytes), _read_steps),
    Area(
        "options",
        "arguments.json",
        _option_seeds,
        _damage_options,
        _read_options,
        share=0.1,
        warm=lambda seed: b"complete" not in seed and b"serve" not in seed,
    ),
)
