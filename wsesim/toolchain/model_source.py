"""ModelSource: the graph of a MODEL, read once however often it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsesim.cache import keep, read_kept
from wsesim.progress import working
from wsesim.toolchain.kept import kept_file
from wsesim.toolchain.model_kinds import is_exported, is_factory, is_name, is_onnx

if TYPE_CHECKING:
    from torch import nn

    from wsesim_compiler.frontends.onnx import OnnxModel
    from wsesim_compiler.ir import Graph

GRAPH_SOURCES = (
    "wsesim_compiler.lower",
    "wsesim_compiler.text",
    "wsesim_compiler.frontends.torch_export",
    "wsesim_models.llama",
)

Say = Callable[[str], None]
Observe = Callable[[str, Any], None]


def silent(line: str) -> None:
    del line


def unobserved(stage: str, value: Any) -> None:
    del stage, value


@dataclass(slots=True)
class ModelSource:
    """A name, a factory, an `.onnx` file or a `.pt2` file. `rope_theta` is for an ONNX file without its data."""

    model: str
    rope_theta: float | None = None
    _graph: Graph | None = field(default=None, init=False, repr=False)
    _onnx: OnnxModel | None = field(default=None, init=False, repr=False)

    def graph(self, observe: Observe = unobserved, say: Say = silent) -> Graph:
        """The recognised Graph. `observe` gets the stages up to it, if it is read by this call."""
        if self._graph is None:
            if is_onnx(self.model):
                self._graph = self.onnx(observe).graph
            elif is_name(self.model) and observe is unobserved:
                self._graph = self._kept_graph(say)
            else:
                self._graph = self._read(observe, say)
        return self._graph

    def onnx(self, observe: Observe = unobserved) -> OnnxModel:
        """The recognised Graph of an ONNX file and the file's own tensors."""
        from wsesim.toolchain.onnx_model import understand_onnx

        if self._onnx is None:
            with working(f"reading {self.model}"):
                self._onnx = understand_onnx(self.model, self.rope_theta, observe)
        return self._onnx

    def _kept_graph(self, say: Say) -> Graph:
        """The Graph of a name, from the disk if it is kept there."""
        from wsesim_compiler.text import parse_graph
        from wsesim_compiler.verify import verify
        from wsesim_models.config import config

        def recognised(data: bytes) -> Graph:
            graph = parse_graph(data.decode())
            verify(graph, "recognized")
            return graph

        path = kept_file("graphs", self.model, config(self.model), GRAPH_SOURCES)
        kept = read_kept(path, recognised)
        if kept is not None:
            return kept
        graph = self._read(unobserved, say)
        keep(path, str(graph))
        return graph

    def _read(self, observe: Observe, say: Say) -> Graph:
        """The Graph of a torch module or of an exported program."""
        from wsesim_compiler.lower import understand

        if is_factory(self.model):
            from wsesim.toolchain.factory import graph_from

            with working(f"reading the torch graph of {self.model}"):
                return understand(graph_from(self.model, say), observe)
        what = "exported program" if is_exported(self.model) else "torch graph of"
        say(f"reading the {what} {self.model}")
        with working(f"reading the {what} {self.model}"):
            graph = _exported_graph(Path(self.model)) if is_exported(self.model) else _named_graph(self.model)
        return understand(graph, observe)


def _exported_graph(path: Path) -> Graph:
    from wsesim_compiler.frontends.exported import read_exported
    from wsesim_compiler.frontends.torch_export import from_exported

    return from_exported(read_exported(path), path.stem)


def _named_graph(name: str) -> Graph:
    from wsesim_compiler.frontends.torch_export import from_torch

    return from_torch(_torch_module(name), name=name)


def _torch_module(name: str) -> nn.Module:
    """The torch module of a name, without weights."""
    import torch

    from wsesim_models.config import config
    from wsesim_models.llama import Llama

    known = config(name)
    with torch.device("meta"):
        return Llama(known)
