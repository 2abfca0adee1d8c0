"""Checkpoints: all that a training needs to go on from a step as if it had never stopped. Tensors and plain values, no code."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from cache_schemas.access import access_to
from cache_schemas.disk import naming
from cache_schemas.errors import GriddleError, NoAccess
from cache_schemas.publish import fsync_folder, set_aside
from pipeline.common.log import log
from pipeline.common.weights_files import check_zip

_NAME = re.compile(r"step-(\d{9})\.pt")
KEEP = 2


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after `step` steps. Only a training in float16 has a `scaler`.

    There is no random state: order, cameras, augmentation and masks are pure functions of the step.
    """

    run_id: str
    step: int
    model: dict[str, Any]
    optimiser: dict[str, Any]
    scaler: dict[str, Any] | None = None


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write beside, fsync, rename; then drop all but the newest two."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{checkpoint.step:09d}.pt"
    beside = folder / f".writing-{path.name}-{os.getpid()}"
    for left in folder.glob(
        ".writing-*"
    ):  # left by a trainer that was killed; the lease rules out that it still runs
        left.unlink(missing_ok=True)
    try:
        with naming(path), open(beside, "wb") as file:
            _write(vars(checkpoint), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    fsync_folder(folder)
    for old in _all(folder)[:-KEEP]:
        old.unlink()
    return path


class _Watched:
    """A file that keeps the system's error, which `torch.save` hides behind one of its own."""

    def __init__(self, file: BinaryIO) -> None:
        self.error: OSError | None = None
        self._file = file

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def _write(values: dict[str, Any], file: BinaryIO) -> None:
    """`torch.save`.

    Raises:
        OSError: what the system says of the disk.
    """
    watched = _Watched(file)
    try:
        torch.save(values, watched)  # type: ignore[arg-type]  # it needs these two methods
    except RuntimeError as error:
        if watched.error is None:
            raise
        raise OSError(watched.error.errno, watched.error.strerror) from error


def load_newest(folder: Path, run_id: str) -> Checkpoint | None:
    """The newest sound checkpoint, or None. A damaged one is logged and set aside, and the one before it is tried.

    Raises:
        NoAccess: if the system refuses to read one: it may be sound, and a training would begin anew in its place.
        GriddleError: if it belongs to another run.
    """
    for path in reversed(_all(folder)):
        try:
            with access_to(path):
                checkpoint = Checkpoint(**_load(path))
        except NoAccess:
            raise
        except Exception as error:  # torch raises what it meets: zip, pickle, key and value errors
            aside = set_aside(path)
            log(
                f"{path} is damaged ({type(error).__name__}: {error}); set aside as {aside.name}, going on from the "
                f"one before it"
            )
            continue
        if checkpoint.run_id != run_id:
            raise GriddleError(
                f"{path} belongs to run {checkpoint.run_id}, not to {run_id}; it was copied here. Delete "
                f"{folder} to start this run afresh."
            )
        return checkpoint
    return None


def _load(path: Path) -> dict[str, Any]:
    """The values of a file, after its checksums are verified: torch itself loads a flipped bit without an error."""
    check_zip(path)
    values: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return values


def newest(folder: Path) -> Path | None:
    """The newest checkpoint's path, unread."""
    return next(reversed(_all(folder)), None)


def _all(folder: Path) -> list[Path]:
    """Checkpoints, the oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
