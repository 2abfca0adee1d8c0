"""The one input of every student: the points of several clouds in one run of rows, with no padding.

Rows of cloud b are `offsets[b]:offsets[b + 1]`. Neighbours point at packed rows, so a gather needs no
batch index; cells are numbered within their own cloud's plane, so the same numbers serve a cloud alone
and in any batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

FEATURES = ("intensity", "x", "y", "z", "range")
"""Columns of `features`: intensity normalised per dataset, x y z in metres, range = |(x, y, z)| in metres."""


@dataclass(frozen=True)
class Cloud:
    """One cloud as a loader makes it, in numpy, before packing."""

    features: npt.NDArray[np.float32]  # (N, 5), columns as in FEATURES
    neighbours: npt.NDArray[np.integer[Any]]  # (N, K), rows of this cloud: the K nearest other points
    cells: npt.NDArray[np.integer[Any]]  # (N, planes), flat cell of each point in each plane


@dataclass(frozen=True)
class PackedClouds:
    """B clouds with P points in all, packed row after row."""

    features: Tensor  # (P, 5) float32, columns as in FEATURES
    neighbours: Tensor  # (P, K) int64, packed rows of the K nearest other points of the same cloud
    cells: Tensor  # (P, planes) int64, flat cell of the point in its own cloud's plane
    offsets: Tensor  # (B + 1,) int64, on the CPU always: sizes are known without asking the device

    @property
    def count(self) -> int:
        """B, the number of clouds."""
        return self.offsets.numel() - 1

    def sizes(self) -> Tensor:
        """Points in each cloud. Returns (B,) int64, on the CPU."""
        return self.offsets.diff()

    def padding(self) -> int:
        """Rows that would fill every cloud up to the longest."""
        sizes = self.sizes()  # (B,)
        return int(self.count * sizes.max() - sizes.sum())

    def cloud_of_row(self) -> Tensor:
        """The cloud that each row belongs to. Returns (P,) int64, on the device of the features."""
        device = self.features.device
        sizes = self.sizes().to(device, non_blocking=True)  # (B,)
        clouds = torch.arange(self.count, device=device)  # (B,)
        return torch.repeat_interleave(clouds, sizes, output_size=self.features.shape[0])

    def to(self, device: torch.device | str, non_blocking: bool = True) -> PackedClouds:
        """The same clouds on `device`; the offsets stay on the CPU."""
        return PackedClouds(
            features=self.features.to(device, non_blocking=non_blocking),
            neighbours=self.neighbours.to(device, non_blocking=non_blocking),
            cells=self.cells.to(device, non_blocking=non_blocking),
            offsets=self.offsets,
        )

    def pin_memory(self) -> PackedClouds:
        """The same clouds in page-locked memory; a torch DataLoader calls this by name."""
        return PackedClouds(
            features=self.features.pin_memory(),
            neighbours=self.neighbours.pin_memory(),
            cells=self.cells.pin_memory(),
            offsets=self.offsets.pin_memory(),
        )


def pack(clouds: Sequence[Cloud]) -> PackedClouds:
    """Put clouds of any sizes and integer types into one PackedClouds: a loader's collate function."""
    if not clouds:
        raise ValueError("no cloud to pack: a batch needs at least one")
    for place, cloud in enumerate(clouds):
        _check_cloud(cloud, place, clouds[0])

    sizes = [len(cloud.features) for cloud in clouds]
    offsets = np.zeros(len(clouds) + 1, dtype=np.int64)  # (B + 1,)
    np.cumsum(sizes, out=offsets[1:])
    total = int(offsets[-1])

    features = np.empty((total, len(FEATURES)), dtype=np.float32)  # (P, 5)
    neighbours = np.empty((total, clouds[0].neighbours.shape[1]), dtype=np.int64)  # (P, K)
    cells = np.empty((total, clouds[0].cells.shape[1]), dtype=np.int64)  # (P, planes)
    for cloud, start, stop in zip(clouds, offsets[:-1], offsets[1:], strict=True):
        features[start:stop] = cloud.features
        neighbours[start:stop] = cloud.neighbours
        neighbours[start:stop] += start
        cells[start:stop] = cloud.cells
    return PackedClouds(
        features=torch.from_numpy(features),
        neighbours=torch.from_numpy(neighbours),
        cells=torch.from_numpy(cells),
        offsets=torch.from_numpy(offsets),
    )


def _check_cloud(cloud: Cloud, place: int, first: Cloud) -> None:
    """Raise ValueError where cloud number `place` cannot stand in one batch with the first."""
    points = len(cloud.features)
    expected = {
        "features": (points, len(FEATURES)),
        "neighbours": (points, first.neighbours.shape[1]),
        "cells": (points, first.cells.shape[1]),
    }
    for name, shape in expected.items():
        actual = getattr(cloud, name).shape
        if actual != shape:
            raise ValueError(f"cloud {place} of the batch: {name} has shape {actual}, expected {shape}")
    bad = np.flatnonzero(~np.isfinite(cloud.features).all(axis=1))  # (bad rows,)
    if len(bad):
        raise ValueError(
            f"cloud {place} of the batch: {len(bad)} of {points} rows of features are not finite, the first is row "
            f"{bad[0]}: {cloud.features[bad[0]].tolist()}"
        )
    if points and not 0 <= cloud.neighbours.min() <= cloud.neighbours.max() < points:
        raise ValueError(
            f"cloud {place} of the batch has {points} points, but its neighbours run from "
            f"{cloud.neighbours.min()} to {cloud.neighbours.max()}"
        )


MOST_ELEMENTS = 1 << 31
"""Of one (points, channels) tensor: beyond it kernels that count in 32 bits read elsewhere."""


def check_batch(clouds: PackedClouds, plane_shapes: Sequence[tuple[int, int]], width: int) -> None:
    """Raise ValueError where a student of this width and these planes cannot take a batch."""
    points, planes = clouds.cells.shape
    if planes != len(plane_shapes):
        raise ValueError(f"clouds have cells on {planes} planes, the student mixes {len(plane_shapes)}")
    offsets = clouds.offsets  # (B + 1,)
    if offsets[0] != 0 or offsets[-1] != points or (offsets.diff() < 0).any():
        raise ValueError(
            f"offsets of {clouds.count} clouds must rise from 0 to the {points} points, but are {offsets.tolist()}"
        )
    if points * width >= MOST_ELEMENTS:
        raise ValueError(
            f"{points} points of {width} channels are {points * width} elements, {MOST_ELEMENTS} are too many for "
            f"one batch: write a smaller pretrain.batch or points.max_points"
        )
    if not points:
        return
    lowest, highest = clouds.cells.amin(0).tolist(), clouds.cells.amax(0).tolist()  # (planes,)
    for plane, (height, columns) in enumerate(plane_shapes):
        if not 0 <= lowest[plane] <= highest[plane] < height * columns:
            raise ValueError(
                f"cells on plane {plane}, which has {height} x {columns}, run from {lowest[plane]} to {highest[plane]}"
            )
