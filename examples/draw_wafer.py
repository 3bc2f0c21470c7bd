"""Draws where a model lies on the wafer and where a token's time goes: the picture of the README.

python examples/draw_wafer.py llama3.1-8b docs/wafer.png
"""

import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import wsesim
from wsesim.report.plots import draw_operators, draw_placement


def main(model: str, path: str) -> None:
    program = wsesim.compile(model)
    report = wsesim.simulate(program, phase="decode", context=512)
    figure, (wafer, operators) = plt.subplots(1, 2, figsize=(11, 6), width_ratios=(2, 3))
    draw_placement(program, wafer)
    draw_operators(report, operators)
    operators.set_title(
        f"decode over 512 cached tokens: {report.cycles:,} cycles = {report.seconds * 1e6:.0f} us a token", fontsize=9
    )
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    print(f"{path}: {report.tokens_per_second:,.0f} tokens/s")


if __name__ == "__main__":
    main(*sys.argv[1:3] if len(sys.argv) > 2 else ("smollm2-135m", "wafer.png"))
