"""Checks that weights belong to a model, before any arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from wsesim.files import shown
from wsesim_models.config import LlamaConfig
from wsesim_models.errors import MismatchError
from wsesim_models.weights import Weights, widen

_LISTED = 4
_COMPARED_ROWS = 16
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def check_weights(store: Weights, config: LlamaConfig) -> None:
    """Raises MismatchError unless every parameter of `config` is there in its shape, and no other tensor that counts.

    The error lists tensors that are missing, of another shape, or not part of the model.
    """
    problems = [*_problems(store, config)]
    if problems:
        rest = len(problems) - _LISTED
        more = [f"and {rest} more"] if rest > 0 else []
        listed = "; ".join([*problems[:_LISTED], *more])
        raise MismatchError(f"these are not the weights of {config.name}: {listed}")


def _problems(store: Weights, config: LlamaConfig) -> Iterator[str]:
    shapes, present = config.shapes(), set(store.names())
    for name, shape in shapes.items():
        if name not in present:
            yield f"{name} is missing, expected {list(shape)}"
        elif store.shape(name) != shape:
            yield f"{name} is {list(store.shape(name))}, expected {list(shape)}"
    for name in sorted(present - shapes.keys()):
        if not _harmless(name, store):
            yield f"{shown(name)} {list(store.shape(name))} is not part of this model"


def _harmless(name: str, store: Weights) -> bool:
    """Whether an extra tensor changes nothing: RoPE's table, or a head that is a copy of the tied embedding."""
    return name.endswith("rotary_emb.inv_freq") or (name == _HEAD and _is_copy(store))


def _is_copy(store: Weights) -> bool:
    names = set(store.names())
    if _EMBEDDING not in names or store.shape(_HEAD) != store.shape(_EMBEDDING):
        return False
    rows = np.linspace(0, store.shape(_HEAD)[0] - 1, _COMPARED_ROWS).astype(int)
    return np.array_equal(_rows(store, _HEAD, rows), _rows(store, _EMBEDDING, rows))


def _rows(store: Weights, name: str, rows: NDArray[np.int_]) -> NDArray[np.float32]:
    dtype, values = store.raw(name)
    return widen(dtype, values[rows])
