"""Programs of known models for the tests of the engine and of reports: made once a session, never taken from disk."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import Any

import torch

from wsesim.machine import Machine, load_machine
from wsesim.program import Program
from wsesim.program.kernels import Kernel
from wsesim.toolchain.oracle import EngineOracle
from wsesim_compiler.frontends.torch_export import from_torch
from wsesim_compiler.ir import Graph
from wsesim_compiler.lower import lower, understand
from wsesim_compiler.options import Options
from wsesim_models.config import CONFIGS, LlamaConfig
from wsesim_models.llama import Llama

LONGEST_CONTEXT = 8192
ORACLE = EngineOracle()
UNTIED = dataclasses.replace(CONFIGS["tiny"], name="tiny-untied", tied=False)
"""As tiny, with a head of its own: its ids go a way back to the embedding."""
NORMED = dataclasses.replace(CONFIGS["tiny"], name="tiny-normed", qk_norm=True)
"""As tiny, with norms of the heads of q and k."""
BIASED = dataclasses.replace(CONFIGS["tiny"], name="tiny-biased", qkv_bias=True)
"""As tiny, with biases of q, k and v."""


@lru_cache(maxsize=8)
def recognised_graph(config: LlamaConfig) -> Graph:
    """The recognised graph of a model, without weights."""
    with torch.device("meta"):
        module = Llama(config)
    return understand(from_torch(module, name=config.name))


@lru_cache(maxsize=64)
def program(model: str | LlamaConfig, machine: str | Machine, strategy: str = "pipelined", **options: Any) -> Program:
    """`model` lowered for a preset or a Machine, for its whole context (8192 tokens at most)."""
    config = CONFIGS[model] if isinstance(model, str) else model
    where = load_machine(machine) if isinstance(machine, str) else machine
    context = min(LONGEST_CONTEXT, config.max_context)
    return lower(
        recognised_graph(config), where, Options(strategy=strategy, **{"max_context": context, **options}), ORACLE
    )


def with_fields(kernel: Kernel, **fields: Any) -> Kernel:
    """The kernel with other values in these fields, which its type has to have."""
    changed: Any = kernel
    found: Kernel = dataclasses.replace(changed, **fields)
    return found


def on_machine(made: Program, **changes: Any) -> Program:
    """The same Program, placement and all, on a machine some of whose numbers differ.

    Words are fields of Machine or of its Fabric.
    """
    fabric_names = {f.name for f in dataclasses.fields(made.machine.fabric)}
    fabric = {name: value for name, value in changes.items() if name in fabric_names}
    others = {name: value for name, value in changes.items() if name not in fabric_names}
    machine = dataclasses.replace(made.machine, fabric=dataclasses.replace(made.machine.fabric, **fabric), **others)
    return dataclasses.replace(made, machine=machine)
