"""Draws where a model lies on the wafer and where a token's time goes: the picture of the README.

python examples/draw_wafer.py llama3.1-8b docs/wafer.png
python examples/draw_wafer.py qwen3-4b qwen.png --placement examples/placements/qwen3-4b-2x4.toml
"""

import argparse
import sys
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import wsesim
from wsesim.cli.scripts import Script
from wsesim.report.plots import draw_operators, draw_placement


def main(options: argparse.Namespace, keywords: dict[str, Any]) -> None:
    program = wsesim.compile(options.model, **keywords)
    report = wsesim.simulate(program, phase="decode", context=min(512, program.max_context - 1))
    figure, (wafer, operators) = plt.subplots(1, 2, figsize=(11, 6), width_ratios=(2, 3))
    draw_placement(program, wafer)
    draw_operators(report, operators)
    operators.set_title(
        f"decode over {report.context} cached tokens: {report.cycles:,} cycles = {report.seconds * 1e6:.0f} us a token",
        fontsize=9,
    )
    figure.tight_layout()
    figure.savefig(options.picture, dpi=110)
    print(f"{options.picture}: {report.tokens_per_second:,.0f} tokens/s")


if __name__ == "__main__":
    script = Script(__doc__)
    script.parser.add_argument("model", metavar="MODEL", nargs="?", default="smollm2-135m")
    script.parser.add_argument("picture", metavar="PNG", nargs="?", default="wafer.png")
    sys.exit(script.run(main))
