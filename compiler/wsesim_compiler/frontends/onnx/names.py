"""Where an ONNX node comes from: the torch module's path that the exporter noted, else the node's own name."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import NodeProto

_SCOPES = "pkg.torch.onnx.name_scopes"
_LONGEST = 4096


def source_name(node: NodeProto) -> str:
    """Path of the torch module whose forward made a node, or the name of the node, or of its result."""
    scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "")
    try:
        names = ast.literal_eval(scopes) if 0 < len(scopes) < _LONGEST else []
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        names = []
    if isinstance(names, list) and len(names) > 1 and all(isinstance(name, str) for name in names):
        return str(names[-2])
    return node.name or next(iter(node.output), "")
