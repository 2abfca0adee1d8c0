"""The authors' network in evaluation, dense and one cloud at a time, on their state dict: written from the papers.

WaffleIron (Puy et al., ICCV 2023, sections 3.1 to 3.3), with ScaLR's layer norm and its head of batch norm and a linear map.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Rows = dict[str, Tensor]


def point_features(
    state: Rows, depth: int, activation: str, scan: np.ndarray, *, sides: np.ndarray, voxel: float, cell: float, near: int
) -> Tensor:  # fmt: skip
    """Features (N, C) of every point of a whole scan: the network on one point per voxel, the nearest one's for each.

    scan: (N, 4 or more) float32, x, y, z, intensity as normalised. sides: (3, 2), the field of view in metres.
    """
    xyz = scan[:, :3]
    voxels = ((xyz - xyz.min(0)) / voxel).astype(int)
    kept = np.unique(voxels, axis=0, return_index=True)[1]
    inside = ((xyz[kept] > sides[:, 0] + 1e-4) & (xyz[kept] < sides[:, 1] - 1e-4)).all(1)
    kept = kept[inside]
    points = torch.from_numpy(xyz[kept]).double()
    distance = torch.cdist(points, points)
    distance.fill_diagonal_(-1)
    neighbours = distance.argsort(1)[:, 1 : near + 1]  # (R, near)
    low = torch.from_numpy(sides[:, 0])
    grid = ((points - low) / cell).long()  # (R, 3)
    size = np.rint((sides[:, 1] - sides[:, 0]) / cell).astype(int)
    p = {name: value.double() for name, value in state.items()}
    intensity = torch.from_numpy(scan[kept, 3]).double()
    features = torch.cat([intensity[:, None], points, points.norm(dim=1, keepdim=True)], 1)  # (R, 5)
    x = _embedded(p, features, neighbours)  # (R, C)
    act = F.gelu if activation == "gelu" else F.relu
    for d in range(depth):
        first, second = ((0, 1), (0, 2), (1, 2))[d % 3]
        x = x + _spatial(p, d, x, grid[:, first] * size[second] + grid[:, second], size[[first, second]], act)
        y = act(
            _linear(p, f"waffleiron.channel_mix.{d}.mlp.0", _norm(p, f"waffleiron.channel_mix.{d}.norm", x))
        )
        y = _linear(p, f"waffleiron.channel_mix.{d}.mlp.2", y)
        x = x + y * p[f"waffleiron.channel_mix.{d}.scale.weight"].flatten()
    nearest = torch.cdist(torch.from_numpy(xyz).double(), points).argmin(1)
    return x[nearest]


def head_output(state: Rows, head: str, features: Tensor) -> Tensor:
    """What the head makes of features (N, C). head: `linear` (ScaLR), `mlp` (ScaLR+) or `classes` (after a probe)."""
    p = {name: value.double() for name, value in state.items()}
    if head == "linear":
        return _linear(p, "classif", features)
    if head == "mlp":
        return _linear(p, "classif.2", F.relu(_linear(p, "classif.0", features)))
    return _linear(p, "classif.1", _norm(p, "classif.0", features))


def _embedded(p: Rows, features: Tensor, neighbours: Tensor) -> Tensor:
    x = _norm(p, "embed.norm", features)
    y = _norm(p, "embed.conv2.0", x[neighbours] - x[:, None])
    y = F.relu(_norm(p, "embed.conv2.2", _linear(p, "embed.conv2.1", y)))
    y = _linear(p, "embed.conv2.4", y).amax(1)
    return _linear(p, "embed.final", torch.cat([_linear(p, "embed.conv1", x), y], 1))


def _spatial(p: Rows, d: int, x: Tensor, cells: Tensor, size: np.ndarray, act) -> Tensor:  # type: ignore[no-untyped-def]
    name, (high, wide), width = f"waffleiron.spatial_mix.{d}", size.tolist(), x.shape[1]
    x = _norm(p, f"{name}.norm", x)
    sums = torch.zeros(high * wide, width, dtype=x.dtype).index_add_(0, cells, x)
    count = torch.bincount(cells, minlength=high * wide)[:, None]
    image = (sums / (count + 1e-6)).T.reshape(1, width, high, wide)
    for layer, after in (("ffn.0", act), ("ffn.2", lambda y: y)):
        weight, bias = p[f"{name}.{layer}.weight"], p[f"{name}.{layer}.bias"]
        image = after(F.conv2d(image, weight, bias, padding=1, groups=width))
    return image.flatten(2)[0].T[cells] * p[f"{name}.scale.weight"].flatten()


def _norm(p: Rows, name: str, x: Tensor) -> Tensor:
    """Batch norm where it has statistics, else layer norm; over the last dimension."""
    weight, bias = p[f"{name}.weight"], p[f"{name}.bias"]
    mean = p.get(f"{name}.running_mean", x.mean(-1, keepdim=True))
    variance = p.get(f"{name}.running_var", x.var(-1, unbiased=False, keepdim=True))
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def _linear(p: Rows, name: str, x: Tensor) -> Tensor:
    weight = p[f"{name}.weight"]
    out = x @ weight.flatten(1).T
    return out + p[f"{name}.bias"] if f"{name}.bias" in p else out
