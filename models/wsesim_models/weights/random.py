"""Random weights, for `tiny` and for tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsesim_models.config import LlamaConfig

# Without these gains a tied head repeats its input, and attention averages. With them a layer's output outweighs the
# token itself, and queries choose. Then greedy text varies, and its margins are wide.
_GAINS = {"o_proj": 8.0, "down_proj": 8.0, "q_proj": 2.0}


def random_weights(config: LlamaConfig, seed: int) -> dict[str, NDArray[np.float32]]:
    """Every parameter of `config`; the same seed gives the same numbers on every machine.

    Norms are about 1. The embedding is N(0, 1), biases N(0, 0.01). Matrices keep the variance of their input, times
    the square of their gain.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    return {name: _draw(generator, name, shape) for name, shape in config.shapes().items()}


def _draw(generator: np.random.Generator, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    values = generator.standard_normal(shape)
    module = name.split(".")[-2]
    if name.endswith(".bias"):
        return np.asarray(0.1 * values, np.float32)
    if module.endswith("norm"):
        return np.asarray(1 + 0.1 * values, np.float32)
    if module == "embed_tokens":
        return np.asarray(values, np.float32)
    return np.asarray(_GAINS.get(module, 1.0) * values / np.sqrt(shape[1]), np.float32)
