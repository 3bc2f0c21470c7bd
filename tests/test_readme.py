"""Runs the examples of the README and the notebooks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from wsesim.machine import load_machine

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


API = (ROOT / "docs" / "completions.md").read_text(encoding="utf-8")
EXAMPLES = [example for page in (README, API) for example in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)]
PRINTED = ["the sun", "queue_time=1.4e-05", ""]


@pytest.mark.parametrize(
    ("example", "printed"), [*zip(EXAMPLES, PRINTED, strict=True)], ids=["compile", "connect", "openai"]
)
def test_the_python_examples_run(example: str, printed: str) -> None:
    run = subprocess.run([sys.executable, "-W", "error", "-c", example], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert printed in run.stdout and len(run.stdout) > 10


def test_every_command_of_the_readme_parses() -> None:
    """Only the parser runs here. Other tests run each command."""
    from wsesim.cli.parser import make_parser

    lines = [re.split("[#>]", line)[0] for block in re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
             for line in block.splitlines()]  # fmt: skip
    commands = [c for line in lines for c in line.split(";") if c.strip().startswith("wsesim")]
    assert len(commands) >= 5
    for command in commands:
        words = [quoted or word for quoted, word in re.findall(r'"([^"]*)"|(\S+)', command)]
        assert make_parser().parse(words[1:]).run


def test_the_modelled_figures_are_the_held_ones() -> None:
    held = json.loads((ROOT / "tests" / "regression.json").read_text(encoding="utf-8"))
    rows = re.findall(
        r"^\| (\S+) \| (auto|pipelined|shared) \| ([\d,]+) \| [\d,]+ \| ([\d,]+) \|", README, flags=re.MULTILINE
    )
    assert len(rows) >= 5
    for model, strategy, context, cycles in rows:
        assert held[f"{model} wse3 {strategy} decode {int(context.replace(',', ''))}"] == int(cycles.replace(",", ""))


def test_the_worked_example_is_held() -> None:
    """Cycles of both placements; their parts sum to them, and the rates follow from them."""
    held = json.loads((ROOT / "tests" / "regression.json").read_text(encoding="utf-8"))
    rows = re.findall(
        r"^\| `(\w+)`(?:, \d layers a block)? \| \d+ \| \d+ x \d+ \| (.*) \|$", README, flags=re.MULTILINE
    )
    names = {"pipelined": "pipelined", "hybrid": "hybrid/4"}
    assert [strategy for strategy, _ in rows] == list(names)
    for strategy, figures in rows:
        cycles, compute, network, other, rate = (int(figure.replace(",", "")) for figure in figures.split(" | "))
        assert held[f"llama3.1-8b wse3 {names[strategy]} decode 512"] == cycles == compute + network + other
        assert rate == round(load_machine("wse3").clock_hz / cycles)


def test_files_that_the_readme_names_exist() -> None:
    for path in re.findall(r"\]\(([^)#:]+)\)|`((?:docs|examples|notebooks)/[^` ]+)`", README):
        assert (ROOT / (path[0] or path[1])).exists(), path


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # jupyter's own
@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_a_notebook_runs_and_draws(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "notebooks are kept without outputs"
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
    pictures = [o for cell in notebook.cells for o in cell.get("outputs", []) if o.output_type == "display_data"]
    assert len(pictures) >= 3
