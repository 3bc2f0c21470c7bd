"""Imports point one way, and looking at the command line costs nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "wsesim": ROOT / "wsesim",
    "wsesim_compiler": ROOT / "compiler" / "wsesim_compiler",
    "wsesim_models": ROOT / "models" / "wsesim_models",
}
LEAVES = (
    "wsesim.errors",
    "wsesim.files",
    "wsesim.cache",
    "wsesim.digests",
    "wsesim.jit",
    "wsesim.progress",
    "wsesim.signals",
    "wsesim.tables",
    "wsesim.version",
)
"""Modules that import nothing of wsesim but each other."""
ALLOWED_BELOW = ("wsesim.machine", "wsesim.software", "wsesim.program", *LEAVES)
COMPOSITION_ROOT = ("wsesim.toolchain", "wsesim.cli")
HEAVY = ("torch", "numba", "networkx", "httpx", "matplotlib")


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package, folder in PACKAGES.items():
        for file in sorted(folder.rglob("*.py")):
            inner = file.relative_to(folder).with_suffix("").parts
            name = ".".join([package, *(part for part in inner if part != "__init__")])
            yield name, ast.parse(file.read_text(encoding="utf-8"))


def imported(name: str, tree: ast.AST) -> set[str]:
    """Every module that a tree imports, at its top or inside functions; `from a import b` is a.b where that is one."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            found |= {_module(node.module or "", alias.name) for alias in node.names}
    return found


def _module(module: str, name: str) -> str:
    package, *inner = module.split(".")
    folder = PACKAGES.get(package)
    if folder is None:
        return module
    inside = folder.joinpath(*inner, name)
    return f"{module}.{name}" if inside.is_dir() or inside.with_suffix(".py").is_file() else module


def _is(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


MODULES = dict(modules())


def test_the_walk_sees_all_three_packages() -> None:
    assert {name.split(".")[0] for name in MODULES} == set(PACKAGES)
    assert {"wsesim.toolchain.compiling", "wsesim_compiler.passes.place", "wsesim_models.llama"} <= set(MODULES)
    assert len(MODULES) > 100


def test_imports_point_one_way() -> None:
    """wsesim imports neither other package but in the composition root; they import three parts of it and their own."""
    breaches = []
    for name, tree in MODULES.items():
        package = name.split(".")[0]
        allowed = ["wsesim"] if package == "wsesim" else [package, *ALLOWED_BELOW]
        if not _is(name, *COMPOSITION_ROOT):
            found = {module for module in imported(name, tree) if _is(module, *PACKAGES)}
            breaches += [f"{name} imports {module}" for module in found if not _is(module, *allowed)]
    assert breaches == []


@pytest.mark.parametrize(
    ("part", "allowed"),
    [
        ("machine", ("machine",)),
        ("software", ("software", "machine")),
        ("program", ("program", "software", "machine")),
        ("engine", ("engine", "program", "software", "machine")),
        ("execute", ("execute", "program", "software", "machine")),
    ],
)
def test_the_lower_parts_of_wsesim_do_not_know_the_upper_ones(part: str, allowed: tuple[str, ...]) -> None:
    below = (*(f"wsesim.{other}" for other in allowed), *LEAVES)
    for name in (n for n in MODULES if _is(n, f"wsesim.{part}")):
        found = {module for module in imported(name, MODULES[name]) if _is(module, *PACKAGES)}
        assert {module for module in found if not _is(module, *below)} == set(), name


ROOMS = ("errors", "graph", "expand", "flow", "exact", "steps", "observe")
"""Rooms of wsesim.engine. None imports a later one."""


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_of_the_engine_imports_a_later_one(room: str) -> None:
    later = [f"wsesim.engine.{name}" for name in ROOMS[ROOMS.index(room) + 1 :]]
    own = {name for name in MODULES if _is(name, f"wsesim.engine.{room}")}
    assert own
    assert not {m for name in own for m in imported(name, MODULES[name]) if _is(m, *later)}


def test_no_file_imports_itself_by_a_detour() -> None:
    """Imports inside functions and for type checkers count too."""
    graph = nx.DiGraph((name, m) for name, tree in MODULES.items() for m in imported(name, tree) if m in MODULES)
    assert [sorted(circle) for circle in nx.strongly_connected_components(graph) if len(circle) > 1] == []


def test_leaves_import_only_each_other() -> None:
    for name in (n for n in MODULES if n in LEAVES):
        assert {m for m in imported(name, MODULES[name]) if _is(m, *PACKAGES)} <= set(LEAVES), name


def test_only_the_command_line_and_the_package_itself_import_the_toolchain() -> None:
    users = {n for n, tree in MODULES.items() if any(_is(m, "wsesim.toolchain") for m in imported(n, tree))}
    assert {n for n in users if not _is(n, *COMPOSITION_ROOT)} == {"wsesim"}


def test_the_composition_root_imports_the_other_packages_lazily() -> None:
    for name in MODULES:
        if name == "wsesim" or _is(name, *COMPOSITION_ROOT):
            found = {module for node in _at_the_top(MODULES[name]) for module in imported(name, node)}
            assert not {m for m in found if _is(m, "wsesim_compiler", "wsesim_models", *HEAVY)}, name


def _at_the_top(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements that run at import: not the bodies of functions, nor what only a type checker reads."""
    for node in tree.body:
        typing_only = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not typing_only and not isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node


HELP = "import runpy, sys; sys.argv = ['wsesim', {}'--help']; runpy.run_module('wsesim.cli', run_name='__main__')"


@pytest.mark.parametrize(
    "start",
    [
        HELP.format(""),
        HELP.format("'simulate', "),
        "import wsesim; dir(wsesim); wsesim.__version__",
        "import wsesim.toolchain",
        "import wsesim; wsesim.load_machine('wse3')",
    ],
)
def test_a_light_start_imports_nothing_heavy(start: str) -> None:
    told = f"import atexit, sys; atexit.register(lambda: print('loaded', *sys.modules, file=sys.stderr)); {start}"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    loaded = done.stderr.split("loaded ")[-1].split()
    assert "wsesim" in loaded
    assert set(loaded).isdisjoint((*HEAVY, "numpy"))


def test_help_as_a_module_says_the_commands() -> None:
    done = subprocess.run([sys.executable, "-m", "wsesim.cli", "--help"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert all(word in done.stdout for word in ("complete", "compile", "simulate", "models", "machines"))


def test_a_lazy_name_that_is_not_there_is_an_attribute_error() -> None:
    import wsesim

    with pytest.raises(AttributeError, match="has no attribute 'compiler'"):
        wsesim.compiler  # noqa: B018
    assert {"compile", "simulate", "complete"} <= set(dir(wsesim))
    assert callable(wsesim.compile)
