"""The computer that measures the figures."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path


def machine_text() -> str:
    """Processor, cores, memory, and the versions that matter."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba", "torch", "transformers"))
    return (
        f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {memory_gb:.0f} GB, load {os.getloadavg()[0]:.1f}; "
        f"Python {sys.version.split()[0]}, {versions}"
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
