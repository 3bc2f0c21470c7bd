"""MODEL -> Program: compile(), and a Compilation for callers that compile a model more than once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsesim.cache import keep, read_kept
from wsesim.errors import InvalidInputError
from wsesim.files import read_text
from wsesim.machine import Machine
from wsesim.software.software import Software
from wsesim.toolchain.compiler_options import machine_of, options_of
from wsesim.toolchain.kept import file_state, kept_file
from wsesim.toolchain.model_kinds import check_model, is_exported, is_name, is_onnx, is_saved_program
from wsesim.toolchain.model_source import GRAPH_SOURCES, ModelSource, Observe, Say, silent, unobserved
from wsesim.toolchain.options import (
    DEFAULT_MACHINE,
    DEFAULT_MODEL,
    DEFAULT_SOFTWARE,
    Lowering,
    check_types,
    chosen,
    public,
)
from wsesim.toolchain.warm_up import say_if_compiling

if TYPE_CHECKING:
    from wsesim.program import Program
    from wsesim_compiler.ir import Graph
    from wsesim_compiler.options import Options

PROGRAM_SOURCES = (
    *GRAPH_SOURCES,
    "wsesim_compiler.frontends.exported",
    "wsesim.program.files",
    "wsesim.toolchain.onnx_model",
    "wsesim.toolchain.oracle",
)


def stage_text(value: Any) -> str:
    """The whole text of a stage's result, as `wsesim compile --print` prints it."""
    from wsesim.program import Program

    return value.text() if isinstance(value, Program) else str(value)  # a Program's `str` is a table


@public(Lowering)
def compile(
    model: str | Program = DEFAULT_MODEL,
    *,
    machine: str | Machine = DEFAULT_MACHINE,
    software: str | Software = DEFAULT_SOFTWARE,
    strategy: str = "auto",
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
    softmax: str = "auto",
    collective: str = "auto",
    prefill_chunk: int | None = None,
    form: str | None = None,
    observe: Observe = unobserved,
    say: Say = silent,
) -> Program:
    """The Program of `model`: where its layers lie on the wafer, and what each PE does.

    It is kept on disk, under a digest of everything that it depends on. Raises DoesNotFitError if the model does not
    fit, and another WsesimError if the model or an option is wrong.

    Args:
        model: a name of `wsesim models`, file.py:factory, an .onnx or .pt2 file, a saved Program, or a Program.
        machine: a preset's name, a .toml file, or a Machine.
        software: a preset's name, a .toml file, or a Software: how the kernels are written.
        strategy: "auto" (the best of a few placements), "pipelined" (each layer on its own block), "shared" (all
            layers on one block) or "hybrid" (`layers_per_block` layers share a block).
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
        form: forms of single kernels, by role or by name, such as "swiglu=vector_exp,layer0.o=one_product".
        observe: called with the name and the result of each stage. The Program is then compiled, not read from disk.
        say: called with a line before long work.
    """
    return compile_model(model, chosen(Lowering, locals()), observe=observe, say=say)


@dataclass(frozen=True, slots=True)
class Compilation:
    """A model, a machine and the compiler's options, all checked. Nothing is compiled yet."""

    source: ModelSource
    machine: Machine
    options: Options

    def with_sequences(self, sequences: int) -> Compilation:
        """The same model with another number of sequences in its KV cache."""
        return dataclasses.replace(self, options=dataclasses.replace(self.options, sequences=sequences))

    def program(self, observe: Observe = unobserved, say: Say = silent) -> Program:
        """The Program, from the disk if it is kept there and nobody observes the stages."""
        path = self._kept_path() if observe is unobserved else None
        kept = None if path is None else read_kept(path, _parse_program)
        if kept is not None:
            return kept
        graph = self.source.graph(observe, say)
        say_if_compiling(say)
        program = self._lower(graph, observe)
        if path is not None:
            keep(path, program.text())
        return program

    def _kept_path(self) -> Path | None:
        """The file that keeps the Program; None for a factory, or an unreadable file (its reader says why).

        The Program of a name depends on the constants of the model; that of a file on the file and what lies beside
        it.
        """
        from wsesim.machine.text import whole_text
        from wsesim_models.config import config

        model = self.source.model
        if is_name(model):
            state: object = config(model)
        elif is_onnx(model) or is_exported(model):
            state = file_state(Path(model))
        else:
            return None
        if state is None:
            return None
        software = self.options.software.fingerprint()
        decided = (state, whole_text(self.machine), software, self.options, self.source.rope_theta)
        return kept_file("programs", Path(model).name, decided, PROGRAM_SOURCES)

    def _lower(self, graph: Graph, observe: Observe) -> Program:
        from wsesim.toolchain.oracle import EngineOracle
        from wsesim_compiler.lower import lower

        return lower(graph, self.machine, self.options, EngineOracle(), observe)


def prepare(model: str | Program, lowering: Lowering, objective: str = "latency") -> Compilation | Program:
    """MODEL and its options, checked; a saved Program is loaded. Nothing is compiled. Strategy auto has an `objective`.

    Raises WsesimError for a MODEL that there is not, for a wrong option, and for options beside a Program.
    """
    from wsesim.program import Program
    from wsesim.program.files import load_program

    check_types({"model": model}, {"model": str | Program})
    if isinstance(model, str) and not is_saved_program(model):
        check_model(model)
        return prepare_source(ModelSource(model, lowering.rope_theta), lowering, objective)
    if lowering != Lowering():
        name = f"{model} is a saved" if isinstance(model, str) else f"this is {model.model}'s"
        raise InvalidInputError(f"{name} Program: it has its machine and placement, give no options for them")
    return load_program(model) if isinstance(model, str) else model


def prepare_source(source: ModelSource, lowering: Lowering, objective: str = "latency") -> Compilation:
    """As `prepare`, for a source that may have been read."""
    return Compilation(source, machine_of(lowering), options_of(source.model, lowering, objective))


def compiled(prepared: Compilation | Program, observe: Observe = unobserved, say: Say = silent) -> Program:
    """The Program of what `prepare` returned."""
    if isinstance(prepared, Compilation):
        return prepared.program(observe, say)
    observe("emit", prepared)
    return prepared


def compile_model(
    model: str | Program,
    lowering: Lowering,
    *,
    objective: str = "latency",
    observe: Observe = unobserved,
    say: Say = silent,
) -> Program:
    """As `compile`, with the options as one value. Strategy auto places for `objective`."""
    return compiled(prepare(model, lowering, objective), observe, say)


def compile_from(path: str, lowering: Lowering, *, observe: Observe = unobserved) -> Program:
    """The Program of a file that holds a Partition's text, or a Graph's at any stage: the rest of the lowering."""
    from wsesim.toolchain.oracle import EngineOracle
    from wsesim_compiler.lower import from_text, lower_partition

    machine = machine_of(lowering)
    split = from_text(read_text(path, "a Graph or Partition"), observe)
    return lower_partition(split, machine, options_of(split.graph.name, lowering), EngineOracle(), observe)


def _parse_program(data: bytes) -> Program:
    from wsesim.program.files import parse_program
    from wsesim.program.verify import verify_program

    program = parse_program(data.decode())
    verify_program(program)
    return program
