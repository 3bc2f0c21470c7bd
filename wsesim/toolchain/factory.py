"""file.py:factory -> the torch module that the user's own code makes; file.pt2 -> the graph that torch has saved."""

from __future__ import annotations

import runpy
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsesim.errors import InvalidInputError, UnknownNameError
from wsesim.toolchain.sources import is_file

if TYPE_CHECKING:
    from wsesim_compiler.ir import Graph


def module_from(model: str) -> tuple[Any, str]:
    """The module that MODEL, `file.py:factory`, returns, and its name: the file's. The file may import its neighbours.

    Raises InvalidInputError or UnknownNameError, whatever the user's code does.
    """
    file, _, factory = model.rpartition(":")
    if not is_file(Path(file)):
        raise InvalidInputError(
            f"{model}: there is no file {file!r}; give file.py:factory, a callable of a Python file"
        )
    with _code_of_the_user(file):
        names = runpy.run_path(file)
    if not callable(names.get(factory)):
        raise UnknownNameError(f"factory in {file}", factory, _made_there(names))
    with _code_of_the_user(file):
        module = names[factory]()
    _require_module(module, model)
    return module, Path(file).stem


def exported_from(model: str) -> Graph:
    """The raw Graph of MODEL, a file that torch.export.save has written. Raises a WsesimError for any other file."""
    from wsesim_compiler.frontends.exported import read_exported
    from wsesim_compiler.frontends.torch_export import from_exported

    return from_exported(read_exported(Path(model)), Path(model).stem)


def _require_module(made: object, model: str) -> None:
    from torch import nn

    if not isinstance(made, nn.Module):
        raise InvalidInputError(f"{model} returned a {type(made).__name__}, it should return a torch.nn.Module")


def _made_there(names: dict[str, Any]) -> list[str]:
    """Callables that the file defines, not those that it imports."""
    here = names["__name__"]
    return [name for name, value in names.items() if callable(value) and getattr(value, "__module__", "") == here]


@contextmanager
def _code_of_the_user(file: str) -> Iterator[None]:
    """With the file's folder on the path; whatever the code raises becomes an InvalidInputError with its place."""
    folder = str(Path(file).resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    except (Exception, SystemExit) as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
        at = f", line {lines[-1]}," if lines else ""
        raise InvalidInputError(f"{file}{at} raised {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
