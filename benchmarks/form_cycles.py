"""`python -m benchmarks.form_cycles`: the tables of docs/forms.md, modelled anew. No time is measured.

Each form of `wsesim` is switched off alone, then each assumption is doubled and halved. `make refresh` runs it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wsesim
from wsesim.software import Form, Software, load_software
from wsesim.software.software import REWRITTEN

PAGE = Path(__file__).parents[1] / "docs" / "forms.md"
MODEL, CONTEXT, TOKENS = "llama3.1-8b", 512, 64
HAND = str(Path(__file__).parents[1] / "examples" / "placements" / "llama3.1-8b-624x142.toml")
PLACEMENTS: dict[str, dict[str, Any]] = {
    "pipelined": {"strategy": "pipelined"},
    "hybrid, 4 per block": {"strategy": "hybrid", "layers_per_block": 4},
    "by hand": {"placement": HAND},
}
OWN = load_software("wsesim")


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to write the kernels: the software, and further options."""

    software: Software = OWN
    options: dict[str, Any] = field(default_factory=dict)

    def decode_cycles(self, placement: dict[str, Any]) -> int:
        program = wsesim.compile(MODEL, software=self.software, **placement, **self.options)
        return wsesim.simulate(program, context=CONTEXT).cycles

    def prompt_cycles(self, placement: dict[str, Any]) -> int:
        program = wsesim.compile(MODEL, software=self.software, prefill_chunk=4, **placement, **self.options)
        return wsesim.simulate(program, phase="prefill", tokens=TOKENS).cycles


def rewritten(pattern: str, by: str | Callable[[re.Match[str]], str], name: str) -> Software:
    """`wsesim` with other steps."""

    def changed(form: Form) -> Form:
        first, steps = (tuple(re.sub(pattern, by, step) for step in part) for part in (form.each_output, form.steps))
        return dataclasses.replace(form, each_output=first, steps=steps)

    return dataclasses.replace(OWN, name=name, forms=tuple(map(changed, OWN.forms)))


def by_head() -> Software:
    """A loop over the heads wherever an operation goes over all of them."""
    fewer = rewritten(r", groups=[^),]*", "", "by_head")
    return dataclasses.replace(fewer, forms=tuple(map(_unfolded, fewer.forms)))


def _unfolded(form: Form) -> Form:
    steps = tuple(step.replace("fold(", "reduce(") for step in form.steps)
    if form.kind in ("Softmax", "FlashSum", "Score"):
        looped = {"elementwise(heads*positions)": "elementwise(positions, slots=heads)"}
        looped["elementwise(heads*features)"] = "elementwise(features, slots=heads)"
        looped["elementwise(heads*(features+1))"] = "elementwise(features+1, slots=heads)"
        steps = tuple(looped.get(step, step) for step in steps)
    return dataclasses.replace(form, steps=steps)


OFF: dict[str, Callable[[], Variant]] = {
    "all on": Variant,
    "vector exponential and sigmoid": lambda: Variant(
        options={"softmax": "fused", "form": "swiglu=scalar_exp,flash_sum=scalar_exp"}
    ),
    "vector reciprocals": lambda: Variant(
        rewritten(r"((divide|rsqrt)\([^)]*), vector=\d+", r"\1", "scalar_reciprocals")
    ),
    "one product for all outputs": lambda: Variant(options={"form": "qkv=by_output,gate_up=by_output"}),
    "norms folded": lambda: Variant(options={"form": "attn_norm=two_pass,ffn_norm=two_pass,norm=two_pass"}),
    "routes switched": lambda: Variant(dataclasses.replace(OWN, name="rewritten", routes=REWRITTEN)),
    "heads batched": lambda: Variant(by_head(), {"form": "rope=by_head"}),
    "softmax fused": lambda: Variant(options={"softmax": "two_pass"}),
    "all off (`wsesim-plain`)": lambda: Variant(load_software("wsesim-plain")),
}
ASSUMED: dict[str, Callable[[], Variant]] = {
    "a switch takes 120 cycles": lambda: Variant(dataclasses.replace(OWN, name="switch_120", switch_cycles=120)),
    "a switch takes 30 cycles": lambda: Variant(dataclasses.replace(OWN, name="switch_30", switch_cycles=30)),
    "twice the operations of every vector function": lambda: Variant(
        rewritten(r"vector=(\d+)|times=23", lambda m: f"vector={2 * int(m[1])}" if m[1] else "times=44", "twice")
    ),
    "half of them": lambda: Variant(
        rewritten(r"vector=(\d+)|times=23", lambda m: f"vector={int(m[1]) // 2}" if m[1] else "times=13", "half")
    ),
    "an operand of stride 0 halves the rate": lambda: Variant(
        rewritten(r"vector=12|times=23|(elementwise\(tokens\*outputs\*norms)", _stride_0, "stride_0")
    ),
}


def _stride_0(found: re.Match[str]) -> str:
    """8 of 12 operations of an exponential and 13 of 23 of a SwiGLU have a constant; so has the scale of a norm."""
    return {"vector=12": "vector=20", "times=23": "times=36"}.get(found[0], f"{found[0]}*2")


def rows(variants: dict[str, Callable[[], Variant]]) -> Iterator[str]:
    """A row of Markdown for each variant."""
    for name, make in variants.items():
        cells = [f"{make().decode_cycles(placement):,}" for placement in PLACEMENTS.values()]
        cells.append(f"{make().prompt_cycles(PLACEMENTS['hybrid, 4 per block']):,}")
        yield f"| {name} | " + " | ".join(cells) + " |"


def table(first: str, variants: dict[str, Callable[[], Variant]]) -> str:
    """The table of some variants in Markdown."""
    heading = f"| {first} | " + " | ".join(PLACEMENTS) + " | prompt of 64, hybrid |"
    return "\n".join([heading, "|---|" + "---|" * 4, *rows(variants)])


def written(page: str, tables: dict[str, str]) -> str:
    """The page with its tables, each between its two marks."""
    for name, text in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}"
    return page


def main() -> None:
    """Writes the tables into the page."""
    tables = {"single forms": table("switched off", OFF), "assumptions": table("assumed instead", ASSUMED)}
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), tables), encoding="utf-8")


if __name__ == "__main__":
    main()
