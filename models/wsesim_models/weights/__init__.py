"""A model's tensors by Hugging Face name, from arrays, safetensors or GGUF."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wsesim.program.protocols import WeightStore
from wsesim_models.errors import InvalidFileError, MissingWeightsError
from wsesim_models.weights.arrays import ArrayWeights, RawArray, widen
from wsesim_models.weights.gguf import GGUFWeights
from wsesim_models.weights.safetensors import SafetensorsWeights

__all__ = [
    "ArrayWeights",
    "GGUFWeights",
    "RawArray",
    "SafetensorsWeights",
    "Weights",
    "gguf_in",
    "open_weights",
    "widen",
]


class Weights(WeightStore, Protocol):
    """The interface of all stores here: a WeightStore with `raw`, `load` and `fingerprint`."""

    def raw(self, name: str) -> tuple[str, RawArray]:
        """One stored tensor: ("f32" | "f16" | "bf16", its float32, float16 or uint16 array).

        It is a view of the mapped file if the file's order is the model's. A quantised tensor becomes float32.
        """
        ...

    def fingerprint(self) -> str:
        """Hash of each tensor's name, type, shape and a few of its bytes. It does not depend on the file's path.

        Two files that differ only in other bytes have the same hash.
        """
        ...

    def load(self, name: str) -> NDArray[np.float32]: ...


def open_weights(path: str | Path) -> Weights:
    """The tensors at `path`: a .gguf or .safetensors file, an index of shards, or a folder with one of these.

    Raises MissingWeightsError if there are none, InvalidFileError for a file that cannot be read.
    """
    path = Path(os.path.expanduser(path))
    if not os.path.exists(path):
        raise MissingWeightsError(f"no weights at {path}: there is no such file or folder")
    gguf = gguf_in(path)
    if gguf:
        return GGUFWeights(gguf)
    if path.is_dir() or path.name.endswith((".safetensors", ".safetensors.index.json")):
        return SafetensorsWeights(path)
    raise InvalidFileError(
        f"{path.name} is not a file of weights that is read here; supported are .gguf, .safetensors, "
        "*.safetensors.index.json and a folder that holds one of these"
    )


def gguf_in(path: Path) -> Path | None:
    """The GGUF file that `path` is, or the only one in the folder `path` unless it holds safetensors."""
    if path.suffix == ".gguf":
        return path
    if not path.is_dir() or any(path.glob("*.safetensors*")):
        return None
    found = sorted(path.glob("*.gguf"))
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise InvalidFileError(f"{path} holds {len(found)} GGUF files, name one of them: {names}")
    return found[0] if found else None
