"""The command that makes the result of a search again, for the head of a placement file."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator

from wsesim.machine import Machine
from wsesim.machine.text import base_of, differences
from wsesim.software.software import Software
from wsesim.toolchain.options import Lowering, SearchOptions

ALWAYS = ("seed", "budget")
NEVER = ("jobs", "top", "explain", "machine", "software")
"""What decides nothing, and what is said otherwise."""


def command_of(model: str, options: SearchOptions, lowering: Lowering) -> str:
    """As `wsesim search llama3.1-8b --budget 60s --seed 0 --machine wse3 --set fabric.hop_cycles=1`."""
    words = ["wsesim", "search", model]
    for group in (options, lowering):
        for field in dataclasses.fields(group):
            value = getattr(group, field.name)
            if field.name not in NEVER and (value != field.default or field.name in ALWAYS):
                for one in value if isinstance(value, tuple | list) else (value,):
                    words += [f"--{field.name.replace('_', '-')}", str(one)]
    words += _machine(lowering.machine)
    software = lowering.software
    if software != Lowering().software:
        words += ["--software", software.name if isinstance(software, Software) else software]
    return shlex.join(words)


def _machine(machine: str | Machine) -> Iterator[str]:
    """The machine, and how it differs from the preset or file that it comes from."""
    if isinstance(machine, str):
        yield from ("--machine", machine)
        return
    base = base_of(machine)
    yield from ("--machine", base.name if base is not None else machine.name)
    for changed in differences(machine):
        yield from ("--set", f"{changed.field}={changed.value}")
