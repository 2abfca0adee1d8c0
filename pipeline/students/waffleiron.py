"""WaffleIron on packed rows, plain and readable: the student of ScaLR, and the truth that faster versions
are held to (Puy et al., ICCV 2023, section 3; ScaLR, CVPR 2024, sections 3.2 and 4.1).

Layer d mixes space on plane d modulo the number of planes, then mixes channels. The points stay in rows and
are never padded. The `reference` backend makes planes dense, one (height, width, channels) image per cloud;
the `torch` backend computes the same on the occupied cells alone (see `sparse_mix`).

Parameters have the shapes of linear layers. `authors.py` gives the authors' name of each. Their `scale.weight` is
(C, 1, 1), ours is (C,): where weight decay spares one-dimensional tensors, theirs decays, and ours must be named to decay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pipeline.students.backends import CHOICES, Backend, Choice, backend_for, steps_of
from pipeline.students.compiled import compiled
from pipeline.students.embedding import Embedding
from pipeline.students.packed import FEATURES, PackedClouds, check_batch
from pipeline.students.packed_channel_mix import packed_channel_mix
from pipeline.students.sparse_mix import Activation, Steps, sparse_mix
from pipeline.students.sparse_plane import SparsePlane, sparse_plane
from pipeline.students.stochastic_depth import CHANNEL, SPATIAL

Norm = Literal["batch", "layer"]
Averaging = Literal["scalr", "scalr_plus"]

NORMS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "gelu": nn.GELU,
}
EPSILON = {"scalr": 1e-6, "scalr_plus": 0.0}
"""What the published codes add to the number of points in a cell before they divide by it."""


@dataclass(frozen=True)
class PlaneRows:
    """How the packed rows lie on one plane of each cloud."""

    shape: tuple[int, int, int]  # clouds, height, width
    cell: Tensor  # (P,) int64, flat cell among all clouds
    weight: Tensor  # (P,), 1 / (points in the same cell + epsilon)

    def mean(self, rows: Tensor) -> Tensor:
        """Mean of the rows in each cell, 0 where there are none. rows: (P, C). Returns (B, H, W, C)."""
        clouds, height, width = self.shape
        weighted = rows * self.weight.unsqueeze(1)  # (P, C)
        plane = weighted.new_zeros(clouds * height * width, rows.shape[1])  # (B H W, C)
        # scatter_add_ and not index_add_: the same sums, many times faster on a CPU
        plane.scatter_add_(0, self.cell.unsqueeze(1).expand_as(weighted), weighted)
        return plane.view(clouds, height, width, -1)

    def gather(self, plane: Tensor) -> Tensor:
        """What lies in the cell of each row. plane: (B, H, W, C). Returns (P, C)."""
        return plane.flatten(0, 2).index_select(0, self.cell)


def rows_on_plane(
    cells: Tensor, cloud: Tensor, shape: tuple[int, int, int], dtype: torch.dtype, epsilon: float = 1e-6
) -> PlaneRows:
    """Lay the rows of all clouds on one plane, with weights of `dtype`, or of float32 where it is shorter.

    cells: (P,) int64, flat cell in the row's own cloud. cloud: (P,) int64. shape: clouds, height, width.
    """
    clouds, height, width = shape
    cell = cloud * (height * width) + cells  # (P,)
    ones = torch.ones_like(cell, dtype=torch.promote_types(dtype, torch.float32))  # (P,)
    counts = ones.new_zeros(clouds * height * width).scatter_add_(0, cell, ones)  # (B H W,)
    return PlaneRows(shape, cell, 1 / (counts.index_select(0, cell) + epsilon))


class SpatialMix(nn.Module):
    """features + drop(scale * gather(conv(act(conv(mean per cell(norm(features)))))))."""

    def __init__(self, width: int, norm: Norm, activation: Activation, layer_scale: float | None) -> None:
        super().__init__()
        self.kind = activation
        self.norm = NORMS[norm](width)
        self.conv_in = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.activation = ACTIVATIONS[activation]()
        self.conv_out = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.scale = _layer_scale(width, layer_scale)

    def forward(
        self,
        features: Tensor,
        plane: PlaneRows | SparsePlane,
        mask: Tensor | None,
        steps: Steps | None = None,
    ) -> Tensor:
        """features: (P, C). mask: (P,) factor of each cloud's residual, or None for 1. Returns (P, C)."""
        if isinstance(plane, SparsePlane):
            convolutions = (self.conv_in, self.conv_out, self.scale)
            return sparse_mix(features, self.norm, plane, *convolutions, self.kind, mask, steps)
        rows = self.norm(features)  # (P, C)
        image = plane.mean(rows).permute(0, 3, 1, 2)  # (B, C, H, W), channels last in memory
        image = self.conv_out(self.activation(self.conv_in(image)))  # (B, C, H, W)
        residual = plane.gather(image.permute(0, 2, 3, 1)) * self.scale  # (P, C)
        return _add(features, residual, mask)


class ChannelMix(nn.Module):
    """features + drop(scale * linear(act(linear(norm(features)))))."""

    def __init__(
        self, width: int, norm: Norm, activation: Activation, layer_scale: float | None, packed: bool
    ) -> None:
        super().__init__()
        self.kind = activation
        self.packed = packed
        self.norm = NORMS[norm](width)
        self.linear_in = nn.Linear(width, width)
        self.activation = ACTIVATIONS[activation]()
        self.linear_out = nn.Linear(width, width)
        self.scale = _layer_scale(width, layer_scale)

    def forward(self, features: Tensor, mask: Tensor | None) -> Tensor:
        """features: (P, C). mask: (P,) factor of the residual, or None for 1. Returns (P, C)."""
        if self.packed and isinstance(self.norm, nn.LayerNorm):
            products = (self.linear_in, self.linear_out, self.scale)
            return packed_channel_mix(features, self.norm, *products, self.kind, mask)
        hidden = self.activation(self.linear_in(self.norm(features)))  # (P, C)
        # scale * linear(x), with the scale on the weights: they are far fewer than the rows
        weight, bias = self.linear_out.weight * self.scale.unsqueeze(1), self.linear_out.bias * self.scale
        return _add(features, F.linear(hidden, weight, bias), mask)


class WaffleIron(nn.Module):
    """Embedding and `depth` layers: points in, one feature of `width` channels per point out; no head.

    plane_shapes: (height, width) in cells of each plane, in the order of `PackedClouds.cells`.
    norm: of the layers; the embedding's is always BatchNorm. ScaLR takes 'layer' at width 768, else 'batch'.
    activation: of the layers; 'relu' in ScaLR, 'gelu' (the exact form) in ScaLR+.
    drop_path: probability of dropping a residual in training; the masks come with the call.
    layer_scale: first value of every LayerScale; None draws from [-1, 1], as published.
    backend: see `pipeline.students.backends`. `reference` is plain, with dense planes and all neighbours at once,
        and slow; the others mix space on occupied cells alone and treat neighbours a block at a time.
    checkpointing: in training, keep only what goes into each layer and compute the rest again on the way back: the
        same numbers from less memory in more time.
    averaging: of the points in a cell, sum / (count + 1e-6) as ScaLR's code, or sum / count as ScaLR+'s.
    padding_aware: count the authors' padding in the batch statistics of the embedding.
    """

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        plane_shapes: Sequence[tuple[int, int]],
        in_channels: int = len(FEATURES),
        norm: Norm = "layer",
        activation: Activation = "relu",
        drop_path: float = 0.0,
        layer_scale: float | None = None,
        backend: Choice = "auto",
        checkpointing: bool = False,
        averaging: Averaging = "scalr",
        padding_aware: bool = False,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {sorted(NORMS)}, not {norm!r}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {sorted(ACTIVATIONS)}, not {activation!r}")
        if not 0.0 <= drop_path < 1.0:
            raise ValueError(f"drop_path must lie in [0, 1), not {drop_path}")
        if backend not in CHOICES:
            raise ValueError(f"backend must be one of {list(CHOICES)}, not {backend!r}")
        self.backend, self.checkpointing = backend, checkpointing
        self.averaging = averaging
        self.width, self.depth, self.drop_path = width, depth, drop_path
        self.plane_shapes = tuple(plane_shapes)
        self.embedding = Embedding(
            in_channels, width, blocks=backend != "reference", padding_aware=padding_aware
        )
        layer = (width, norm, activation, layer_scale)
        self.spatial_mix = nn.ModuleList(SpatialMix(*layer) for _ in range(depth))
        self.channel_mix = nn.ModuleList(
            ChannelMix(*layer, packed=backend != "reference") for _ in range(depth)
        )

    def forward(self, clouds: PackedClouds, masks: Tensor | None = None) -> Tensor:
        """One feature per point.

        masks: (B, depth, 2), factors of the residuals as `stochastic_depth.masks` makes them. They are
        applied whenever given, and must be given in training where drop_path is not 0.
        Returns (P, width).
        """
        self._check(clouds, masks)
        features: Tensor = self.embedding(clouds.features, clouds.neighbours, clouds.padding())  # (P, C)
        return self.mix(features, clouds, masks)

    def mix(self, features: Tensor, clouds: PackedClouds, masks: Tensor | None = None) -> Tensor:
        """The layers alone. features: (P, width), one row per point. masks: as for `forward`. Returns (P, width)."""
        backend = backend_for(self.backend, features.device.type)
        cloud = clouds.cloud_of_row()  # (P,)
        lay: Callable[..., PlaneRows | SparsePlane]
        lay = rows_on_plane if backend == "reference" else sparse_plane
        planes = [
            lay(clouds.cells[:, i], cloud, (clouds.count, *shape), features.dtype, EPSILON[self.averaging])
            for i, shape in enumerate(self.plane_shapes)
        ]
        for d, (spatial_mix, channel_mix) in enumerate(zip(self.spatial_mix, self.channel_mix, strict=True)):
            spatial = None if masks is None else masks[:, d, SPATIAL].index_select(0, cloud)  # (P,)
            channel = None if masks is None else masks[:, d, CHANNEL].index_select(0, cloud)  # (P,)
            mixes, inputs = (spatial_mix, channel_mix), (planes[d % len(planes)], spatial, channel)
            layer = partial(_layer, backend, *mixes)
            if self.checkpointing and torch.is_grad_enabled():
                features = recomputed(mixes, layer, features, *inputs)  # (P, C)
            else:
                features = layer(features, *inputs)  # (P, C)
        return features

    def _check(self, clouds: PackedClouds, masks: Tensor | None) -> None:
        check_batch(clouds, self.plane_shapes, self.width)
        if masks is None and self.training and self.drop_path > 0.0:
            raise ValueError(f"training with drop_path {self.drop_path} needs stochastic_depth.masks")
        expected = (clouds.count, self.depth, 2)
        if masks is not None and masks.shape != expected:
            raise ValueError(f"masks have shape {tuple(masks.shape)}, expected {expected}")


def _layer(
    backend: Backend,
    spatial_mix: Callable[..., Tensor],
    channel_mix: Callable[..., Tensor],
    features: Tensor,
    plane: PlaneRows | SparsePlane,
    spatial: Tensor | None,
    channel: Tensor | None,
) -> Tensor:
    """One layer. features: (P, C). spatial, channel: (P,) factors of its residuals, or None. Returns (P, C)."""
    if backend == "compiled":
        spatial_mix, channel_mix = compiled(spatial_mix), compiled(channel_mix)  # type: ignore[arg-type]
    features = spatial_mix(features, plane, spatial, steps_of(backend))
    out: Tensor = channel_mix(features, channel)
    return out


def _layer_scale(width: int, value: float | None) -> nn.Parameter:
    """LayerScale (C,): constant, or uniform in [-1, 1], a depthwise 1x1 convolution's default."""
    scale = torch.empty(width)
    return nn.Parameter(scale.uniform_(-1.0, 1.0) if value is None else scale.fill_(value))


def _add(features: Tensor, residual: Tensor, mask: Tensor | None) -> Tensor:
    """features + mask * residual, written over the residual, which is not needed any more, if its type allows.

    features, residual: (P, C). mask: (P,) or None for 1. Returns (P, C).
    """
    if mask is not None:
        residual = residual * mask.unsqueeze(1)
    if torch.promote_types(residual.dtype, features.dtype) != residual.dtype:
        return features + residual
    return residual.add_(features)


def recomputed(parts: Sequence[nn.Module], run: Callable[..., Tensor], *inputs: object) -> Tensor:
    """run(*inputs), whose modules are `parts`: only the inputs are kept, and the backward computes the rest again.

    This is activation checkpointing: the same numbers, less memory, more time. The parts draw nothing at random. Running
    statistics of their norms move once, in the forward.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_at_rest(parts)

    out: Tensor = checkpoint(run, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    return out


@contextmanager
def _statistics_at_rest(parts: Sequence[nn.Module]) -> Iterator[None]:
    """Let norms in training change copies of their running statistics, and drop the copies at the end."""
    modules = [module for part in parts for module in part.modules()]
    norms = [m for m in modules if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    own = [dict(norm.named_buffers(recurse=False)) for norm in norms]
    try:
        for norm, buffers in zip(norms, own, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer.clone())
        yield
    finally:
        for norm, buffers in zip(norms, own, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)
