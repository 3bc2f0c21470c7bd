"""torch -> raw Graph: the graph of torch.export as it is, not decomposed, with parameters under their own
names.

What changes on the way: metadata assertions go, `no_grad` and `autocast` regions are inlined, sizes become
numbers or T, tied parameters share the first one's name, small buffers become constants. No weight is read.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from wsesim.errors import first_line
from wsesim_compiler.errors import ExportError
from wsesim_compiler.frontends.fx import read_program
from wsesim_compiler.frontends.rope_frequencies import configured_inv_freq
from wsesim_compiler.ir import Graph
from wsesim_compiler.verify import verify

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

_EXAMPLE_TOKENS = 13  # any number that torch does not specialise, as it does 0 and 1


def from_torch(module: nn.Module, name: str | None = None, inv_freq: tuple[float, ...] | None = None) -> Graph:
    """Raw Graph of a causal language model `forward(tokens [1, T] or [T]) -> logits`, on any device.

    A transformers model is called as `forward(input_ids=tokens, use_cache=False)`. `inv_freq` gives RoPE's
    inverse frequencies if the module is on the meta device and its `config` does not tell them. Raises
    ExportError, UnsupportedOperatorError or MissingBufferError.
    """
    known = inv_freq or configured_inv_freq(getattr(module, "config", None))
    return from_exported(export(module), name or type(module).__name__, known)


def from_exported(program: ExportedProgram, name: str = "exported", inv_freq: tuple[float, ...] | None = None) -> Graph:
    """Raw Graph of an ExportedProgram from tokens [1, T] or [T], T dynamic, to logits."""
    graph = read_program(program, name, inv_freq)
    verify(graph, "raw")
    return graph


def export(module: nn.Module) -> ExportedProgram:
    """Export a causal language model with a dynamic number of tokens, on the device of its parameters."""
    import torch

    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    failures: list[Exception] = []
    for shape in ((1, _EXAMPLE_TOKENS), (_EXAMPLE_TOKENS,)):
        tokens = torch.zeros(shape, dtype=torch.int64, device=device)
        try:
            with device:  # forward may make tables without saying where
                return _export(module, tokens)
        except Exception as error:  # the module's own code may raise anything
            failures.append(error)
    reason = first_line(failures[0])
    raise ExportError(
        f"{type(module).__name__} cannot be exported as forward(tokens [1, T] or [T]) -> logits: {reason}"
    ) from failures[0]


def _export(module: nn.Module, tokens: Any) -> ExportedProgram:
    import torch

    dynamic = {tokens.ndim - 1: torch.export.Dim.DYNAMIC}
    accepted = inspect.signature(module.forward).parameters
    if "input_ids" not in accepted:
        return torch.export.export(module, (tokens,), dynamic_shapes=(dynamic,), strict=False)
    keywords: dict[str, Any] = {"input_ids": tokens}
    shapes: dict[str, Any] = {"input_ids": dynamic}
    if "use_cache" in accepted:
        keywords["use_cache"], shapes["use_cache"] = False, None
    return torch.export.export(module, (), keywords, dynamic_shapes=shapes, strict=False)
