"""GGUF files of random weights, as llama.cpp's converter writes them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from wsesim_models.config import LlamaConfig
from wsesim_models.weights.random import random_weights

Type = gguf.GGMLQuantizationType
NAMES = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 80)


def permuted(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """llama.cpp's convert_hf_to_gguf.py: rows of q and k for its interleaved rotation."""
    return values.reshape(heads, 2, values.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(values.shape)


def as_llama_cpp_orders(model: LlamaConfig, name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    heads = {"q_proj": model.heads, "k_proj": model.kv_heads}.get(name.split(".")[-2])
    return permuted(values, heads) if heads else values


def write(path: Path, model: LlamaConfig, kind: str = "F32", architecture: str = "llama") -> Path:
    """The random weights of `model` as llama.cpp's converter writes them."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(model.name)
    writer.add_context_length(model.max_context)
    writer.add_embedding_length(model.dim)
    writer.add_block_count(model.layers)
    writer.add_feed_forward_length(model.ffn_dim)
    writer.add_head_count(model.heads)
    writer.add_head_count_kv(model.kv_heads)
    writer.add_key_length(model.head_dim)
    writer.add_layer_norm_rms_eps(model.norm_eps)
    writer.add_rope_freq_base(model.rope_theta)
    if model.rope_scaling:
        plain = dataclasses.replace(model, rope_scaling=None).inv_freq()
        writer.add_tensor("rope_freqs.weight", np.divide(plain, model.inv_freq()).astype(np.float32))
    for name, values in random_weights(model, 4).items():
        stored = as_llama_cpp_orders(model, name, values)
        quantised = kind if values.ndim == 2 else "F32"
        data = gguf.quants.quantize(stored, Type[quantised])
        writer.add_tensor(NAMES.get_name(name, (".weight",)), data, raw_dtype=Type[quantised])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
