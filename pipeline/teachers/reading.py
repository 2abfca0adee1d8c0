"""How a layer is read in a network's forward pass: a block's output, a part of its attention, MaskCLIP's path, or a stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cache_schemas.errors import BadInput
from pipeline.config.layer import Layer

Read = Callable[[Tensor], Tensor]
"""Normalised images (B, 3, H, W) -> features (B, C, rows, cols)."""

_PARTS = {"queries": 0, "keys": 1, "values": 2}


def reader_of(model: Any, layer: Layer, name: str) -> Read:
    """How `layer` is read of a timm model.

    Raises:
        BadInput: if the model has no such layer.
    """
    if layer.where == "stage":
        return lambda images: model(images)[0]  # built by features_only with this one stage
    blocks = len(model.blocks)
    number = blocks - 1 if layer.number is None else layer.number
    if number >= blocks:
        raise BadInput(f"{name} has blocks 0 to {blocks - 1}; there is no `{layer}`.")
    block = model.blocks[number]
    if layer.what in ("output", "normed"):
        normed = layer.what == "normed"
        return lambda images: model.forward_intermediates(
            images, indices=[number], norm=normed, stop_early=True, intermediates_only=True
        )[0]
    if layer.what in _PARTS:
        weight, bias = _projection(block, _PARTS[layer.what], layer, name)
        rows_at_attention = _up_to(model, block.attn)
        return lambda images: _as_grid(model, images, F.linear(rows_at_attention(images), weight, bias))
    if isinstance(
        getattr(model, "norm_pre", None), nn.Identity | None
    ):  # CLIP alone has a norm before its blocks
        raise BadInput(f"{name} is no CLIP ViT: there is no `{layer}`.")
    weight, bias = _projection(block, _PARTS["values"], layer, name)
    rows_at_block = _up_to(model, block)
    project = model.head.weight if layer.what == "maskclip projected" else None

    def maskclip(images: Tensor) -> Tensor:
        """MaskCLIP's dense features.

        The last block without its attention weights: values and output projection of every patch for itself, the
        residual, the MLP with its residual, and the final norm (MaskCLIP, section 3.2; its code,
        mmseg/models/backbones/vit.py, TransformerEncoderLayer.forward with return_qkv, then ln1;
        decode_heads/maskclip_head.py, proj).
        """
        x = rows_at_block(images)  # (B, N, C)
        x = x + block.attn.proj(F.linear(block.norm1(x), weight, bias))
        x = model.norm(x + block.mlp(block.norm2(x)))
        return _as_grid(model, images, x if project is None else F.linear(x, project))

    return maskclip


def _projection(block: Any, part: int, layer: Layer, name: str) -> tuple[Tensor, Tensor | None]:
    """The part (C, C_in) of the attention's one projection that makes queries, keys or values, and its bias (C,)."""
    qkv = getattr(block.attn, "qkv", None)
    if not isinstance(qkv, nn.Linear) or qkv.out_features % 3 or hasattr(block.attn, "q_bias"):
        place = "last" if layer.number is None else f"block {layer.number}"
        raise BadInput(
            f"the attention of {name} has no one projection to queries, keys and values; `{layer}` cannot be read. "
            f"Write `layer: {place}`."
        )
    rows = qkv.out_features // 3
    piece = slice(part * rows, (part + 1) * rows)
    return qkv.weight[piece], None if qkv.bias is None else qkv.bias[piece]


class _Reached(Exception):
    """Ends a forward pass where what is needed has been seen."""

    def __init__(self, value: Tensor) -> None:
        self.value = value


def _up_to(model: Any, module: nn.Module) -> Callable[[Tensor], Tensor]:
    """From images to what a module inside the model is given, (B, N, C). Nothing after it is computed.

    From now on every forward pass of the model ends there, in all threads: the model serves this one reading.
    """

    def stop(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        raise _Reached(inputs[0])

    module.register_forward_pre_hook(stop)

    def rows(images: Tensor) -> Tensor:
        try:
            model.forward_features(images)
        except _Reached as reached:
            return reached.value
        raise RuntimeError("the forward pass did not reach the module")

    return rows


def _as_grid(model: Any, images: Tensor, rows: Tensor) -> Tensor:
    """Rows (B, prefix + rows * cols, C) as (B, C, rows, cols), prefix rows dropped."""
    height, width = model.patch_embed.dynamic_feat_size(tuple(images.shape[2:]))
    grid = rows[:, model.num_prefix_tokens :]
    return torch.unflatten(grid, 1, (height, width)).permute(0, 3, 1, 2)
