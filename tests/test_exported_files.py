"""MODEL as a file of torch.export.save."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import wsesim
from tests.compiler_modules import hugging_face
from tests.test_torch_caches import growing
from wsesim.errors import InvalidInputError
from wsesim_compiler.frontends.torch_export import export, from_torch
from wsesim_compiler.lower import understand


def test_a_saved_program_is_the_module_that_it_was_exported_from(tmp_path: Path) -> None:
    module = hugging_face(family="qwen2")
    file = tmp_path / "qwen.pt2"
    torch.export.save(export(module), file)
    seen: dict[str, Any] = {}
    made = wsesim.compile(str(file), machine="toy4x4", max_context=32, observe=seen.__setitem__)
    expected = understand(from_torch(module, "qwen"))
    assert seen["recognize"].text(provenance=False) == expected.text(provenance=False)
    assert made.model == "qwen"
    assert wsesim.compile(str(file), machine="toy4x4", max_context=32) == made


def test_a_saved_decode_step_compiles(tmp_path: Path) -> None:
    torch.export.save(growing(hugging_face(), 1), tmp_path / "step.pt2")
    made = wsesim.compile(str(tmp_path / "step.pt2"), machine="toy4x4", max_context=32)
    assert [k.name for k in made.kernels if k.name.endswith(".score")] == ["layer0.score", "layer1.score"]


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file or directory"), (b"PK", "cannot be read as a file of torch.export.save")],
)
def test_a_file_that_is_none_is_refused(content: bytes | None, words: str, tmp_path: Path) -> None:
    file = tmp_path / "odd.pt2"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidInputError, match=re.escape(words)):
        wsesim.compile(str(file), machine="toy4x4")
    with pytest.raises(InvalidInputError, match="has no tokenizer here"):
        wsesim.complete("a", model=str(file), machine="toy4x4")
