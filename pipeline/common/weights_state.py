"""The state dict in a file of weights: safetensors, or torch's own format; nothing in it can run, and its checksums are compared."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cache_schemas.errors import BadInput
from pipeline.common.weights_files import check_zip, plain_name, read_header
from pipeline.common.weights_names import backbone_of, prefixes

_CONTAINERS = ("state_dict", "model", "teacher")


@dataclass(frozen=True)
class Weights:
    """A network's tensors, as a file holds them.

    Attributes:
        state: names and tensors; by the network's own names where it is known by them.
        names: of all tensors in the file.
        taken: what of the file this is, in words; empty where it is all of it.
    """

    state: dict[str, Tensor]
    names: tuple[str, ...]
    taken: str


def read_state(path: Path) -> dict[str, Tensor]:
    """The `state` of `read_weights`: what a digest of the file stands for."""
    return read_weights(path).state


def read_weights(path: Path) -> Weights:
    """Names and tensors of a file, out of the containers and without the prefixes that trainings put around them.

    Raises:
        BadInput: if the file is damaged, could run code, holds no state dict, or several networks of which none is to be taken.
    """
    content = _safetensors(path) if path.suffix == ".safetensors" else _unpickled(path)
    inner, place = content, ""
    for key in _CONTAINERS:
        if isinstance(inner, dict) and isinstance(inner.get(key), dict):
            inner, place = inner[key], f"{place}{key}."
    try:
        tensors = _flat(content)
        plain = _plain(inner)
        networks = prefixes(tensors)
        if len(networks) < 2 and ("" in prefixes(plain) or not networks):
            backbone, source = backbone_of(list(plain)), plain
            here = [prefix for prefix in networks if prefix.startswith(place)]
            beside = tuple(prefix for prefix in networks if prefix not in here)
            if backbone is not None and beside:
                backbone = replace(backbone, prefix=here[0], others=beside)
        else:
            backbone, source = backbone_of(list(tensors)), tensors
    except ValueError as error:
        raise BadInput(f"{path} cannot be used as weights: {error}.") from error
    if backbone is None:
        if not plain:
            raise BadInput(f"{path} holds no state dict (names and tensors), but {type(inner).__name__}.")
        return Weights(plain, tuple(tensors), "")
    state = {
        name: _joined(path, {old: source[old] for old in olds}) for name, olds in backbone.sources.items()
    }
    return Weights(state, tuple(tensors), "" if backbone.is_whole_file else str(backbone))


def _flat(content: Any, before: str = "") -> dict[str, Tensor]:
    """All tensors in a file, each by its path of keys."""
    tensors: dict[str, Tensor] = {}
    for name, value in content.items() if isinstance(content, dict) else ():
        if isinstance(value, Tensor):
            tensors[f"{before}{name}"] = value
        elif isinstance(value, dict):
            tensors |= _flat(value, f"{before}{name}.")
    return tensors


def _plain(content: Any) -> dict[str, Tensor]:
    """The tensors in one mapping, by their names without what trainings put before all of them.

    Raises:
        ValueError: if two have one name then.
    """
    named: dict[str, Tensor] = {}
    for name, value in content.items() if isinstance(content, dict) else ():
        if isinstance(value, Tensor):
            if plain_name(str(name)) in named:
                raise ValueError(f"two tensors are its {plain_name(str(name))}, with and without a prefix")
            named[plain_name(str(name))] = value
    return named


def _joined(path: Path, tensors: dict[str, Tensor]) -> Tensor:
    """One tensor as it is; several on top of each other, if they are alike."""
    first, *rest = tensors.values()
    if any((other.shape, other.dtype) != (first.shape, first.dtype) for other in rest):
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise BadInput(f"{path}: these belong together and are not alike: {shapes}. Download it again.")
    return torch.cat([first, *rest]) if rest else first


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
            f"Give a .safetensors file, or a .pth that torch.save wrote of a state dict. If the file is of a training of your "
            f"own, take its tensors out where it opens (this runs what is in it): torch.save(torch.load(FILE, "
            f"map_location='cpu', weights_only=False)[KEY], 'weights.pth'), where KEY is teacher, state_dict or model."
        ) from error
