"""The kinds of MODEL: names, files and factories.

MODEL is a name in `wsesim models`, `file.py:factory` (a callable that returns a torch module), a `.pt2` file of
torch.export.save, an `.onnx` file, or a saved Program.
"""

from __future__ import annotations

from pathlib import Path

from wsesim.errors import InvalidInputError
from wsesim.files import open_file


def check_model(model: str) -> None:
    """Raises a WsesimError for a MODEL of no kind."""
    from wsesim_models.config import config

    if not (is_name(model) or is_factory(model) or is_onnx(model) or is_exported(model)):
        if model:
            _refuse_file(Path(model))
        config(model)  # raises, and names the known models


def is_name(model: str) -> bool:
    """Whether MODEL is in the table of `wsesim models`. A file of the same name is then ignored."""
    from wsesim_models.config import CONFIGS

    return model in CONFIGS


def is_factory(model: str) -> bool:
    """Whether MODEL is written as file.py:factory."""
    return ":" in model


def is_onnx(model: str) -> bool:
    """Whether MODEL is written as an ONNX file."""
    return model.endswith(".onnx") and not is_name(model)


def is_exported(model: str) -> bool:
    """Whether MODEL is written as a file of torch.export.save."""
    return model.endswith(".pt2") and not is_name(model)


def is_saved_program(model: str) -> bool:
    """Whether MODEL is a file that begins like a Program's text."""
    path = Path(model)
    if is_name(model) or not is_file(path):
        return False
    with open_file(path, "a saved Program") as file:
        return file.read(8) == b"program "


def is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _refuse_file(path: Path) -> None:
    """Raises InvalidInputError for a file that is no MODEL, with the reason. Returns if there is no such file."""
    if path.suffix == ".py":
        raise InvalidInputError(f"{path}: give {path}:factory, the callable that returns the torch module")
    if is_file(path):
        raise InvalidInputError(f"{path} is not a saved Program; such a file begins with `program` and its version")
    if _is_there(path):
        open_file(path, "a model").close()  # raises: it is a folder, a pipe or a device
