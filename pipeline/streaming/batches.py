"""Batches for pretraining, made in worker processes: one item of the dataset is one whole step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from cache_schemas.errors import GriddleError
from pipeline.config.model import Teacher
from pipeline.planned import Run
from pipeline.random import generator
from pipeline.streaming.grids import PatchGrid, TargetBatch
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
        targets: each teacher's patch grids of the B views, and where the points lie in them.
        draws: what was drawn, for errors and the log.
    """

    clouds: PackedClouds
    targets: tuple[TargetBatch, ...]
    draws: tuple[Draw, ...]

    def to(self, device: torch.device) -> PretrainBatch:
        return PretrainBatch(
            self.clouds.to(device),
            tuple(target.to(device) for target in self.targets),
            self.draws,
        )

    def pin_memory(self) -> PretrainBatch:
        return PretrainBatch(
            self.clouds.pin_memory(), tuple(target.pin_memory() for target in self.targets), self.draws
        )


class PretrainSteps(Dataset[PretrainBatch]):
    """Item `step` is the batch of that training step, a pure function of the run's seed and the cache."""

    def __init__(
        self,
        source: ViewSource,
        scans: Sequence[ScanPlace],
        run: Run,
        teachers: Sequence[Teacher],
        intensity: dict[str, tuple[float, float]],
        ahead: int = STEPS_AHEAD,
    ) -> None:
        self._source = source
        self._scans = scans
        self._student = run.student
        self._seed = run.seed
        self._teachers = tuple(teachers)
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
        memory = self._source.grid_memory(draws[0].scan.reading, len(draws))
        samples = [
            self.sample(draw, tuple(of_teacher.grid(number) for of_teacher in memory))
            for number, draw in enumerate(draws)
        ]
        return PretrainBatch(
            clouds=pack([sample.cloud for sample in samples]),
            targets=tuple(
                of_teacher.batch([sample.targets[teacher].coordinates for sample in samples])
                for teacher, of_teacher in enumerate(memory)
            ),
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
            order=student.order,
            weights=student.weights,
        )

    def sample(self, draw: Draw, into: Sequence[PatchGrid] | None = None) -> Sample:
        """One draw's sample; its patch grids are read straight `into` these, where they are given."""
        student = self._student
        return make_sample(
            self._source.read(draw.scan.reading, draw.view, draw.variant, into),
            points=student.points,
            augmentation=student.augment,
            intensity=self._intensity[draw.scan.dataset],
            teachers=self._teachers,
            sampling=student.sampling,
            rng=generator(self._seed, "augment", draw.epoch, draw.scan.dataset, draw.scan.name),
        )


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
