"""GGUF: llama.cpp's files, plain or quantised, under Hugging Face names and in Hugging Face order."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wsesim.files import shown
from wsesim_models.errors import InvalidFileError
from wsesim_models.reading import MappedFile
from wsesim_models.weights.arrays import RawArray, fingerprint, widen
from wsesim_models.weights.gguf_header import GGUFHeader, GGUFTensor, read_header

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType

_PLAIN: dict[str, tuple[str, np.dtype[Any]]] = {
    "F32": ("f32", np.dtype("<f4")),
    "F16": ("f16", np.dtype("<f2")),
    "BF16": ("bf16", np.dtype("<u2")),
}
SUPPORTED = (*_PLAIN, "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K")
"""Element types that are read."""

_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_NOT_WEIGHTS = {"rope_freqs.weight"}  # constants of the model: config_files.py reads them


class GGUFWeights:
    """The tensors of one GGUF file.

    Raises InvalidFileError for a damaged, truncated or split file, another architecture than llama, and for
    element types outside `SUPPORTED`.
    """

    def __init__(self, path: str | Path) -> None:
        header = read_header(path)
        _check_kind(header)
        self._file = header.file
        self._heads = header.integer("llama.attention.head_count")
        self._kv_heads = header.integer("llama.attention.head_count_kv", self._heads)
        self._tensors: dict[str, GGUFTensor] = {}
        for tensor in header.tensors.values():
            name = _huggingface_name(tensor.name)
            if name in self._tensors:
                raise InvalidFileError(f"{header.path.name} has the tensor {name} twice, once as {shown(tensor.name)}")
            if name not in _NOT_WEIGHTS:
                _check_tensor(header.file, tensor)
                _check_heads(header.path, tensor, self._rotated_heads(name))
                self._tensors[name] = tensor

    def names(self) -> tuple[str, ...]:
        return tuple(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    def raw(self, name: str) -> tuple[str, RawArray]:
        tensor = self._tensors[name]
        kind = _kind(tensor)
        if kind.name in _PLAIN:
            dtype, stored = _PLAIN[kind.name]
            return dtype, self._in_order(name, self._stored(tensor).view(stored).reshape(tensor.shape))
        return "f32", self._in_order(name, self._dequantised(tensor))

    def load(self, name: str) -> NDArray[np.float32]:
        return widen(*self.raw(name))

    def fingerprint(self) -> str:
        tensors = self._tensors.items()
        return fingerprint((name, _kind(t).name, t.shape, self._stored(t)) for name, t in tensors)

    def _stored(self, tensor: GGUFTensor) -> NDArray[np.uint8]:
        return self._file.array(np.uint8, tensor.offset, (_stored_bytes(tensor),))

    def _dequantised(self, tensor: GGUFTensor) -> NDArray[np.float32]:
        from gguf.quants import dequantize

        rows = self._stored(tensor).reshape(*tensor.shape[:-1], -1)
        with np.errstate(all="ignore"):  # a damaged scale may be NaN or infinite
            return np.asarray(dequantize(rows, _kind(tensor)), np.float32)

    def _in_order(self, name: str, values: RawArray) -> RawArray:
        heads = self._rotated_heads(name)
        return values if heads is None else _unpermuted(values, heads)

    def _rotated_heads(self, name: str) -> int | None:
        """Heads of a tensor whose rows llama.cpp stores in another order; None for all other tensors."""
        if name.endswith("q_proj.weight"):
            return self._heads
        return self._kv_heads if name.endswith("k_proj.weight") else None


def _unpermuted(values: RawArray, heads: int) -> RawArray:
    """Rows of q and k, reordered from llama.cpp's interleaved rotation to half-split: 0, 2, 4, .. | 1, 3, 5, .."""
    pairs = values.reshape(heads, values.shape[0] // heads // 2, 2, -1)
    return pairs.swapaxes(1, 2).reshape(values.shape)


def _huggingface_name(name: str) -> str:
    """The tensor's Hugging Face name, or its own if there is none; `check_weights` then reports it."""
    layer = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
    if layer and layer[2] in _LAYER_NAMES:
        return f"model.layers.{layer[1]}.{_LAYER_NAMES[layer[2]]}.{layer[3]}"
    return _NAMES.get(name, name)


def _kind(tensor: GGUFTensor) -> GGMLQuantizationType:
    from gguf import GGMLQuantizationType

    return GGMLQuantizationType(tensor.type_number)


def _stored_bytes(tensor: GGUFTensor) -> int:
    block, block_bytes = _block(tensor)
    return math.prod(tensor.shape) // block * block_bytes


def _block(tensor: GGUFTensor) -> tuple[int, int]:
    """Elements and bytes of the smallest unit that the tensor's type stores."""
    from gguf import GGML_QUANT_SIZES

    elements, stored_bytes = GGML_QUANT_SIZES[_kind(tensor)]
    return int(elements), int(stored_bytes)


def _check_kind(header: GGUFHeader) -> None:
    header.check_architecture()
    parts = header.integer("split.count", 1)
    if parts > 1:
        raise InvalidFileError(f"{header.path.name} is one of {parts} parts: merge them with llama-gguf-split --merge")


def _check_tensor(file: MappedFile, tensor: GGUFTensor) -> None:
    where = f"{file.path.name}: tensor {shown(tensor.name)}"
    try:
        name = _kind(tensor).name
    except ValueError:
        name = f"type {tensor.type_number}"
    if name not in SUPPORTED:
        raise InvalidFileError(f"{where} is {name}; supported element types are {', '.join(SUPPORTED)}")
    if tensor.shape[-1] % _block(tensor)[0]:
        raise InvalidFileError(f"{where} has rows of {tensor.shape[-1]}, {name} needs multiples of {_block(tensor)[0]}")
    there, needed = file.size_bytes - tensor.offset, _stored_bytes(tensor)
    if there < needed:
        raise InvalidFileError(
            f"{file.path.name} is truncated: tensor {shown(tensor.name)} needs {needed} bytes, "
            f"{max(there, 0)} are there"
        )


def _check_heads(path: Path, tensor: GGUFTensor, heads: int | None) -> None:
    if heads is not None and (heads < 1 or len(tensor.shape) != 2 or tensor.shape[0] % (2 * heads)):
        raise InvalidFileError(
            f"{path.name}: tensor {tensor.name} is {list(tensor.shape)}, expected rows of {heads} heads of an even size"
        )
