"""RoPE's inverse frequencies for a file whose external data is absent: of `rope_theta`, or a config.json beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from wsesim.errors import InvalidInputError
from wsesim.files import parse_json, read_bytes, validated
from wsesim_compiler.errors import ExportError, OnnxFileError
from wsesim_compiler.frontends.rope_frequencies import configured_inv_freq

CONFIG = "config.json"


@dataclass
class RopeSource:
    """Where the frequencies of the model at `path` come from if its own are absent. `used` says whether they were."""

    path: Path
    theta: float | None = None
    used: bool = field(default=False, init=False)

    def frequencies(self, count: int) -> tuple[float, ...] | None:
        """The `count` = head_dim / 2 inverse frequencies; None where nothing tells so many."""
        if self.theta is not None:
            found: tuple[float, ...] | None = tuple(float(self.theta ** -(i / count)) for i in range(count))
        else:
            found = self._configured
        if found is None or len(found) != count:
            return None
        self.used = True
        return tuple(float(np.float32(frequency)) for frequency in found)

    def ways(self) -> str:
        """How a user can tell them."""
        return f"put the data or the model's {CONFIG} beside the file, or give `rope_theta=THETA`"

    @cached_property
    def _configured(self) -> tuple[float, ...] | None:
        """What a config.json beside the file tells."""
        file = self.path.parent / CONFIG
        if not file.is_file():
            return None
        try:
            entries = validated(str(file), dict[str, Any], parse_json(read_bytes(file, "a configuration"), str(file)))
            return configured_inv_freq(SimpleNamespace(**_numbers(entries)))
        except ExportError as error:
            raise OnnxFileError(file, str(error)) from None
        except (TypeError, ValueError, KeyError, ArithmeticError) as error:
            raise InvalidInputError(f"{file}: its RoPE parameters cannot be read: {error!r:.120}") from None


def _numbers(entries: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that RoPE depends on, where they are there."""
    names = ("rope_theta", "rope_parameters", "rope_scaling", "head_dim", "hidden_size", "num_attention_heads")
    return {name: entries[name] for name in names if entries.get(name) is not None}
