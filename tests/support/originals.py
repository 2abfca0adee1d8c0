"""The published networks, small, written from their papers with the names of their published state dicts.

Independent of timm and of ours: what a teacher reads is held against these.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def cubic(distance: np.ndarray, a: float = -0.75) -> np.ndarray:
    """Keys' cubic convolution kernel, with torch's parameter."""
    d = np.abs(distance)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def bicubic_line(old: int, new: int, ratio: float, antialias: bool) -> np.ndarray:
    """(new, old) weights: output i is centred at (i + 0.5) * ratio - 0.5 of the input, borders repeated."""
    if antialias and ratio > 1:
        a, support = -0.5, ratio
    else:
        a, support = (-0.5 if antialias else -0.75), 1.0
    weights = np.zeros((new, old))
    for i in range(new):
        centre = (i + 0.5) * ratio - 0.5
        for j in range(math.floor(centre - 2 * support) - 1, math.ceil(centre + 2 * support) + 2):
            weight = float(cubic(np.array((j - centre) / support), a))
            if antialias:  # Pillow's rule: outside the input there is nothing, and the rest is normalised
                if 0 <= j < old:
                    weights[i, j] += weight
            else:
                weights[i, min(max(j, 0), old - 1)] += weight
    return weights / weights.sum(axis=1, keepdims=True)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return q, k, v

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = (part.reshape(b, n, self.heads, -1).transpose(1, 2) for part in self.parts(x))
        weights = (q @ k.transpose(-2, -1) / math.sqrt(c // self.heads)).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, c))


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class SwiGLU(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        inner = (int(4 * width * 2 / 3) + 7) // 8 * 8
        self.w12, self.w3 = nn.Linear(width, 2 * inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * value)


class LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, width: int, heads: int, scaled: bool, swiglu: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.mlp: nn.Module = SwiGLU(width) if swiglu else Mlp(width)
        self.ls1: nn.Module = LayerScale(width) if scaled else nn.Identity()
        self.ls2: nn.Module = LayerScale(width) if scaled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class ViT(nn.Module):
    """DINO, DINOv2 (layer scale, mask token, registers, SwiGLU for the giant) and MAE's encoder."""

    def __init__(
        self,
        *,
        patch: int,
        side: int,
        width: int,
        heads: int,
        depth: int,
        dinov2: bool,
        registers: int = 0,
        swiglu=False,
    ) -> None:
        super().__init__()
        self.patch, self.side, self.dinov2 = patch, side, dinov2
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, side * side + 1, width))
        if dinov2:
            self.mask_token = nn.Parameter(torch.zeros(1, width))
        if registers:
            self.register_tokens = nn.Parameter(torch.randn(1, registers, width))
        self.registers = registers
        self.patch_embed = PatchEmbed(patch, width)
        self.blocks = nn.ModuleList(Block(width, heads, dinov2, swiglu) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def positions(self, rows: int, cols: int, how: str) -> Tensor:
        """(1, rows * cols, C), by kernels written out: no interpolation of torch's."""
        grid = self.pos_embed.detach()[0, 1:].reshape(self.side, self.side, -1).double().numpy()
        lines = []
        for new in (rows, cols):
            ratio = self.side / (new + 0.1) if how == "scale factor" else self.side / new
            lines.append(bicubic_line(self.side, new, ratio, antialias=how in ("antialiased size", "timm")))
        wide = np.einsum("ra,cb,abk->rck", lines[0], lines[1], grid)
        return torch.from_numpy(wide.reshape(1, rows * cols, -1)).float()

    def tokens(self, images: Tensor, how: str) -> Tensor:
        rows, cols = images.shape[2] // self.patch, images.shape[3] // self.patch
        x = self.patch_embed(images) + self.positions(rows, cols, how)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        between = [self.register_tokens.expand(len(x), -1, -1)] if self.registers else []
        return torch.cat([first, *between, x], dim=1)

    def outputs(self, images: Tensor, how: str) -> list[Tensor]:
        """The input of the first block, then the output of each, whole."""
        x = self.tokens(images, how)
        kept = [x]
        for block in self.blocks:
            x = block(x)
            kept.append(x)
        return kept

    def grid(self, rows: Tensor, images: Tensor) -> Tensor:
        """(B, C, rows, cols) of the patches' rows."""
        shape = (images.shape[2] // self.patch, images.shape[3] // self.patch)
        return rows[:, 1 + self.registers :].transpose(1, 2).reshape(len(rows), -1, *shape)


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class ClipMlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gelu = QuickGELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.gelu(self.c_fc(x)))


class ClipBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = ClipMlp(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class ClipTower(nn.Module):
    """CLIP's image tower (Radford et al. 2021), names as in OpenAI's state dict below `visual.`."""

    def __init__(self, *, patch: int, side: int, width: int, heads: int, depth: int, joint: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn(side * side + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(ClipBlock(width, heads) for _ in range(depth))
        self.proj = nn.Parameter(torch.randn(width, joint) / math.sqrt(width))

    def blocks(self) -> list[ClipBlock]:
        return list(self.transformer.resblocks)  # type: ignore[arg-type]

    def maskclip(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """MaskCLIP's features of the patches at the tower's own image size: (B, C, rows, cols) and projected."""
        x = self.conv1(images)
        shape = x.shape[2:]
        x = x.flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(x), 1, -1)
        x = self.ln_pre(torch.cat([first, x], dim=1) + self.positional_embedding)
        *early, last = self.blocks()
        for block in early:
            x = block(x)
        width = x.shape[-1]
        weight, bias = last.attn.in_proj_weight, last.attn.in_proj_bias
        value = F.linear(last.ln_1(x), weight[2 * width :], bias[2 * width :])
        x = x + last.attn.out_proj(value)
        x = self.ln_post(x + last.mlp(last.ln_2(x)))[:, 1:]
        plain, projected = x, x @ self.proj
        return tuple(y.transpose(1, 2).reshape(len(y), -1, *shape) for y in (plain, projected))  # type: ignore[return-value]
