"""Position embeddings at another image size, the original authors' way. timm's own way needs nothing from us."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config.registry import Resample


def resample_positions(positions: Tensor, grid: tuple[int, int], how: Resample) -> Tensor:
    """The embeddings (1, N, C) of a square training grid's patches for another grid: (1, rows * cols, C) float32.

    All three are bicubic in float32 (facebookresearch/dino vision_transformer.py and facebookresearch/dinov2
    dinov2/models/vision_transformer.py, interpolate_pos_encoding, and dinov2/hub/backbones.py for registers;
    facebookresearch/mae util/pos_embed.py; chongzhou96/MaskCLIP mmseg/models/backbones/vit.py, resize_pos_embed).
    DINO and DINOv2 give a scale factor with 0.1 of a patch added, by which the samples lie slightly elsewhere than where
    a size alone would put them; a model in its training grid is left as it is.
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
