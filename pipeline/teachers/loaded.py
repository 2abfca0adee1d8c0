"""A frozen teacher in memory: a network from timm, its weights, and the layer whose output is its patch grid."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cache_schemas.errors import BadInput
from pipeline.common.log import log, warn_loudly
from pipeline.config.layer import Layer, parse_layer
from pipeline.config.model import Teacher
from pipeline.config.registry import REGISTRY, Resample, row_of
from pipeline.config.standardisation import read_standardisation
from pipeline.teachers.reading import Read, reader_of
from pipeline.teachers.weights import load_weights, weights_digest


@dataclass(frozen=True)
class LoadedTeacher:
    """A teacher in memory, on its device.

    Attributes:
        read: the forward pass up to the layer that is read.
        patch: side in pixels of the part of the image that one patch covers.
        grid: rows and columns of the patch grid.
        channels: of a row of the patch grid.
        mean, std: (3, 1, 1) of the input normalisation, from timm's own configuration of the model.
        channel_mean, channel_deviation: (C, 1, 1), the teacher's standardisation; 0 and 1 where it has none.
        weights_digest: SHA-256 over all weights' names and values.
        licence: of the weights, as timm or the registry state it.
    """

    config: Teacher
    model: Any
    read: Read
    device: torch.device
    patch: int
    grid: tuple[int, int]
    channels: int
    mean: Tensor
    std: Tensor
    channel_mean: Tensor
    channel_deviation: Tensor
    weights_digest: str
    licence: str

    @torch.inference_mode()
    def features(self, images: Tensor) -> npt.NDArray[np.float32]:
        """Patch grids of a batch of images, as computed: `cache_schemas/storage.py` says how they are stored.

        Args:
            images: (B, 3, H, W) float32 in [0, 1], already resized to the teacher's image size.

        Returns:
            (B, rows, cols, channels) float32.
        """
        x = (images.to(self.device) - self.mean) / self.std  # (B, 3, H, W)
        low = self.config.precision == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=low):
            grid = self.read(x)  # (B, C, rows, cols)
        grid = (grid.float() - self.channel_mean) / self.channel_deviation
        return np.ascontiguousarray(grid.permute(0, 2, 3, 1).cpu().numpy())


def load_teacher(config: Teacher, device: torch.device) -> LoadedTeacher:
    """Build the model, load or draw its weights, freeze it, and log where the weights are from and their licence.

    Raises:
        BadInput: if timm has no such model, it has no such layer, its patches do not fit the image size, or the weights
            cannot be had or do not fit.
    """
    import timm

    if config.decode == "gpu" and device.type != "cuda":
        raise BadInput(
            "teachers: `decode: gpu` decodes images on a GPU, and there is none here. Run this stage where one is, or write "
            "`decode: exact`: that is another teacher, with a cache of its own."
        )
    layer = parse_layer(config.layer)
    _check_known(config.model)
    model: Any = _weighted(config, layer).eval().requires_grad_(False).to(device)
    read = reader_of(model, layer, config.model)
    data = timm.data.resolve_data_config(pretrained_cfg=model.pretrained_cfg)
    channels, (rows, cols) = _shape(model, read, config, device)
    height, width = config.image_size
    if height % rows or width % cols or height // rows != width // cols:
        raise BadInput(
            f"{config.model} gives {rows} x {cols} features for images of {height} x {width} pixels, which is no grid of "
            f"square patches; choose multiples of {2 * (height // rows)}"
        )
    _check_row(config, channels, height // rows)
    affine = read_standardisation(config) or {"mean": [0.0], "deviation": [1.0]}
    if len(affine["mean"]) not in (1, channels):
        raise BadInput(
            f"standardise: {config.standardise} has {len(affine['mean'])} channels, {config.model} {channels}"
        )
    licence = str(model.pretrained_cfg.get("license") or "not stated by timm")
    if config.weights != "untrained":
        log(
            f"teacher {config.model}, {layer}: {channels} channels, weights from {config.weights}, licence {licence}"
        )
    return LoadedTeacher(
        config=config,
        model=model,
        read=read,
        device=device,
        patch=height // rows,
        grid=(rows, cols),
        channels=channels,
        mean=torch.tensor(data["mean"], device=device)[:, None, None],
        std=torch.tensor(data["std"], device=device)[:, None, None],
        channel_mean=torch.tensor(affine["mean"], device=device)[:, None, None],
        channel_deviation=torch.tensor(affine["deviation"], device=device)[:, None, None],
        weights_digest=weights_digest(model),
        licence=licence,
    )


def _check_known(model: str) -> None:
    import timm

    name = model.split(".")[0]
    if not timm.is_model(name):
        known = [*REGISTRY, *timm.list_models()]
        near = get_close_matches(name, known, n=4, cutoff=0.5)
        raise BadInput(
            f"neither the registry (docs/teachers.md) nor timm has a model {model!r}"
            + (f"; near it: {', '.join(near)}" if near else "")
        )
    tags = timm.list_pretrained(f"{name}.*")
    if "." in model and model not in tags:
        raise BadInput(f"timm has no weights {model!r}; of {name} it has: {', '.join(tags) or 'none'}")


def _weighted(config: Teacher, layer: Layer) -> nn.Module:
    """The network at the image size, with its weights."""
    import timm

    if layer.where == "stage":
        return _convnet(config, layer)
    model_class = timm.model_entrypoint(config.model.split(".")[0]).__module__
    # CLIP's projection is what timm calls the classifier.
    classes: dict[str, Any] = {} if layer.what == "maskclip projected" else {"num_classes": 0}
    create: Any = partial(timm.create_model, config.model, pretrained=False, **classes)
    try:
        if config.weights == "untrained":
            model = _drawn(config, partial(create, img_size=config.image_size))
        else:
            model = create(img_size=config.image_size)
    except (TypeError, AssertionError, ValueError, AttributeError) as error:
        height, width = config.image_size
        raise BadInput(
            f"{config.model} cannot be built for images of {height} x {width} pixels: its patches do not divide them "
            f"(try multiples of 32), or it is no ViT ({model_class}), for which write `layer: stage N`. {error}".rstrip()
        ) from error
    if not hasattr(model, "blocks") or not hasattr(getattr(model, "patch_embed", None), "grid_size"):
        raise BadInput(
            f"{config.model} is no ViT that Griddle can read: it has no patch embedding and blocks. If it is a convnet, "
            f"write `layer: stage N`."
        )
    if config.weights != "untrained":
        row = row_of(config.model)
        load_weights(model, config.weights, row)
        if config.position_embedding == "original" and row and row.resample:
            _original_positions(model, create, config, row.resample)
    return model


def _original_positions(model: Any, create: Any, config: Teacher, how: Resample) -> None:
    """timm resampled the embeddings when the weights were loaded; do it again, from the untouched ones."""
    native: Any = create()
    load_weights(native, config.weights, row_of(config.model), say=False)
    prefix = 0 if native.no_embed_class else native.num_prefix_tokens
    kept, patches = native.pos_embed[:, :prefix], native.pos_embed[:, prefix:]
    wide = resample_positions(patches.detach(), tuple(model.patch_embed.grid_size), how)
    model.pos_embed = nn.Parameter(torch.cat([kept.detach(), wide], dim=1))


def resample_positions(positions: Tensor, grid: tuple[int, int], how: Resample) -> Tensor:
    """The embeddings (1, N, C) of a square training grid's patches for another grid: (1, rows * cols, C) float32.

    All three are bicubic in float32 (facebookresearch/dino vision_transformer.py and facebookresearch/dinov2
    dinov2/models/vision_transformer.py, interpolate_pos_encoding, and dinov2/hub/backbones.py for registers;
    facebookresearch/mae util/pos_embed.py; chongzhou96/MaskCLIP mmseg/models/backbones/vit.py, resize_pos_embed).
    DINO and DINOv2 give a scale factor with 0.1 of a patch added, which moves the samples slightly. A model in its
    training grid is left as it is.
    """
    _, count, channels = positions.shape
    side = round(count**0.5)
    if side * side != count:
        raise ValueError(f"{count} positions are no square grid")
    if grid == (side, side):
        return positions
    square = positions.float().reshape(1, side, side, channels).permute(0, 3, 1, 2)  # (1, C, side, side)
    choices: dict[str, Any] = {"size": grid}
    if how == "scale factor":
        choices = {"scale_factor": tuple(float(patches + 0.1) / side for patches in grid)}
    wide = F.interpolate(square, mode="bicubic", antialias=how == "antialiased size", **choices)
    if wide.shape[2:] != torch.Size(grid):
        raise ValueError(f"resampling gave {tuple(wide.shape[2:])} positions, the grid is {grid}")
    return wide.permute(0, 2, 3, 1).reshape(1, -1, channels)


def _convnet(config: Teacher, layer: Layer) -> nn.Module:
    import timm

    stages = partial(timm.create_model, config.model, features_only=True)
    try:
        if config.weights == "untrained":
            return _drawn(config, partial(stages, pretrained=False, out_indices=(layer.number,)))
        whole = timm.create_model(config.model, pretrained=False, num_classes=0)
        load_weights(whole, config.weights, row_of(config.model))
        overlay = {"state_dict": whole.state_dict()}
        return stages(pretrained=True, pretrained_cfg_overlay=overlay, out_indices=(layer.number,))
    except BadInput:
        raise
    except (RuntimeError, AssertionError, IndexError, TypeError, AttributeError) as error:
        raise BadInput(
            f"timm cannot read `{layer}` of {config.model} through features_only: {error}"
        ) from error


def _drawn(config: Teacher, create: Any) -> nn.Module:
    warn_loudly(
        [
            f"The teacher {config.model} is UNTRAINED: its weights are drawn from seed {config.seed}.",
            "What a student learns from it says that the pipeline works, nothing more.",
            "Real weights: `weights: hub`, or the path of a file, in the config.",
        ]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return create()


@torch.inference_mode()
def _shape(model: Any, read: Read, config: Teacher, device: torch.device) -> tuple[int, tuple[int, int]]:
    """Channels, rows and columns, from the network's own forward pass of a black image."""
    height, width = config.image_size
    try:
        _, channels, rows, cols = read(torch.zeros(1, 3, height, width, device=device)).shape
    except (AssertionError, RuntimeError) as error:
        raise BadInput(f"{config.model} cannot take images of {height} x {width} pixels: {error}") from error
    return channels, (rows, cols)


def _check_row(config: Teacher, channels: int, patch: int) -> None:
    """Refuse a registry row that is wrong: the config was checked, and the plan made, by what it says."""
    row = row_of(config.model)
    if row is None or parse_layer(config.layer).where != parse_layer(row.layer).where:
        return
    row_channels = row.channels if config.layer == row.layer else channels
    if (patch, channels) != (row.patch, row_channels):
        raise BadInput(
            f"{config.model} has a patch of {patch} pixels and {channels} channels, its registry row says {row.patch} and "
            f"{row_channels}"
        )
