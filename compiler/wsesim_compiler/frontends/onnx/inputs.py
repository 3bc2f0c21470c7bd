"""What goes in and out of a model: the tokens, and beside them a mask, positions and an empty cache, if it takes these.

One sequence of T new tokens over an empty cache is read: the mask is all ones, the positions are 0 to T - 1, cached
keys and values have no rows. The recognised `attention` has a cache of its own.

A decode graph, whose tokens are fixed to 1, is read as one for T tokens too: `Builder.single`. Its cache has T - 1
rows while it is read, so that the lengths which the file computes from it are those of T tokens.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from wsesim_compiler.errors import OnnxFileError
from wsesim_compiler.frontends.onnx.builder import Builder
from wsesim_compiler.frontends.onnx.file import Declared, OnnxFile
from wsesim_compiler.frontends.onnx.tensors import DTYPES
from wsesim_compiler.frontends.onnx.values import Dynamic, Static, by_tokens
from wsesim_compiler.ir import TOKENS, TensorType
from wsesim_compiler.operators.elementwise import FLOATS

_INTEGERS = ("i64", "i32")
_ROLES = ("mask", "position")
_CACHE_RANK = 4
_LARGEST_CACHE_DIM = 1 << 16


def bound_inputs(file: OnnxFile, build: Builder) -> dict[str, Dynamic | Static]:
    """Each input's value: the tokens an input of the graph, all else a static one."""
    kinds = {value.name: _kind(file, value) for value in file.inputs}
    tokens = [value for value in file.inputs if kinds[value.name] == "tokens"]
    if len(tokens) != 1:
        names = ", ".join(value.name for value in tokens) or "none"
        raise OnnxFileError(
            file.path, f"its inputs of token ids are {names}; the compiler reads one, beside masks and positions"
        )
    build.single = (tokens[0].dims or (TOKENS,))[-1] == 1 and "cache" in kinds.values()
    bound: dict[str, Dynamic | Static] = {}
    for value in file.inputs:
        if kinds[value.name] == "tokens":
            bound[value.name] = build.input(value.name, _token_type(file, value, build.single))
        else:
            bound[value.name] = _given(value, kinds[value.name], build.single)
    return bound


def logits_of(file: OnnxFile) -> tuple[str, ...]:
    """Outputs that are no caches. Raises OnnxFileError if there is none."""
    names = tuple(value.name for value in file.outputs if value.dims is None or len(value.dims) != _CACHE_RANK)
    if not names:
        raise OnnxFileError(file.path, "none of its outputs can be logits [.., T, vocabulary]")
    return names


def _kind(file: OnnxFile, value: Declared) -> str:
    dtype = DTYPES.get(value.element_type, ("other", None))[0]
    rank = None if value.dims is None else len(value.dims)
    role = next((role for role in _ROLES if role in value.name.lower()), None)
    if dtype in (*_INTEGERS, "bool") and rank in (1, 2) and role:
        return role
    if dtype in _INTEGERS and rank in (1, 2):
        return "tokens"
    if dtype in FLOATS and rank == _CACHE_RANK:
        return "cache"
    raise OnnxFileError(
        file.path,
        f"input {value.name!r} {dtype} {list(value.dims or ())} is neither token ids [1, T], a mask, positions "
        "nor cached keys or values",
    )


def _token_type(file: OnnxFile, value: Declared, single: bool) -> TensorType:
    shape = value.dims or ()
    if len(shape) == 2 and shape[0] != 1 and isinstance(shape[0], int):
        raise OnnxFileError(
            file.path, f"the tokens {value.name!r} are {list(shape)}; export one sequence or a dynamic number of them"
        )
    if isinstance(shape[-1], int) and not single:
        raise OnnxFileError(
            file.path,
            f"the number of tokens is fixed to {shape[-1]}; export it dynamic (dynamic_shapes), or fixed to 1 with "
            "past keys and values",
        )
    return TensorType((TOKENS,) if len(shape) == 1 else (1, TOKENS), DTYPES[value.element_type][0])


def _given(value: Declared, kind: str, single: bool) -> Static:
    dtype = DTYPES[value.element_type][0]
    dims = value.dims or ()
    if kind == "cache":
        heads, size = (min(dim, _LARGEST_CACHE_DIM) if isinstance(dim, int) else 1 for dim in (dims[1], dims[3]))
        rows = by_tokens(lambda tokens: np.zeros((1, heads, tokens - 1 if single else 0, size)), dtype)
        return dataclasses.replace(rows, past=single)
    lead = (1,) * (len(dims) - 1)
    if kind == "position":
        return by_tokens(lambda tokens: np.arange(tokens).reshape(*lead, tokens), dtype)
    return by_tokens(lambda tokens: np.ones((*lead, tokens), bool if dtype == "bool" else np.int64), dtype)
