"""What a software must satisfy, whatever it was read from."""

from __future__ import annotations

import dataclasses

from wsesim.errors import brief
from wsesim.software.form import KINDS, check_form
from wsesim.software.software import ROUTES, Software

MOST_CYCLES = 10_000
MOST_STAGE_CYCLES = 100  # a task keeps its delay in a byte, with the machine's stream_cycles


def check_software(software: Software) -> None:
    """Raises ValueError for the first rule that a software breaks."""
    kinds = [form.kind for form in software.forms]
    if tuple(dict.fromkeys(kinds)) != KINDS or kinds != sorted(kinds, key=KINDS.index):
        raise ValueError(f"the forms are those of {', '.join(KINDS)}, in this order, at least one of each")
    names = [(form.kind, form.name) for form in software.forms]
    for kind, name in names:
        if names.count((kind, name)) > 1:
            raise ValueError(f"two forms of {kind} are called {brief(name)}")
    for form in software.forms:
        check_form(form)
    if software.routes not in ROUTES:
        raise ValueError(f"routes is {brief(software.routes)}; known: {', '.join(ROUTES)}")
    ranges = {name: (0, MOST_CYCLES) for name in ("slot_cycles", "stage_cycles", "switch_cycles")}
    ranges["stage_cycles"] = (0, MOST_STAGE_CYCLES)
    numbers = {name: getattr(software, name) for name in ranges}
    for field in dataclasses.fields(software.gemm):
        numbers[f"gemm.{field.name}"] = getattr(software.gemm, field.name)
        ranges[f"gemm.{field.name}"] = (-MOST_CYCLES if field.name == "turn_cycles" else 0, MOST_CYCLES)
    for name, (least, most) in ranges.items():
        if not least <= numbers[name] <= most:
            raise ValueError(f"{name} is {numbers[name]}; it is from {least:,} to {most:,}")
