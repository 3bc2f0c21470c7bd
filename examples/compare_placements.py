"""Compares placements of a model: the cycles of a token with each of them.

python examples/compare_placements.py smollm2-135m --machine wse3 --max-context 4096
"""

import argparse
import sys
from itertools import product
from typing import Any

import wsesim
from wsesim.cli.scripts import Script
from wsesim.errors import DoesNotFitError
from wsesim.tables import aligned, si_bytes

STRATEGIES = {
    "auto": None,
    "pipelined": None,
    "hybrid": 4,
    "shared": None,
}  # layers on a block, for strategies that have a choice
COLLECTIVES = ("chain", "two_phase")
ORDERS = {"auto": ("serpentine",), "shared": ("serpentine",)}  # one block has no order
HEAD = ("strategy", "collective", "order", "cycles a token", "tokens/s", "PEs", "SRAM")
CHOSEN_HERE = ("strategy", "layers_per_block", "block", "order", "collective", "placement")


def main(options: argparse.Namespace, keywords: dict[str, Any]) -> None:
    rows = [HEAD]
    for strategy, collective in product(STRATEGIES, COLLECTIVES):
        for order in ORDERS.get(strategy, ("serpentine", "row_major")):
            choice = {"strategy": strategy, "layers_per_block": STRATEGIES[strategy], "collective": collective}
            figures = cost(options.model, **keywords, **choice, order=order)
            rows.append((strategy, collective, order, *figures))
    print(f"{options.model} on {keywords['machine']}, decode")
    print(aligned(rows, indent=""))


def cost(model: str, **keywords: Any) -> tuple[str, str, str, str]:
    try:
        program = wsesim.compile(model, **keywords)
    except DoesNotFitError:
        return "does not fit", "-", "-", "-"
    report = wsesim.simulate(program, phase="decode")
    figures = f"{report.cycles:,}", f"{report.tokens_per_second:,.0f}", f"{report.pes:,}"
    return *figures, si_bytes(report.sram_bytes)


if __name__ == "__main__":
    script = Script(__doc__, without=CHOSEN_HERE)
    script.parser.add_argument("model", metavar="MODEL", nargs="?", default="smollm2-135m")
    sys.exit(script.run(main))
