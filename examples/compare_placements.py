"""Where to put a model's layers: what each placement costs a token.

python examples/compare_placements.py [MODEL] [MACHINE]
"""

import sys
from itertools import product

import wsesim
from wsesim.errors import DoesNotFitError

ROW = "{:<12}{:<13}{:<13}{:>16}{:>12}{:>10}{:>12}"
STRATEGIES = {"pipelined": 1, "hybrid": 4, "shared": 1}  # layers on a block, where that is to be chosen
COLLECTIVES = ("chain", "two_phase")
ORDERS = {"shared": ("serpentine",)}  # one block has no order


def main(model: str = "smollm2-135m", machine: str = "wse3") -> None:
    print(f"{model} on {machine}, decode")
    print(ROW.format("strategy", "collective", "order", "cycles a token", "tokens/s", "PEs", "SRAM"))
    for strategy, collective in product(STRATEGIES, COLLECTIVES):
        for order in ORDERS.get(strategy, ("serpentine", "row_major")):
            print(ROW.format(strategy, collective, order, *cost(model, machine, strategy, collective, order)))


def cost(model: str, machine: str, strategy: str, collective: str, order: str) -> tuple[str, str, str, str]:
    try:
        program = wsesim.compile(
            model,
            machine=machine,
            strategy=strategy,
            layers_per_block=STRATEGIES[strategy],
            collective=collective,
            order=order,
        )
    except DoesNotFitError:
        return "does not fit", "-", "-", "-"
    report = wsesim.simulate(program, phase="decode")
    figures = f"{report.cycles:,}", f"{report.tokens_per_second:,.0f}", f"{report.pes:,}"
    return *figures, f"{report.sram_bytes / 1e6:,.2f} MB"


if __name__ == "__main__":
    main(*sys.argv[1:])
