"""Patch grids of one or several teachers: read from their own stores, batched, and sampled at points on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import get_worker_info

from cache_schemas.features import GROUP, features_schema
from cache_schemas.reading import PartitionReader
from pipeline.config.model import Teacher
from pipeline.plan.labelled import LabelledReading
from pipeline.plan.parts import Reading
from pipeline.streaming.open_partitions import open_store
from pipeline.teachers.sampling import Sampling, grid_coordinates, sample_grids


@dataclass(frozen=True)
class PatchGrid:
    """One image's patch grid as stored.

    Attributes:
        values: (rows, cols, C) in the storage type.
        scales: (rows, cols, G) float16 for int8, else None.
    """

    values: np.ndarray
    scales: np.ndarray | None


@dataclass(frozen=True)
class GridMemory:
    """Memory into which the patch grids of a batch of V views are read. They are most of the bytes of a batch.

    Attributes:
        values: for each teacher (V, rows, cols, C) in the storage type.
        scales: for each teacher (V, rows, cols, G) float16 for int8, else None.
        views: V.
    """

    values: tuple[Tensor, ...]
    scales: tuple[Tensor | None, ...]
    views: int

    def places(self) -> list[tuple[PatchGrid, ...]]:
        """For each view, the memory of each teacher's grid."""
        return [
            tuple(
                PatchGrid(values[view].numpy(), None if scales is None else scales[view].numpy())
                for values, scales in zip(self.values, self.scales, strict=True)
            )
            for view in range(self.views)
        ]

    def batches(self, coordinates: Sequence[Sequence[np.ndarray]]) -> tuple[TargetBatch, ...]:
        """For each teacher the batch of all views.

        coordinates: for each view and each teacher, what `coordinates_in` returns.
        """
        return tuple(
            TargetBatch(values, scales, torch.from_numpy(np.concatenate(points, dtype=np.float32)))
            for values, scales, points in zip(
                self.values, self.scales, zip(*coordinates, strict=True), strict=True
            )
        )


class GridStores:
    """The feature stores of one partition, one for each teacher in the student's order; none without teachers."""

    def __init__(
        self,
        cache: Path,
        reading: Reading | LabelledReading,
        teachers: Sequence[Teacher],
        reader: type[PartitionReader] = PartitionReader,
    ) -> None:
        self.readers = tuple(
            open_store(cache, reading, member, features_schema(teacher.storage), reader)
            for member, teacher in zip(reading.features if teachers else (), teachers, strict=True)
        )
        self.unreadable = frozenset(row for reader in self.readers for row in reader.attributes["unreadable"])
        """Images without features of some teacher, because they could not be read."""

    def memory(self, views: int) -> GridMemory:
        """Memory for the grids of so many views."""
        return GridMemory(
            tuple(_empty(reader, "features", views) for reader in self.readers),
            tuple(
                _empty(reader, "scales", views) if reader.has("scales") else None for reader in self.readers
            ),
            views,
        )

    def read(self, view: int, into: Sequence[PatchGrid]) -> tuple[PatchGrid, ...]:
        """Read the grids of one view directly `into` this memory, and return them.

        Raises:
            ValueError: for an image that could not be read; check `unreadable` before drawing a view.
            DamagedCache: naming the file, if a checksum does not fit.
        """
        if view in self.unreadable:
            raise ValueError(f"image {view} of {self.readers[0].manifest.path} could not be read")
        for reader, place in zip(self.readers, into, strict=True):
            reader.read("features", view, view + 1, place.values[np.newaxis])
            if place.scales is not None:
                reader.read("scales", view, view + 1, place.scales[np.newaxis])
        return tuple(into)

    def advise(self, view: int) -> None:
        """Tell the system that the grids of a view will be read soon."""
        for reader in self.readers:
            for name in ("features", "scales"):
                if reader.has(name):
                    reader.advise(name, view, view + 1)

    def channels(self) -> tuple[int, ...]:
        return tuple(reader.shape("features")[3] for reader in self.readers)


def _empty(reader: PartitionReader, name: str, views: int) -> Tensor:
    """Memory for rows of an array. In a worker process it is shared memory, so that a batch is not copied once more."""
    shape, dtype = (views, *reader.shape(name)[1:]), reader.dtype(name)
    kind = torch.from_numpy(np.empty(0, dtype)).dtype
    if get_worker_info() is None:
        return torch.empty(shape, dtype=kind)
    storage = torch.UntypedStorage._new_shared(prod(shape) * dtype.itemsize)
    return torch.empty(0, dtype=kind).set_(storage).view(shape)


def coordinates_in(
    grids: Sequence[PatchGrid],
    pixel: np.ndarray,
    *,
    original: tuple[int, int],
    teachers: Sequence[Teacher],
    sampling: Sampling,
) -> tuple[np.ndarray, ...]:
    """Where pixels (n, 2) of an original image (W0, H0) lie in each teacher's grid: (n, 2) float64 (column, row) each."""
    return tuple(
        grid_coordinates(
            pixel,
            original=original,
            image=teacher.image_size,
            rows=grid.values.shape[0],
            cols=grid.values.shape[1],
            mode=sampling,
        )
        for grid, teacher in zip(grids, teachers, strict=True)
    )


@dataclass(frozen=True)
class TargetBatch:
    """One teacher's grids for a batch.

    Attributes:
        values: (V, rows, cols, C) in the storage type.
        scales: (V, rows, cols, G) float16 for int8, else None.
        coordinates: (P, 2) float32 (column, row).
    """

    values: Tensor
    scales: Tensor | None
    coordinates: Tensor

    @property
    def channels(self) -> int:
        return self.values.shape[3]

    def to(self, device: torch.device) -> TargetBatch:
        return TargetBatch(
            self.values.to(device, non_blocking=True),
            None if self.scales is None else self.scales.to(device, non_blocking=True),
            self.coordinates.to(device, non_blocking=True),
        )

    def pin_memory(self) -> TargetBatch:
        scales = None if self.scales is None else self.scales.pin_memory()
        return TargetBatch(self.values.pin_memory(), scales, self.coordinates.pin_memory())

    def sample(self, view: Tensor) -> Tensor:
        """The teacher's features (P, C) float32 at the points. view: (P,) int64, which of the V grids."""
        return sample_grids(self._decoded(), self.coordinates, view)

    def _decoded(self) -> Tensor:
        """As `cache_schemas.storage.decode`, on the device."""
        if self.scales is None:
            return self.values
        spread = self.scales.float().repeat_interleave(GROUP, dim=3)[..., : self.channels]
        return self.values.float() * spread


def joined(parts: Sequence[Tensor]) -> Tensor:
    """The features (P, C) of one teacher unchanged; of several, each l2-normalised, then concatenated: (P, C1 + C2 ...).

    ScaLR, section 4.7 and supplement B.2.
    """
    if len(parts) == 1:
        return parts[0]
    return torch.cat([F.normalize(part, dim=1) for part in parts], dim=1)
