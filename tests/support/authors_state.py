"""State dicts with the names and shapes of the authors' released networks, written down from their code."""

from __future__ import annotations

import torch
from torch import Tensor


def their_shapes(
    width: int, depth: int, norm: str, head: str, out: int, hidden: int = 2048
) -> dict[str, tuple[int, ...]]:
    """head: `linear` (ScaLR, distilled), `mlp` (ScaLR+, distilled) or `classes` (probed or finetuned)."""
    c = width
    shapes: dict[str, tuple[int, ...]] = {}

    def batch_norm(name: str, channels: int) -> None:
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{leaf}"] = (channels,)
        shapes[f"{name}.num_batches_tracked"] = ()

    def layer_norm(name: str, channels: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (channels,)

    def conv(name: str, *weight: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = weight
        if bias:
            shapes[f"{name}.bias"] = weight[:1]

    batch_norm("embed.norm", 5)
    conv("embed.conv1", c, 5, 1)
    batch_norm("embed.conv2.0", 5)
    conv("embed.conv2.1", c, 5, 1, 1, bias=False)
    batch_norm("embed.conv2.2", c)
    conv("embed.conv2.4", c, c, 1, 1, bias=False)
    conv("embed.final", c, 2 * c, 1)
    for mix, block in (("channel_mix", "mlp"), ("spatial_mix", "ffn")):
        for d in range(depth):
            name = f"waffleiron.{mix}.{d}"
            (batch_norm if norm == "batch" else layer_norm)(f"{name}.norm", c)
            weight = (c, c, 1) if block == "mlp" else (c, 1, 3, 3)
            conv(f"{name}.{block}.0", *weight)
            conv(f"{name}.{block}.2", *weight)
            conv(f"{name}.scale", c, 1, 1, bias=False)
    if head == "linear":
        conv("classif", out, c, 1)
    elif head == "mlp":
        conv("classif.0", hidden, c, 1)
        conv("classif.2", out, hidden, 1)
    else:
        batch_norm("classif.0", c)
        conv("classif.1", out, c, 1)
    return shapes


def their_state(
    width: int, depth: int, norm: str, head: str, out: int, hidden: int = 2048
) -> dict[str, Tensor]:
    """Random numbers in these shapes, no two tensors alike; running variances are positive."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}
    for name, shape in their_shapes(width, depth, norm, head, out, hidden).items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(len(state))
        else:
            state[name] = torch.rand(shape, generator=generator) + 0.1
    return state
