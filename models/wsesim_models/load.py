"""load(): a model's configuration, weights and tokenizer, by its name and a path."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsesim.errors import keyword
from wsesim_models.cache import PULLABLE, at_hand
from wsesim_models.config import LlamaConfig, config
from wsesim_models.config_files import config_at, differences
from wsesim_models.errors import MismatchError, MissingWeightsError
from wsesim_models.tokenizers import Tokenizer, byte_tokenizer, open_tokenizer
from wsesim_models.weights import ArrayWeights, Weights, open_weights
from wsesim_models.weights.check import check_weights
from wsesim_models.weights.random import random_weights

_TINY_SEED = 0


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to run. Its weights fit `config`. `path` is where they are; None if they are built in."""

    config: LlamaConfig
    weights: Weights
    tokenizer: Tokenizer
    path: Path | None


def load(name: str, weights_path: str | Path | None = None) -> LoadedModel:
    """The model `name` with the weights at `weights_path`, or else with the built-in ones or those in the cache.

    The tokenizer is the one beside the weights. Large tensors are mapped, not read.
    Raises UnknownNameError, MissingWeightsError, MissingTokenizerError, InvalidFileError, MismatchError.
    """
    model = config(name)
    path = Path(os.path.expanduser(weights_path)) if weights_path else at_hand(name)
    if path is None and name == "tiny":
        return LoadedModel(model, tiny_weights(), byte_tokenizer(), None)
    if path is None:
        raise MissingWeightsError(_ways(name))
    weights = open_weights(path)
    _check_constants(path, model)
    check_weights(weights, model)
    tokenizer = byte_tokenizer() if name == "tiny" else open_tokenizer(path)
    _check_vocabulary(tokenizer, model)
    return LoadedModel(model, weights, tokenizer, path)


def tiny_weights() -> ArrayWeights:
    """The weights of `tiny`: random, but such that it answers in printable characters."""
    weights = random_weights(config("tiny"), _TINY_SEED)
    embedding = weights["model.embed_tokens.weight"]
    weights["model.embed_tokens.weight"] = np.where(_printable(len(embedding)), embedding, embedding / 8)
    return ArrayWeights(weights)


def _printable(count: int) -> NDArray[np.bool_]:
    token_ids = np.arange(count)[:, None]
    return (token_ids >= ord(" ")) & (token_ids <= ord("~"))


def _ways(name: str) -> str:
    own = f"`weights=PATH` with {name}'s files: a folder of safetensors, or a GGUF"
    pulled = [f"`wsesim models pull {name}`"] if name in PULLABLE else []
    stand_in = (
        [] if name in PULLABLE else [f"{keyword('text_from', other)}, another model's text" for other in PULLABLE]
    )
    return f"the weights of {name} are not at hand; ways: {'; '.join([*pulled, own, *stand_in])}"


def _check_constants(path: Path, model: LlamaConfig) -> None:
    """Compares the constants too: Llama 3 and 3.1 have the same shapes, but another RoPE."""
    found = config_at(path)
    lines = differences(found, model) if found else []
    if lines:
        raise MismatchError(f"{path} is not {model.name}: {'; '.join(lines)}")


def _check_vocabulary(tokenizer: Tokenizer, model: LlamaConfig) -> None:
    if tokenizer.vocab_size > model.vocab_size:
        raise MismatchError(
            f"the tokenizer beside the weights has {tokenizer.vocab_size} tokens, {model.name} has {model.vocab_size}"
        )
