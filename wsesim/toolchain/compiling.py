"""MODEL -> Program, remembered on disk by everything that decides it.

MODEL is a name of `wsesim models`, `file.py:factory` (a callable that returns a torch module), or a saved Program.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsesim.errors import InvalidInputError, UnknownNameError
from wsesim.toolchain.disk import kept_file

if TYPE_CHECKING:
    from wsesim.machine import Machine
    from wsesim.program import Program
    from wsesim_compiler.ir import Graph

DEFAULT_MODEL = "smollm2-135m"
DEFAULT_MACHINE = "wse3"
DEFAULT_CONTEXT = 8192

COMPILER_SOURCES = ("wsesim_compiler", "wsesim.program", "wsesim.machine", "wsesim_models.llama")

Say = Callable[[str], None]
Observe = Callable[[str, Any], None]


def silent(line: str) -> None:
    del line


def unobserved(stage: str, value: Any) -> None:
    del stage, value


@dataclass(frozen=True, slots=True)
class Lowering:
    """What the commands that compile have in common. `max_context` None is 8192, or the model's own if that is less."""

    machine: str = DEFAULT_MACHINE
    strategy: str = "pipelined"
    max_context: int | None = None
    sequences: int = 1
    timing_dtype: str = "fp16"
    kv: str = "interleaved"
    collective: str = "auto"
    order: str = "serpentine"


def compile(
    model: str = DEFAULT_MODEL, *, observe: Observe = unobserved, say: Say = silent, **lowering: Any
) -> Program:
    """The Program of `model`; keywords as in Lowering. Remembered on disk by everything that decides it.

    `observe` is called with each stage's name and result, and turns the disk's memory off. Raises WsesimError.
    """
    return compile_model(model, Lowering(**lowering), observe=observe, say=say)


def compile_model(model: str, lowering: Lowering, *, observe: Observe = unobserved, say: Say = silent) -> Program:
    """As `compile`, with the keywords as one value."""
    from wsesim.machine import load_machine
    from wsesim.program.text import load_program

    if is_saved_program(model):
        if lowering != Lowering():
            raise InvalidInputError(
                f"{model} is a saved Program: it has its machine and placement, give no options for them"
            )
        return load_program(model)
    machine = load_machine(lowering.machine)
    if observe is not unobserved or ":" in model:
        return _lower(_understand(model, observe, say), machine, lowering, model, observe)
    return _remembered_program(model, machine, lowering, say)


def compile_from(path: str, lowering: Lowering, *, observe: Observe = unobserved) -> Program:
    """The Program that the rest of the lowering makes of a Graph's text, raw, canonical or recognised."""
    from wsesim.machine import load_machine
    from wsesim_compiler.lower import from_text

    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path}: cannot be read as a Graph: {error}") from None
    graph = from_text(text, observe)
    return _lower(graph, load_machine(lowering.machine), lowering, graph.name, observe)


def is_saved_program(model: str) -> bool:
    """Whether MODEL is a file that begins as a Program's text does."""
    path = Path(model)
    if not path.is_file() or path.suffix == ".py":
        return False
    with path.open("rb") as file:
        return file.read(8) == b"program "


def _remembered_program(model: str, machine: Machine, lowering: Lowering, say: Say) -> Program:
    from wsesim.program.text import load_program, save_program
    from wsesim_models.config import config

    path = kept_file("programs", model, (config(model), machine, lowering), COMPILER_SOURCES)
    if path.is_file():
        return load_program(path)
    program = _lower(_remembered_graph(model, say), machine, lowering, model, unobserved)
    save_program(program, path)
    return program


def _remembered_graph(model: str, say: Say) -> Graph:
    from wsesim.program.cache_dir import write_whole
    from wsesim_compiler.text import parse_graph
    from wsesim_models.config import config

    path = kept_file("graphs", model, config(model), COMPILER_SOURCES)
    if path.is_file():
        return parse_graph(path.read_text(encoding="utf-8"))
    graph = _understand(model, unobserved, say)
    write_whole(path, str(graph))
    return graph


def _understand(model: str, observe: Observe, say: Say) -> Graph:
    """Torch graph -> recognised Graph."""
    from wsesim_compiler.frontends.torch_export import from_torch
    from wsesim_compiler.lower import understand

    module, name = _torch_module(model)
    say(f"reading the torch graph of {name}")
    return understand(from_torch(module, name=name), observe)


def _torch_module(model: str) -> tuple[Any, str]:
    """The torch module that MODEL means, without weights where the models' table knows it."""
    if ":" in model:
        return _from_factory(model)
    if Path(model).suffix == ".onnx":
        raise InvalidInputError(f"{model}: ONNX files are not read yet; give a torch module as file.py:factory")
    import torch

    from wsesim_models.config import config
    from wsesim_models.llama import Llama

    known = config(model)
    with torch.device("meta"):
        return Llama(known), known.name


def _from_factory(model: str) -> tuple[Any, str]:
    import runpy

    file, _, factory = model.rpartition(":")
    if not Path(file).is_file():
        raise InvalidInputError(f"{model}: there is no file {file}; file.py:factory names a callable of a Python file")
    names = runpy.run_path(file)
    if not callable(names.get(factory)):
        made = [n for n, v in names.items() if callable(v) and not n.startswith("_")]
        raise UnknownNameError(f"factory in {file}", factory, made)
    return names[factory](), Path(file).stem


def _lower(graph: Graph, machine: Machine, lowering: Lowering, model: str, observe: Observe) -> Program:
    from wsesim_compiler.lower import lower
    from wsesim_compiler.options import Options

    options = Options(
        strategy=lowering.strategy,
        max_context=_context(model, lowering),
        sequences=lowering.sequences,
        timing_dtype=lowering.timing_dtype,
        kv=lowering.kv,
        collective=lowering.collective,
        order=lowering.order,
    )
    return lower(graph, machine, options, observe)


def _context(model: str, lowering: Lowering) -> int:
    """The context to compile for. Raises InvalidInputError beyond the model's own."""
    from wsesim_models.config import CONFIGS

    own = CONFIGS[model].max_context if model in CONFIGS else None
    if lowering.max_context is None:
        return min(DEFAULT_CONTEXT, own or DEFAULT_CONTEXT)
    if own is not None and lowering.max_context > own:
        raise InvalidInputError(f"--max-context {lowering.max_context}: {model} was made for {own} tokens")
    return lowering.max_context
