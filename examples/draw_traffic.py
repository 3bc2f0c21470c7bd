"""Draws a decode step on the wafer: how long tasks hold each PE, the traffic of each link, the tasks of one line.

python examples/draw_traffic.py smollm2-135m traffic.png --strategy shared
"""

import argparse
import sys
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import wsesim
from wsesim.cli.scripts import Script
from wsesim.machine import Rect
from wsesim.report.plots import draw_links, draw_tasks, draw_utilisation
from wsesim.toolchain import make_timing


def main(options: argparse.Namespace, keywords: dict[str, Any]) -> None:
    program = wsesim.compile(options.model, **keywords)
    step = make_timing(program).decode(min(512, program.max_context - 1))
    figure, (utilisation, links, tasks) = plt.subplots(1, 3, figsize=(17, 5))
    draw_utilisation(program, step, utilisation)
    draw_links(program, step, links)
    block = program.block(program.kernels[1].block)
    draw_tasks(step, Rect(block.x, block.y, 1, block.rows), tasks)
    tasks.set_title(f"tasks of the first column of block {block.name}", fontsize=9)
    figure.suptitle(f"{program.model} on {program.machine.name}, one decode step: {step.cycles:,} cycles")
    figure.tight_layout()
    figure.savefig(options.picture, dpi=110)
    print(f"{options.picture}: {step.link_events:,} links granted, {step.cycles:,} cycles")


if __name__ == "__main__":
    script = Script(__doc__)
    script.parser.add_argument("model", metavar="MODEL", nargs="?", default="smollm2-135m")
    script.parser.add_argument("picture", metavar="PNG", nargs="?", default="traffic.png")
    sys.exit(script.run(main))
