"""file.py:factory -> the raw Graph of the torch module that the user's own code makes.

The code runs with its folder on the search path, and with standard output sent to standard error. Any exception of it
becomes an InvalidInputError, also SystemExit, and a KeyboardInterrupt that is not the user's Ctrl-C.
"""

from __future__ import annotations

import contextlib
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsesim.errors import InvalidInputError, UnknownNameError, WsesimError, first_line
from wsesim.signals import interrupted
from wsesim.toolchain.model_kinds import is_file

if TYPE_CHECKING:
    from torch import nn

    from wsesim_compiler.ir import Graph


def graph_from(model: str, say: Callable[[str], None]) -> Graph:
    """The raw Graph of the module that MODEL, `file.py:factory`, returns. The file may import its neighbours.

    Raises InvalidInputError or UnknownNameError, and nothing else.
    """
    from wsesim_compiler.frontends.torch_export import from_torch

    file, _, factory = model.rpartition(":")
    if not is_file(Path(file)):
        raise InvalidInputError(
            f"{model}: there is no file {file!r}; give file.py:factory, a callable of a Python file"
        )
    with _code_of_the_user(file):
        module = _made(model, file, factory)
        name = Path(file).stem
        say(f"reading the torch graph of {name}")
        return from_torch(module, name=name)


def _made(model: str, file: str, factory: str) -> nn.Module:
    from torch import nn

    names = runpy.run_path(file)
    if not callable(names.get(factory)):
        raise UnknownNameError(f"factory in {file}", factory, _made_there(names))
    made = names[factory]()
    if not isinstance(made, nn.Module):
        raise InvalidInputError(f"{model} returned a {type(made).__name__}, a torch.nn.Module is needed")
    return made


def _made_there(names: dict[str, Any]) -> list[str]:
    """The callables that the file defines, without those that it imports."""
    here = names["__name__"]
    return [name for name, value in names.items() if callable(value) and getattr(value, "__module__", "") == here]


@contextmanager
def _code_of_the_user(file: str) -> Iterator[None]:
    """Runs the body with the file's folder on the path. Its exceptions become InvalidInputErrors with the line."""
    before = list(sys.path)
    sys.path.insert(0, str(Path(file).resolve().parent))
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except WsesimError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and interrupted():
            raise
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
        at = f", line {lines[-1]}," if lines else ""
        raise InvalidInputError(f"{file}{at} raised {_described(error)}") from error
    finally:
        sys.path[:] = before


def _described(error: BaseException) -> str:
    kind = type(error).__name__
    try:
        return f"{kind}: {first_line(error)}" if str(error) else kind
    except Exception:  # the user's own __str__
        return kind
