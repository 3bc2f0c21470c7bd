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
from torch.export import ExportedProgram

from tests.compiler_modules import LLAMA3_ROPE, VOCAB, hugging_face, randomize
from wsesim.machine import load_machine
from wsesim.program import Program
from wsesim.toolchain.oracle import EngineOracle
from wsesim_compiler.ir import Graph
from wsesim_compiler.lower import lower, understand
from wsesim_compiler.options import Options
from wsesim_compiler.roles import named_by_role

OPSETS = (18, 20, 23)
FORMS = ("plain", "optimised")
WINDOW = 4
"""Shorter than the tests' texts, and than the lengths on which static values are tried."""
MODELS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama3.1": {"rope_parameters": LLAMA3_ROPE},
    "tied": {"tie_word_embeddings": True},
    "qwen2": {"family": "qwen2"},
    "qwen3": {"family": "qwen3"},
    "mistral": {"family": "mistral", "sliding_window": WINDOW},
}
_SIZES = {"hidden_size": 64, "head_dim": 16, "intermediate_size": 96}
"""Blocks of 32 divide them, and onnxruntime's attention wants heads of 16 at least."""


def model(name: str, **fields: Any) -> Any:
    """A tiny random transformers model of MODELS."""
    return randomize(hugging_face(**{**_SIZES, **MODELS[name], **fields}))


def export_onnx(exported: ExportedProgram, opset: int, folder: Path, **saving: Any) -> dict[str, Path]:
    """Torch's files of a program by form: with a Transpose before each product, and optimised, weights' names lost."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(exported, dynamo=True, opset_version=opset, optimize=False, verbose=False)
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
    """Logits [T, V] of one sequence over an empty cache, whose rows are there beforehand if it slides."""
    feed: dict[str, Any] = {}
    for value in made.get_inputs():
        if "mask" in value.name:
            feed[value.name] = np.ones((1, len(ids)), np.int64)
        elif "past" in value.name:
            rows = 2 * WINDOW if "sliding" in value.shape[2] else 0
            feed[value.name] = np.zeros((1, value.shape[1], rows, value.shape[3]), np.float32)
        else:
            feed[value.name] = np.array([ids], np.int64)
    return np.asarray(made.run([made.get_outputs()[0].name], feed)[0]).reshape(-1, VOCAB)


def ort_greedy(made: onnxruntime.InferenceSession, ids: list[int], count: int) -> list[int]:
    """The likeliest ids after `ids`, one by one."""
    text = list(ids)
    for _ in range(count):
        text.append(int(ort_logits(made, text)[-1].argmax()))
    return text[len(ids) :]


def recognised_text(graph: Graph) -> str:
    """A raw graph's recognised text, weights by role, without what may differ: name and provenance."""
    return text_by_role(understand(graph))


def text_by_role(recognised: Graph) -> str:
    """The text of a graph that is recognised already."""
    return named_by_role(recognised).replace(name="model").text(provenance=False)


def small_program(graph: Graph, max_context: int = 64) -> Program:
    """A recognised graph on sixteen PEs."""
    machine = dataclasses.replace(load_machine("toy4x4"), sram_bytes=1 << 18)
    return lower(graph, machine, Options(strategy="shared", max_context=max_context), EngineOracle())


def as_inputs(graph: Graph, ids: list[int]) -> Mapping[str, np.ndarray]:
    """The tokens in the shape of the graph's input."""
    value = graph.inputs[0]
    return {value.name: np.array(ids).reshape([1] * (len(value.type.shape) - 1) + [-1])}
