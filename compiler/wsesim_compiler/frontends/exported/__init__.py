"""Files of torch.export.save, read without running code that they bring.

torch.export.load unpickles sample inputs, some tensors and objects, evaluates sizes, and makes Python source of names.
Here torch reads an archive that is made anew, in memory, of the checked graph and of plain tensors.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsesim.errors import WsesimError
from wsesim.files import parse_json
from wsesim_compiler.errors import ExportedFileError
from wsesim_compiler.frontends.exported.archive import Archive, open_archive
from wsesim_compiler.frontends.exported.program import checked_program
from wsesim_compiler.frontends.exported.tensors import read_tensors

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_MOST_GRAPH_BYTES = 128 << 20
_GRAPH = "models/model.json"


def read_exported(path: Path) -> ExportedProgram:
    """The program that torch.export.save has written to a file: its graph, its buffers, weights by shape alone.

    Raises ExportedFileError or InvalidInputError, with one line, for any other file.
    """
    try:
        with open_archive(path) as archive:
            members = _checked_members(archive)
        return _load(members)
    except WsesimError as error:
        named = str(error).startswith(str(path))
        raise (error if named else ExportedFileError(path, error)) from None
    except Exception as error:  # zipfile and torch raise what their parts of the file raise
        raise ExportedFileError(path, error) from None


def _checked_members(archive: Archive) -> dict[str, bytes]:
    """The members of a new archive, without anything that torch would unpickle or run."""
    if archive.read("archive_format", 100) != b"pt2":
        raise ValueError("it is an archive of another kind")
    weights = read_tensors(archive, "data/weights/", "weight_")
    constants = read_tensors(archive, "data/constants/", "tensor_")
    program = checked_program(parse_json(archive.read(_GRAPH, _MOST_GRAPH_BYTES), _GRAPH))
    return {
        "archive_format": b"pt2",
        "archive_version": archive.read("archive_version", 100),
        _GRAPH: _json(program),
        "data/sample_inputs/model.pt": b"",
        "data/weights/model_weights_config.json": _json({"config": weights.entries}),
        "data/constants/model_constants_config.json": _json({"config": constants.entries}),
        **{f"data/weights/{name}": data for name, data in weights.members.items()},
        **{f"data/constants/{name}": data for name, data in constants.members.items()},
    }


def _json(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False).encode()


def _load(members: dict[str, bytes]) -> ExportedProgram:
    from torch.export.pt2_archive import PT2ArchiveWriter
    from torch.export.pt2_archive._package import load_pt2  # torch.export.load hides why it fails, in the log

    buffer = io.BytesIO()
    with PT2ArchiveWriter(buffer) as writer:
        for name, data in members.items():
            writer.write_bytes(name, data)
    buffer.seek(0)
    with _silence():
        program: ExportedProgram = load_pt2(buffer).exported_programs["model"]
    return program


@contextmanager
def _silence() -> Iterator[None]:
    """Without torch's warnings and log: what is wrong with a file is said once, by the error."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
