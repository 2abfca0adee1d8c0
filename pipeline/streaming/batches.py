"""Batches for pretraining, made in worker processes: one item of the dataset is one whole step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from cache_schemas.errors import GriddleError
from pipeline.planned import Run
from pipeline.random import generator
from pipeline.streaming.order import Draw, ScanPlace, batch_of_step
from pipeline.streaming.readahead import STEPS_AHEAD, ReadAhead
from pipeline.streaming.sample import Sample, make_sample
from pipeline.streaming.source import ViewSource
from pipeline.students.packed import PackedClouds, pack

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class PretrainBatch:
    """One step's input.

    Attributes:
        clouds: P points of B views.
        coordinates: (P, 2) float32 (column, row) in each view's patch grid.
        grids: (B, rows, cols, channels), the teacher's patch grids in their storage type.
        draws: what was drawn, for errors and the log.
    """

    clouds: PackedClouds
    coordinates: Tensor
    grids: Tensor
    draws: tuple[Draw, ...]

    def to(self, device: torch.device) -> PretrainBatch:
        return PretrainBatch(
            self.clouds.to(device),
            self.coordinates.to(device, non_blocking=True),
            self.grids.to(device, non_blocking=True),
            self.draws,
        )

    def pin_memory(self) -> PretrainBatch:
        return PretrainBatch(
            self.clouds.pin_memory(), self.coordinates.pin_memory(), self.grids.pin_memory(), self.draws
        )


class PretrainSteps(Dataset[PretrainBatch]):
    """Item `step` is the batch of that training step, a pure function of the run's seed and the cache."""

    def __init__(
        self,
        source: ViewSource,
        scans: Sequence[ScanPlace],
        run: Run,
        image_size: tuple[int, int],
        intensity: dict[str, tuple[float, float]],
        ahead: int = STEPS_AHEAD,
    ) -> None:
        self._source = source
        self._scans = scans
        self._student = run.student
        self._seed = run.seed
        self._image_size = image_size
        self._intensity = intensity
        self._ahead = ReadAhead(source, self.draws, ahead)

    def __len__(self) -> int:
        """Scans that can be drawn."""
        return len(self._scans)

    def __getitem__(self, step: int) -> PretrainBatch:
        draws = self.draws(step)
        with self._ahead.reading(step):
            return self._batch(draws)

    def _batch(self, draws: list[Draw]) -> PretrainBatch:
        shape, dtype = self._source.grid_shape(draws[0].scan.reading)
        grids = _empty((len(draws), *shape), dtype)
        samples = [self.sample(draw, grid) for draw, grid in zip(draws, grids.numpy(), strict=True)]
        coordinates = np.concatenate([sample.coordinates for sample in samples], dtype=np.float32)
        return PretrainBatch(
            clouds=pack([sample.cloud for sample in samples]),
            coordinates=torch.from_numpy(coordinates),
            grids=grids,
            draws=tuple(draws),
        )

    def draws(self, step: int) -> list[Draw]:
        """What a step is made of."""
        student = self._student
        return batch_of_step(
            self._scans,
            seed=self._seed,
            step=step,
            batch=student.pretrain.batch,
            variants=student.points.variants,
        )

    def sample(self, draw: Draw, grid: np.ndarray | None = None) -> Sample:
        """One draw's sample; its patch grid is read straight into `grid`, where that is given."""
        student = self._student
        return make_sample(
            self._source.read(draw.scan.reading, draw.view, draw.variant, grid),
            points=student.points,
            augmentation=student.augment,
            intensity=self._intensity[draw.scan.dataset],
            image_size=self._image_size,
            sampling=student.sampling,
            rng=generator(self._seed, "augment", draw.epoch, draw.scan.dataset, draw.scan.name),
        )


def _empty(shape: tuple[int, ...], dtype: np.dtype) -> Tensor:
    """Memory for a batch's patch grids, most of its bytes; a worker takes shared memory, which is not copied again."""
    kind = torch.from_numpy(np.empty(0, dtype)).dtype
    if get_worker_info() is None:
        return torch.empty(shape, dtype=kind)
    size = prod(shape) * dtype.itemsize
    return torch.empty(0, dtype=kind).set_(torch.UntypedStorage._new_shared(size)).view(shape)


class _Careful(Dataset[Any]):
    """Hands our own errors over as values: torch would wrap them in a traceback of the worker."""

    def __init__(self, steps: Dataset[Any]) -> None:
        self._steps = steps

    def __getitem__(self, step: int) -> Any:
        try:
            return self._steps[step]
        except GriddleError as error:
            return error


def stream(steps: Dataset[Batch], first: int, last: int, workers: int, pin: bool) -> Iterator[Batch]:
    """The batches of steps `first` to `last`, prepared ahead by `workers` processes, in order.

    Raises:
        GriddleError: what a worker raised, in its own words.
    """
    options: dict[str, Any] = {"prefetch_factor": 4, "persistent_workers": True} if workers else {}
    loader = DataLoader(
        _Careful(steps),
        batch_size=None,
        sampler=range(first, last),
        num_workers=workers,
        pin_memory=pin,
        **options,
    )
    for batch in loader:
        if isinstance(batch, GriddleError):
            raise batch
        yield batch
