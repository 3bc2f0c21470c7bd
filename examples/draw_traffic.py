"""Draws what a decode step does to the wafer: how long tasks hold each PE, what crosses each link, one line's tasks.

python examples/draw_traffic.py smollm2-135m traffic.png
"""

import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import wsesim
from wsesim.machine import Rect
from wsesim.report.plots import draw_links, draw_tasks, draw_utilisation
from wsesim.toolchain import make_timing


def main(model: str, path: str, machine: str = "wse3") -> None:
    program = wsesim.compile(model, machine=machine)
    step = make_timing(program).decode(min(512, program.max_context - 1))
    figure, (utilisation, links, tasks) = plt.subplots(1, 3, figsize=(17, 5))
    draw_utilisation(program, step, utilisation)
    draw_links(program, step, links)
    block = program.block(program.kernels[1].block)
    draw_tasks(step, Rect(block.x, block.y, 1, block.rows), tasks)
    tasks.set_title(f"tasks of the first column of block {block.name}", fontsize=9)
    figure.suptitle(f"{program.model} on {program.machine.name}, one decode step: {step.cycles:,} cycles")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    print(f"{path}: {step.link_events:,} links granted, {step.cycles:,} cycles")


if __name__ == "__main__":
    main(*sys.argv[1:4] if len(sys.argv) > 2 else ("smollm2-135m", "traffic.png"))
