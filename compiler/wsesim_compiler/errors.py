"""What the compiler's front half refuses.

    WsesimError
    ├── InvalidInputError
    │   ├── GraphSyntaxError             text that is not a Graph, with its line
    │   ├── ExportError                  a torch module that cannot be exported in the form that is read
    │   ├── ExportedFileError            a file that torch.export.save has not written, or that is damaged
    │   ├── UnsupportedOperatorError     operators that the compiler does not know, all of them at once
    │   ├── OnnxFileError                a file that is no ONNX model, or one that breaks the format's rules
    │   ├── MissingBufferError           a buffer without a value and no way to compute it
    │   ├── InterpretError               a graph that cannot be computed with the arrays at hand
    │   ├── PartitionError               a graph that no rectangle of PEs can be given, with the node
    │   └── PlacementFileError           a placement by hand that says what cannot be, with the block or stage
    ├── DoesNotFitError
    │   └── PlacementError               a model that does not fit the wafer: block, operator, bytes
    └── VerificationError
        └── GraphVerificationError       a Graph that breaks a rule of its stage

`ShapeError` is not a user's error: shape rules raise it, and verification and the front ends name the node.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from wsesim.errors import DoesNotFitError, InvalidInputError, VerificationError, WsesimError, brief, first_line


class ShapeError(ValueError):
    """Operand shapes or attributes that an operator does not accept."""


class GraphSyntaxError(InvalidInputError):
    """Text that does not parse as a Graph; `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"graph text, line {line}: {message}")
        self.line = line


class ExportError(InvalidInputError):
    """A torch module that could not be exported, or not in the form that the compiler reads."""


class ExportedFileError(InvalidInputError):
    """A file that torch.export.save has not written, or that is damaged; `reason` is said by its first line."""

    def __init__(self, path: object, reason: Exception) -> None:
        said = first_line(reason)
        if not isinstance(reason, ValueError | WsesimError):  # what a part of torch runs into
            said = f"it is damaged ({type(reason).__name__}: {said})"
        super().__init__(f"{path}: cannot be read as a file of torch.export.save: {said}")


class OnnxFileError(InvalidInputError):
    """A file that is damaged, no ONNX model, or one whose contents contradict each other or lead out of its folder."""

    def __init__(self, path: object, message: str) -> None:
        super().__init__(f"{path}: {message}")


class InterpretError(InvalidInputError):
    """A graph that cannot be computed with the arrays at hand."""


class PartitionError(InvalidInputError):
    """A recognised graph that cannot be split over rectangles of PEs."""


class PlacementFileError(InvalidInputError):
    """A placement by hand that is no TOML of the format, or puts blocks or stages where they cannot be."""


class PlacementError(DoesNotFitError):
    """A model that does not fit: block, operator, bytes needed and there, smallest change that fits."""


class MissingBufferError(InvalidInputError):
    """A buffer has no value (meta device) and the module's configuration does not tell it."""

    def __init__(self, buffer: str, shape: tuple[int, ...]) -> None:
        super().__init__(
            f"buffer {buffer!r} {list(shape)} has no value on the meta device and the module has no `config` "
            "that tells it; pass inv_freq=(...) if it holds RoPE's inverse frequencies, or build the module "
            "on the CPU"
        )
        self.buffer = buffer


_MOST_NAMED = 12


@dataclass(frozen=True, slots=True)
class Unsupported:
    """One operator that a front end or pass cannot take, with the name it came from and why."""

    op: str
    source: str
    reason: str = ""


class UnsupportedOperatorError(InvalidInputError):
    """Every operator of a model that is not supported; `operators` holds them all.

    The message names each operator with its place and the reason, once; layer numbers are folded into `*` with a count.
    """

    def __init__(self, model: str, operators: Iterable[Unsupported]) -> None:
        self.operators = tuple(operators)
        folded = _folded(self.operators)
        more = f"; and {len(folded) - _MOST_NAMED} more" if len(folded) > _MOST_NAMED else ""
        listed = "; ".join(folded[:_MOST_NAMED])
        super().__init__(f"{model} holds operators that the compiler does not support: {listed}{more}")


def _folded(operators: Iterable[Unsupported]) -> list[str]:
    counts: dict[tuple[str, str, str], int] = {}
    for unsupported in operators:
        place = re.sub(r"(?<=\.)\d+(?=\.|$)", "*", unsupported.source) or "(no source name)"
        key = (unsupported.op, place, unsupported.reason)
        counts[key] = counts.get(key, 0) + 1
    return [_described(*key, count) for key, count in counts.items()]


def _described(op: str, place: str, reason: str, count: int) -> str:
    times = f" ({count} times)" if count > 1 else ""
    return f"{op} at {place}{times}{reason and ': ' + reason}"


class GraphVerificationError(VerificationError):
    """A Graph breaks a rule of its stage: `rule`, `node` and `source` say which and where."""

    def __init__(self, graph: str, stage: str, rule: str, node: str, source: str, message: str) -> None:
        at = f" (from {source})" if source else ""
        super().__init__(f"{stage} graph {graph!r} breaks the rule {rule!r} at {brief(node)}{at}: {message}")
        self.rule = rule
        self.node = node
        self.source = source
