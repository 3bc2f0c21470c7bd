"""MODEL -> Program, remembered on disk by everything that decides it. `sources` says what MODEL may be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsesim.cache import keep, read_kept
from wsesim.errors import InvalidInputError
from wsesim.files import read_text
from wsesim.machine import Machine
from wsesim.progress import working
from wsesim.toolchain.kept import file_state, kept_file, say_if_compiling
from wsesim.toolchain.options import (
    DEFAULT_MACHINE,
    DEFAULT_MODEL,
    Lowering,
    check_types,
    chosen,
    public,
)
from wsesim.toolchain.sources import (
    check_model,
    is_exported,
    is_factory,
    is_name,
    is_onnx,
    is_saved_program,
    machine_of,
    options_of,
)

if TYPE_CHECKING:
    from torch import nn

    from wsesim.program import Program
    from wsesim_compiler.ir import Graph
    from wsesim_compiler.options import Options

GRAPH_SOURCES = (
    "wsesim_compiler.lower",
    "wsesim_compiler.text",
    "wsesim_compiler.frontends.torch_export",
    "wsesim_models.llama",
)
PROGRAM_SOURCES = (
    *GRAPH_SOURCES,
    "wsesim_compiler.frontends.exported",
    "wsesim.program.files",
    "wsesim.toolchain.onnx_model",
    "wsesim.toolchain.oracle",
)

Say = Callable[[str], None]
Observe = Callable[[str, Any], None]


def silent(line: str) -> None:
    del line


def unobserved(stage: str, value: Any) -> None:
    del stage, value


def stage_text(value: Any) -> str:
    """The whole text of what a stage made, as `wsesim compile --print` prints it; a Program's `str` is a table."""
    from wsesim.program import Program

    return value.text() if isinstance(value, Program) else str(value)


@public(Lowering)
def compile(
    model: str | Program = DEFAULT_MODEL,
    *,
    machine: str | Machine = DEFAULT_MACHINE,
    strategy: str = "pipelined",
    layers_per_block: int | None = None,
    block: tuple[int, int] | None = None,
    order: str = "serpentine",
    placement: str | None = None,
    defects: str | None = None,
    rope_theta: float | None = None,
    max_context: int | None = None,
    sequences: int | None = None,
    batch: int = 1,
    timing_dtype: str = "fp16",
    kv: str = "interleaved",
    kv_dtype: str | None = None,
    softmax: str = "two_pass",
    collective: str = "auto",
    observe: Observe = unobserved,
    say: Say = silent,
) -> Program:
    """The Program of `model`: where its layers lie on the wafer, and what each PE does.

    It is remembered on disk by everything that decides it. Raises WsesimError for what is wrong with the options or
    the model, DoesNotFitError if the model does not fit.

    Args:
        model: a name of `wsesim models`, file.py:factory, an .onnx or .pt2 file, a saved Program, or a Program.
        machine: a preset's name, a .toml file, or a Machine.
        strategy: "pipelined" (each layer, or half of it, on its own block), "shared" (all layers on one block) or
            "hybrid" (`layers_per_block` layers share a block).
        layers_per_block: with strategy "hybrid".
        block: (columns, rows) of a block of layers. None: the compiler's choice.
        order: "serpentine" or "row_major", of the blocks.
        placement: a TOML file that says what lies where, instead of a strategy.
        defects: a TOML file of dead PEs.
        rope_theta: RoPE's base, for an .onnx file whose external data is absent. None: a config.json beside it.
        max_context: tokens of a sequence. None: 8192, or the model's limit.
        sequences: sequences in the KV cache. None: 1.
        batch: sequences whose tokens make a decode step together.
        timing_dtype: "fp16", "bf16", "int8" or "fp32", of vector operations and wavelets.
        kv: where the KV cache lies: "interleaved", "shift" or "concat".
        kv_dtype: "fp16", "bf16" or "int8". None: the timing dtype.
        softmax: "two_pass", or "fused" into the scan over the values.
        collective: "auto" or one for all kernels, such as "chain" or "streamed_two_phase:8".
        observe: called with each stage's name and result; the Program is then compiled, not read from disk.
        say: called with lines on what takes a while.
    """
    return compile_model(model, chosen(Lowering, locals()), observe=observe, say=say)


def compile_model(
    model: str | Program, lowering: Lowering, *, observe: Observe = unobserved, say: Say = silent
) -> Program:
    """As `compile`, with the options as one value."""
    from wsesim.program import Program

    check_types({"model": model}, {"model": str | Program})
    if not isinstance(model, str) or is_saved_program(model):
        return _finished_program(model, lowering, observe)
    check_model(model)
    machine, options = machine_of(lowering), options_of(model, lowering)
    if observe is unobserved and (is_name(model) or is_onnx(model) or is_exported(model)):
        return _remembered_program(model, machine, options, lowering.rope_theta, say)
    return _lower(_understand(model, lowering.rope_theta, observe, say), machine, options, observe)


def compile_from(path: str, lowering: Lowering, *, observe: Observe = unobserved) -> Program:
    """The Program that the rest of the lowering makes of a Partition's text, or of a Graph's at any stage."""
    from wsesim.toolchain.oracle import EngineOracle
    from wsesim_compiler.lower import from_text, lower_partition

    machine = machine_of(lowering)
    split = from_text(read_text(path, "a Graph or Partition"), observe)
    return lower_partition(split, machine, options_of(split.graph.name, lowering), EngineOracle(), observe)


def _finished_program(model: str | Program, lowering: Lowering, observe: Observe) -> Program:
    """A Program as it is, saved or not."""
    from wsesim.program.files import load_program

    if lowering != Lowering():
        name = f"{model} is a saved" if isinstance(model, str) else f"this is {model.model}'s"
        raise InvalidInputError(f"{name} Program: it has its machine and placement, give no options for them")
    program = load_program(model) if isinstance(model, str) else model
    observe("emit", program)
    return program


def _remembered_program(model: str, machine: Machine, options: Options, rope_theta: float | None, say: Say) -> Program:
    """Of a name by its constants, of a file by what is in it and what lies beside it."""
    from wsesim.machine.text import whole_text
    from wsesim_models.config import config

    stated = config(model) if is_name(model) else file_state(Path(model))
    if stated is None:  # the reader says what is wrong with it
        return _lower(_understand(model, rope_theta, unobserved, say), machine, options, unobserved)
    decided = (stated, whole_text(machine), options, rope_theta)
    path = kept_file("programs", Path(model).name, decided, PROGRAM_SOURCES)
    kept = read_kept(path, _parse_program)
    if kept is not None:
        return kept
    graph = _remembered_graph(model, say) if is_name(model) else _understand(model, rope_theta, unobserved, say)
    say_if_compiling(say)
    program = _lower(graph, machine, options, unobserved)
    keep(path, program.text())
    return program


def _parse_program(data: bytes) -> Program:
    from wsesim.program.files import parse_program
    from wsesim.program.verify import verify_program

    program = parse_program(data.decode())
    verify_program(program)
    return program


def _remembered_graph(model: str, say: Say) -> Graph:
    from wsesim_compiler.text import parse_graph
    from wsesim_models.config import config

    path = kept_file("graphs", model, config(model), GRAPH_SOURCES)
    kept = read_kept(path, lambda data: parse_graph(data.decode()))
    if kept is not None:
        return kept
    graph = _understand(model, None, unobserved, say)
    keep(path, str(graph))
    return graph


def _understand(model: str, rope_theta: float | None, observe: Observe, say: Say) -> Graph:
    """Torch graph or ONNX file -> recognised Graph."""
    from wsesim_compiler.frontends.torch_export import from_exported, from_torch
    from wsesim_compiler.lower import understand

    if is_onnx(model):
        from wsesim.toolchain.onnx_model import understand_onnx

        with working(f"reading {model}"):
            return understand_onnx(model, rope_theta, observe).graph
    if is_exported(model):
        from wsesim_compiler.frontends.exported import read_exported

        say(f"reading the exported program {model}")
        with working(f"reading the exported program {model}"):
            graph = from_exported(read_exported(Path(model)), Path(model).stem)
        return understand(graph, observe)
    if is_factory(model):
        from wsesim.toolchain.factory import graph_from

        with working(f"reading the torch graph of {model}"):
            graph = graph_from(model, say)
        return understand(graph, observe)
    say(f"reading the torch graph of {model}")
    with working(f"reading the torch graph of {model}"):
        graph = from_torch(_torch_module(model), name=model)
    return understand(graph, observe)


def _torch_module(model: str) -> nn.Module:
    """The torch module of a name of the models' table, without weights."""
    import torch

    from wsesim_models.config import config
    from wsesim_models.llama import Llama

    known = config(model)
    with torch.device("meta"):
        return Llama(known)


def _lower(graph: Graph, machine: Machine, options: Options, observe: Observe) -> Program:
    from wsesim.toolchain.oracle import EngineOracle
    from wsesim_compiler.lower import lower

    return lower(graph, machine, options, EngineOracle(), observe)
