"""Fixtures that several files of tests share, and `--update-golden`."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wsesim.cache import cache_dir

if TYPE_CHECKING:
    from wsesim_compiler.ir import Graph
    from wsesim_models.config import LlamaConfig

# Kernels stay in one cache, so tests with an empty cache folder do not compile them again.
os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_dir()))

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the texts that tests compare with")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """golden(name, text) asserts that tests/golden/name holds the text. With --update-golden it writes the file."""
    update = request.config.getoption("--update-golden")

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"there is no {path}: run pytest --update-golden and read what it writes"
        held = path.read_text(encoding="utf-8")
        lines = difflib.unified_diff(held.splitlines(), text.splitlines(), "held", "made", lineterm="")
        assert text == held, "\n".join(["run pytest --update-golden if this is meant:", *lines])

    return compare


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """The GGUF file of smollm2-135m in the user's cache, pulled at the first use."""
    from wsesim_models.cache import at_hand, pull

    return at_hand("smollm2-135m") or pull("smollm2-135m")


@pytest.fixture(scope="session")
def recognised() -> Callable[[str | LlamaConfig], Graph]:
    """recognised(model) gives the recognised graph of a model, made once a session from torch on the meta device."""
    from tests.programs import recognised_graph
    from wsesim_models.config import CONFIGS

    def graph(model: str | LlamaConfig) -> Graph:
        return recognised_graph(CONFIGS[model] if isinstance(model, str) else model)

    return graph
