"""Checkpoint files of the authors' code: read without running anything in them, and written so that it loads them."""

from __future__ import annotations

import os
import pickle
import re
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cache_schemas.errors import BadInput
from cache_schemas.publish import fsync_folder
from pipeline.common.weights_files import check_zip

NETWORKS = ("model_point", "model_points", "net")
"""The keys under which they keep a network: `model_point(s)` where it is pretrained, `net` where it is probed or finetuned."""

_GLOBAL = re.compile(r"GLOBAL (\S+)")


@dataclass(frozen=True)
class AuthorsFile:
    """`key` names where in the file the network was, or is empty where the file is nothing else; `state`: its tensors."""

    key: str
    state: dict[str, Tensor]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in self.state.items()}


def read_authors_file(path: Path) -> AuthorsFile:
    """The network in a checkpoint, names without the `module.` of a training on several GPUs.

    Raises:
        BadInput: if the file is not there, is cut off, would run code, or holds no network.
    """
    loaded = _load(path)
    if not isinstance(loaded, Mapping):
        raise BadInput(f"{path} holds a {type(loaded).__name__}, and no state dict")
    key = next((name for name in NETWORKS if isinstance(loaded.get(name), Mapping)), "")
    state = dict(loaded[key]) if key else dict(loaded)
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise BadInput(
            f"{path} holds no network: of {', '.join(NETWORKS)} none is among its keys "
            f"({', '.join(str(name) for name in list(loaded)[:8])}), and it is no state dict itself"
        )
    return AuthorsFile(key, {str(name).removeprefix("module."): value for name, value in state.items()})


def write_authors_file(path: Path, key: str, state: Mapping[str, Tensor], *, module: bool) -> None:
    """A checkpoint that their code loads; whole or not at all. `module`: names as in a training on several GPUs."""
    prefix = "module." if module else ""
    network = {f"{prefix}{name}": value.detach().cpu().contiguous() for name, value in state.items()}
    beside = path.parent / f".writing-{path.name}-{os.getpid()}"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({key: network}, beside)
    with open(beside, "rb") as file:
        os.fsync(file.fileno())
    beside.replace(path)
    fsync_folder(path.parent)


def _load(path: Path) -> Any:
    if not path.is_file():
        raise BadInput(f"{path} is not there, or no file; give a checkpoint such as ckpt_last.pth")
    zipped = zipfile.is_zipfile(path)
    if not zipped and tarfile.is_tarfile(path):
        raise BadInput(
            f"{path} is the archive as it is downloaded; unpack it (tar -xf {path}) and give the file in it"
        )
    try:
        if zipped:
            check_zip(path)
        # Mapped where the format allows: an optimiser's state, twice the size of the network, is never read.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        named = _GLOBAL.search(str(error))
        what = f"it asks for {named.group(1)}" if named else str(error).splitlines()[0]
        raise BadInput(
            f"{path} is not only tensors: {what}, which could run code of its author. Nothing of it was run. If you "
            f"trust it, write its network into a file of its own where you made it: "
            f'torch.save({{"model_point": network.state_dict()}}, "weights.pth")'
        ) from error
    except Exception as error:  # torch raises what it meets: zip, pickle, key and end-of-file errors
        raise BadInput(
            f"{path} is no checkpoint of torch, or is cut off ({type(error).__name__}: {str(error).splitlines()[0]}); "
            f"its size is {path.stat().st_size:,} bytes: compare it with where it comes from"
        ) from error
