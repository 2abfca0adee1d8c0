"""The state dict in a file of weights: safetensors, or torch's own format; nothing in it can run, and its checksums are compared."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cache_schemas.errors import BadInput
from pipeline.common.weights_files import check_zip, plain_name, read_header

_CONTAINERS = ("state_dict", "model", "teacher")


def read_state(path: Path) -> dict[str, Tensor]:
    """Names and tensors of a file, out of the containers and without the prefixes that trainings put around them.

    Raises:
        BadInput: if the file is damaged, could run code, or holds no state dict.
    """
    state = _safetensors(path) if path.suffix == ".safetensors" else _unpickled(path)
    for key in _CONTAINERS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not any(isinstance(value, Tensor) for value in state.values()):
        raise BadInput(f"{path} holds no state dict (names and tensors), but {type(state).__name__}.")
    return {plain_name(name): value for name, value in state.items() if isinstance(value, Tensor)}


def _safetensors(path: Path) -> Any:
    try:
        read_header(path)
        return load_file(path)
    except (SafetensorError, ValueError) as error:
        raise BadInput(f"{path} is no whole safetensors file ({error}); download it again.") from error


def _unpickled(path: Path) -> Any:
    """A .pth file by torch's own allow-list: nothing in it can run. A zip's checksums are compared first."""
    try:
        if zipfile.is_zipfile(path):
            check_zip(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except ValueError as error:
        raise BadInput(f"{path} is damaged: {error}. Download it again.") from error
    except Exception as error:  # unpickling raises whatever the file makes it raise
        first = str(error).strip().splitlines() or [type(error).__name__]
        if "TorchScript" in str(error):  # torch has no class of its own for this error
            raise BadInput(
                f"{path} is a TorchScript archive, which can hold code, and is not opened. If you trust its source, "
                f"take its tensors out once:\n"
                f"  python -c \"import torch; torch.save(torch.jit.load('{path}', map_location='cpu').state_dict(), "
                f"'{path.with_suffix('.pth').name}')\""
            ) from error
        raise BadInput(
            f"{path} is not opened: it is no file of tensors alone, and could run code, or it is damaged ({first[0]})\n"
            f"Give a .safetensors file, or a .pth that torch.save wrote of a state dict."
        ) from error
