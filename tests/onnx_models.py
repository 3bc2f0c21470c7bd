"""ONNX files for the tests, made where they are needed: torch's exports, and onnxruntime as the oracle of any file."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from compiler_modules import LLAMA3_ROPE, VOCAB, hugging_face, randomize
from transformers import MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from wsesim.execute.executor import Executor
from wsesim.machine import load_machine
from wsesim.program import Program
from wsesim.toolchain.onnx_model import understand_onnx
from wsesim.toolchain.oracle import EngineOracle
from wsesim_compiler.frontends.torch_export import export
from wsesim_compiler.ir import Graph
from wsesim_compiler.lower import lower, understand
from wsesim_compiler.options import Options
from wsesim_compiler.roles import named_by_role
from wsesim_compiler.text import print_graph

OPSETS = (18, 20, 23)
FORMS = ("plain", "optimised")
MODELS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama3.1 rope": {"rope_parameters": LLAMA3_ROPE},
    "tied": {"tie_word_embeddings": True},
    "qwen3": {"family": "qwen3"},
}
_SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


def model(name: str, **fields: Any) -> torch.nn.Module:
    """A tiny random model of the matrix."""
    return randomize(hugging_face(**MODELS[name], **fields))


def qwen2(**fields: Any) -> torch.nn.Module:
    """With biases of queries, keys and values."""
    return randomize(Qwen2ForCausalLM(Qwen2Config(**{**_SIZES, **fields})).eval())


def mistral(window: int) -> torch.nn.Module:
    """With a window over the last positions."""
    return randomize(MistralForCausalLM(MistralConfig(**_SIZES, sliding_window=window)).eval())


def export_onnx(module: torch.nn.Module, opset: int, folder: Path, **saving: Any) -> dict[str, Path]:
    """Torch's export of a module by form: with a Transpose before each product, and optimised, weights' names lost."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(export(module), dynamo=True, opset_version=opset, optimize=False, verbose=False)
        assert program is not None
        paths = {form: folder / f"{form}.onnx" for form in FORMS}
        program.save(paths["plain"], **saving)
        program.optimize()
        program.save(paths["optimised"], **saving)
    return paths


def session(path: Path, *, exact: bool = True) -> onnxruntime.InferenceSession:
    """onnxruntime for a file; `exact`: int4 products as they are written, not with activations rounded to 8 bits."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not exact:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    file = onnx.load(path)
    for node in file.graph.node:
        kept = [attribute for attribute in node.attribute if attribute.name != "accuracy_level"]
        del node.attribute[:]
        node.attribute.extend(kept)
    return onnxruntime.InferenceSession(file.SerializeToString(), options, providers=["CPUExecutionProvider"])


def ort_logits(made: onnxruntime.InferenceSession, ids: list[int]) -> np.ndarray:
    """Logits [T, V] of one sequence over an empty cache."""
    feed: dict[str, Any] = {}
    for value in made.get_inputs():
        if "mask" in value.name:
            feed[value.name] = np.ones((1, len(ids)), np.int64)
        elif "past" in value.name:
            feed[value.name] = np.zeros((1, value.shape[1], 0, _head_size(value.shape)), np.float32)
        else:
            feed[value.name] = np.array([ids], np.int64)
    return np.asarray(made.run([made.get_outputs()[0].name], feed)[0]).reshape(-1, VOCAB)


def _head_size(shape: list[Any]) -> int:
    return shape[3] if isinstance(shape[3], int) else 8


def ort_greedy(made: onnxruntime.InferenceSession, ids: list[int], count: int) -> list[int]:
    """The likeliest ids after `ids`, one by one."""
    text = list(ids)
    for _ in range(count):
        text.append(int(ort_logits(made, text)[-1].argmax()))
    return text[len(ids) :]


def assert_says_what_onnxruntime_says(path: Path, ids: list[int]) -> None:
    """Executed tile by tile: logits within 1e-4, and 12 greedy ids after `ids` equal."""
    read, oracle = understand_onnx(str(path)), session(path)
    executor = Executor(small_program(read.graph), read.weights)
    sequence = executor.new_sequence()
    logits = np.array([executor.step(sequence, [i]) for i in ids])
    np.testing.assert_allclose(logits, ort_logits(oracle, ids), atol=1e-4)
    text = [int(logits[-1].argmax())]
    while len(text) < 12:
        text.append(int(executor.step(sequence, text[-1:]).argmax()))
    assert text == ort_greedy(oracle, ids, 12)


def recognised_text(graph: Graph) -> str:
    """A raw graph's recognised text, weights by role, without what may differ: name and provenance."""
    return print_graph(named_by_role(understand(graph)).replace(name="model"), provenance=False)


def small_program(graph: Graph, max_context: int = 64) -> Program:
    """A recognised graph on sixteen PEs."""
    machine = dataclasses.replace(load_machine("toy4x4"), sram_bytes=1 << 18)
    return lower(graph, machine, Options(strategy="shared", max_context=max_context), EngineOracle())


def as_inputs(graph: Graph, ids: list[int]) -> Mapping[str, np.ndarray]:
    """The tokens in the shape of the graph's input."""
    value = graph.inputs[0]
    return {value.name: np.array(ids).reshape([1] * (len(value.type.shape) - 1) + [-1])}
