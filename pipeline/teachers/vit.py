"""A frozen ViT from timm: its last block's output before the final norm, as a patch grid."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cache_schemas.errors import BadInput
from pipeline.config.model import Teacher
from pipeline.log import warn_loudly
from pipeline.teachers.names import patch_size
from pipeline.teachers.standardise import read_standardisation


@dataclass(frozen=True)
class LoadedTeacher:
    """A teacher in memory, on its device.

    Attributes:
        patch: side in pixels of the part of the image that one patch of the grid stands for.
        grid: rows and columns of the patch grid.
        channels: of a patch's feature.
        mean, std: (3,) of the input normalisation, from timm's own configuration of the model.
        channel_mean, channel_deviation: (C, 1, 1), the teacher's standardisation; 0 and 1 where it has none.
        weights_digest: SHA-256 over all weights' names and values.
    """

    config: Teacher
    model: Any
    device: torch.device
    patch: int
    grid: tuple[int, int]
    channels: int
    mean: Tensor
    std: Tensor
    channel_mean: Tensor
    channel_deviation: Tensor
    weights_digest: str

    @torch.inference_mode()
    def features(self, images: Tensor) -> np.ndarray:
        """Patch grids of a batch of images.

        Args:
            images: (B, 3, H, W) float32 in [0, 1], already resized to the teacher's image size.

        Returns:
            (B, rows, cols, channels) in the storage type.

        Raises:
            BadInput: if a value does not fit the storage type, or is not finite.
        """
        x = (images.to(self.device) - self.mean) / self.std  # (B, 3, H, W)
        low = self.config.precision == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=low):
            grid = self.model.forward_intermediates(x, indices=1, norm=False, intermediates_only=True)[
                0
            ]  # (B, C, rows, cols), prefix rows removed
        grid = (grid.float() - self.channel_mean) / self.channel_deviation
        with np.errstate(over="ignore"):  # what overflows is refused below, with its count
            values = grid.permute(0, 2, 3, 1).cpu().numpy().astype(self.config.storage)
        if not np.isfinite(values).all():
            raise BadInput(
                f"teacher {self.config.model}: {int((~np.isfinite(values)).sum())} feature values are not finite in "
                f"{self.config.storage}; write `storage: float32`, and see that the weights are those of this model"
            )
        return np.ascontiguousarray(values)


def load_teacher(config: Teacher, device: torch.device) -> LoadedTeacher:
    """Build the model, load or draw its weights, freeze it.

    Raises:
        BadInput: if timm has no such model, it is no ViT, its patches do not fit the image size, or the weights
            cannot be had or do not fit.
    """
    import timm

    if not timm.is_model(config.model.split(".")[0]):
        near = timm.list_models(f"*{config.model.split('.')[0]}*")[:5]
        raise BadInput(
            f"timm has no model {config.model!r}" + (f"; near it: {', '.join(near)}" if near else "")
        )
    model: Any = _create(config)
    patch: Any = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if patch is None or not hasattr(model, "blocks"):
        raise BadInput(
            f"{config.model} is no ViT that Griddle can read: it has no patch embedding and blocks"
        )
    named = patch_size(config.model) or patch[0]
    if tuple(patch) != (named, named):  # the config was checked against the name
        raise BadInput(f"{config.model} has patches of {patch}, where its name says {named}")
    # A hybrid's stem strides further than its patches say: the embedding knows what comes out.
    rows, cols = model.patch_embed.grid_size
    data = timm.data.resolve_data_config(pretrained_cfg=model.pretrained_cfg)
    affine = read_standardisation(config) or {"mean": [0.0], "deviation": [1.0]}
    if len(affine["mean"]) not in (1, model.num_features):
        raise BadInput(
            f"standardise: {config.standardise} has {len(affine['mean'])} channels, {config.model} {model.num_features}"
        )
    return LoadedTeacher(
        config=config,
        model=model.eval().requires_grad_(False).to(device),
        device=device,
        patch=config.image_size[0] // rows,
        grid=(rows, cols),
        channels=int(model.num_features),
        mean=torch.tensor(data["mean"], device=device)[:, None, None],
        std=torch.tensor(data["std"], device=device)[:, None, None],
        channel_mean=torch.tensor(affine["mean"], device=device)[:, None, None],
        channel_deviation=torch.tensor(affine["deviation"], device=device)[:, None, None],
        weights_digest=weights_digest(model),
    )


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bytes of all weights, in the order of their names."""
    hasher = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        hasher.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        hasher.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()


def _create(config: Teacher) -> nn.Module:
    import timm

    create = partial(timm.create_model, config.model, num_classes=0, img_size=config.image_size)
    if config.weights == "untrained":
        warn_loudly(
            [
                f"The teacher {config.model} is UNTRAINED: its weights are drawn from seed {config.seed}.",
                "What a student learns from it says that the pipeline works, nothing more.",
                "Real weights: `weights: hub`, or the path of a file, in the config.",
            ]
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            try:
                return create(pretrained=False)
            except (TypeError, AssertionError, ValueError) as error:
                height, width = config.image_size
                raise BadInput(
                    f"{config.model} cannot be built for images of {height} x {width} pixels: it is no ViT, or its "
                    f"patches do not divide them; try multiples of 32 {error}".rstrip()
                ) from error
    try:
        if config.weights == "hub":
            return create(pretrained=True)
        overlay = {"file": str(Path(config.weights))}
        return create(pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:  # the hub's client, the file's format and timm's checks raise all sorts
        where = "from the hub" if config.weights == "hub" else f"from {config.weights}"
        hint = (
            "Check the network, or download the file and give its path as `weights`."
            if config.weights == "hub"
            else "It must be a state dict of this very model (a .safetensors file, or a .pth of tensors alone)."
        )
        raise BadInput(f"the weights of {config.model} cannot be loaded {where}: {error}\n{hint}") from error
