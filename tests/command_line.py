"""Runs `wsesim` for tests, in this process or in another."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from subprocess import PIPE

import pytest

from wsesim.cli import main

TOY = ("--machine", "toy4x4")


@dataclass(frozen=True)
class Outcome:
    """Exit status and the two streams."""

    status: int
    out: str
    err: str


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Outcome:
    """Run one command in this process."""
    capsys.readouterr()
    try:
        status = main(arguments)
    except SystemExit as left:  # argparse exits
        status = int(left.code or 0)
    return Outcome(status, *capsys.readouterr())


def start(arguments: Sequence[str], stdout: int = PIPE) -> subprocess.Popen[str]:
    """Start one command in another process."""
    command = [sys.executable, "-m", "wsesim.cli", *arguments]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, text=True, env=environment, stdout=stdout, stderr=PIPE)
