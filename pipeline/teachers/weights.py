"""A teacher's weights: from the hub, from timm's file or from the original authors' file. All tensors must fit."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cache_schemas.canonical import sha256_file
from cache_schemas.errors import BadInput
from pipeline.common.log import log
from pipeline.common.weights_likeness import likeness
from pipeline.common.weights_state import Weights, read_weights
from pipeline.config.registry import Row
from pipeline.config.teacher import is_hub


def load_weights(model: nn.Module, weights: str, row: Row | None, *, say: bool = True) -> None:
    """Fill a timm model, built without a classifier, from the hub or from a file; names and shapes must all fit.

    Args:
        weights: `hub`, `hub@REVISION` or a path.
        say: whether it is logged what of a file was taken, where that is not all of it.

    Raises:
        BadInput: if the weights cannot be had, are no plain tensors, or are another model's.
    """
    name = str(getattr(model, "pretrained_cfg", {}).get("architecture", type(model).__name__))
    if is_hub(weights):
        read = Weights(_from_hub(model, weights.partition("@")[2], row), (), "")
        where = "the hub"
    else:
        read, where = _from_file(Path(weights), row), weights
    if read.taken and say:
        log(f"weights of {name} from {where}: {read.taken}")
    try:
        fitted = _in_timms_names(model, read.state, where)
        _check_fit(model, fitted, name, where)
    except BadInput as error:
        hint = likeness(read.names)
        raise BadInput(f"{error}\n{hint}" if hint else str(error)) from error
    model.load_state_dict(fitted, strict=True)


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bytes of all weights, in the order of their names."""
    hasher = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        hasher.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        hasher.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()


def _from_hub(model: nn.Module, revision: str, row: Row | None) -> dict[str, Tensor]:
    from timm.models import load_state_dict_from_hf

    cfg: Any = model.pretrained_cfg
    hub = row.hub if row else cfg.get("hf_hub_id")
    if not hub:
        raise BadInput(
            f"timm knows no hub repository of {cfg.get('architecture')}; write the path of a file as `weights`."
        )
    revision = revision or (row.revision if row else None) or ""
    try:
        return load_state_dict_from_hf(f"{hub}@{revision}" if revision else hub, weights_only=True)
    except Exception as error:  # the hub's client and the network beneath raise all sorts
        first = str(error).strip().splitlines() or [type(error).__name__]
        original = f" (or the original authors' {row.file})" if row and row.file else ""
        raise BadInput(
            f"the weights of {hub} cannot be had from the hub: {first[0]}\n"
            f"Check the network; or, on a machine that has one, download model.safetensors from "
            f"https://huggingface.co/{hub}{original}, copy it to any folder here, and write its path in the config: "
            f"`weights: /path/to/model.safetensors`."
        ) from error


def _from_file(path: Path, row: Row | None) -> Weights:
    if not path.is_file():
        raise BadInput(
            f"there is no file of weights {path}; give its path as `weights`, or write `weights: hub`."
        )
    if row and row.sha256 and path.name == row.file:
        digest = sha256_file(path)
        if not digest.startswith(row.sha256):
            raise BadInput(
                f"{path} has SHA-256 {digest}; the published file of that name has {row.sha256} ({row.sha256_source}). "
                f"It is damaged or another file: download it again."
            )
    return read_weights(path)


def _in_timms_names(model: nn.Module, state: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """The original authors' names turned into timm's, by timm's own table for this kind of model.

    Raises:
        BadInput: for weights of another kind of model, or of patches of another size: timm would resample them.
    """
    _check_patches(model, state, where)
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        try:
            state = convert(dict(state), model)
        except (
            Exception
        ) as error:  # it was written for the right file, and trips over any other in its own ways
            raise BadInput(f"{where} does not hold weights of {type(model).__name__}: {error}") from error
    own = model.state_dict()
    classifier = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    dropped = {f"{head}.{part}" for head in heads for part in ("weight", "bias")}
    return {name: value for name, value in state.items() if name in own or name not in dropped}


def _check_patches(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    given = state.get("patch_embed.proj.weight")
    own = model.state_dict().get("patch_embed.proj.weight")
    if given is None or own is None or given.dim() != 4 or given.shape[-2:] == own.shape[-2:]:
        return
    sides = [" x ".join(map(str, weight.shape[-2:])) for weight in (given, own)]
    raise BadInput(
        f"{where} holds weights for patches of {sides[0]} pixels, the model has patches of {sides[1]}: it is another network. "
        f"Name the model that the file is of."
    )


def _check_fit(model: nn.Module, state: Mapping[str, Tensor], name: str, where: str) -> None:
    own = model.state_dict()
    wrong = [key for key in own if key not in state or state[key].shape != own[key].shape]
    extra = [key for key in state if key not in own]
    other = [
        key for key in own if key in state and own[key].is_floating_point() != state[key].is_floating_point()
    ]
    if other and not wrong:
        raise BadInput(
            f"{where} does not hold the weights of {name} as they are computed with: {len(other)} of its {len(own)} tensors are of "
            f"another kind. First: {other[0]}: the file has {state[other[0]].dtype}, the model {own[other[0]].dtype}. If they were "
            f"quantised, give the file from before."
        )
    if not wrong and not extra:
        return
    key = wrong[0] if wrong else extra[0]
    theirs = f"{tuple(state[key].shape)}" if key in state else "no such tensor"
    ours = f"{tuple(own[key].shape)}" if key in own else "no such tensor"
    raise BadInput(
        f"{where} does not hold the weights of {name}: {len(wrong)} of its {len(own)} tensors are missing or of another "
        f"shape, and {len(extra)} are not its own. First: {key}: the file has {theirs}, the model {ours}."
    )
