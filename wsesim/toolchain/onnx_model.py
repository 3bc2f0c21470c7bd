"""An `.onnx` file: its recognised Graph and its own tensors, with weights named by their roles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from wsesim.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from wsesim_compiler.frontends.onnx import OnnxModel
    from wsesim_compiler.frontends.onnx.weights import OnnxWeights


def understand_onnx(
    model: str, rope_theta: float | None = None, observe: Callable[[str, Any], None] = lambda stage, value: None
) -> OnnxModel:
    """The recognised Graph of a file and its tensors, both with weights named by their roles.

    `observe` gets each stage of the graph. Raises OnnxFileError or UnsupportedOperatorError, as `from_onnx` does.
    """
    from wsesim_compiler.frontends.onnx import OnnxModel, from_onnx
    from wsesim_compiler.lower import understand
    from wsesim_compiler.roles import named_by_role, roles

    def observe_named(stage: str, value: Any) -> None:
        observe(stage, named_by_role(value) if stage == "recognize" else value)

    read = from_onnx(model, rope_theta)
    with np.errstate(all="ignore"):  # what a file's constants overflow to is compared, not warned about
        graph = understand(read.graph, observe_named)
    names = {role: own for own, role in roles(graph).items()}
    return OnnxModel(named_by_role(graph), read.weights.renamed(names))


def check_data(model: str, weights: OnnxWeights) -> None:
    """Raises InvalidInputError if external data of the file `model` is missing."""
    missing = weights.missing()
    if missing:
        raise InvalidInputError(
            f"{model} lacks the external data of {missing[0]} and {len(missing) - 1} more weights; put it beside "
            "the file, or give `weights=PATH`, its safetensors or GGUF, or `text_from=MODEL`, another model's text"
        )
