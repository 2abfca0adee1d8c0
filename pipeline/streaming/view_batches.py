"""Batches for pretraining, made in worker processes: one item of the dataset is one whole step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cache_schemas.errors import GriddleError
from pipeline.common.random import generator
from pipeline.config.model import Teacher
from pipeline.plan.parts import Run
from pipeline.streaming.all_cameras import UnionSample, make_union_sample
from pipeline.streaming.grids import PatchGrid, TargetBatch
from pipeline.streaming.order import Draw, ScanPlace, batch_of_step
from pipeline.streaming.readahead import STEPS_AHEAD, ReadAhead
from pipeline.streaming.view_sample import Sample, make_sample
from pipeline.streaming.view_source import ViewSource
from pipeline.students.packed import PackedClouds, pack

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class PretrainBatch:
    """One step's input.

    Attributes:
        clouds: P points of B samples.
        targets: each teacher's patch grids of V views, and where the points lie in them.
        draws: what was drawn, for errors and the log.
        view_sizes: (V,) int64, on the CPU: points of each view, in the order of the rows. One view a sample, or all
            that a scan has.
    """

    clouds: PackedClouds
    targets: tuple[TargetBatch, ...]
    draws: tuple[Draw, ...]
    view_sizes: Tensor

    def view_of_row(self) -> Tensor:
        """The view that each row's target is in. Returns (P,) int64, on the device of the clouds."""
        device = self.clouds.features.device
        views = torch.arange(len(self.view_sizes), device=device)
        sizes = self.view_sizes.to(device, non_blocking=True)
        return torch.repeat_interleave(views, sizes, output_size=len(self.clouds.features))

    def to(self, device: torch.device) -> PretrainBatch:
        return PretrainBatch(
            self.clouds.to(device),
            tuple(target.to(device) for target in self.targets),
            self.draws,
            self.view_sizes,
        )

    def pin_memory(self) -> PretrainBatch:
        return PretrainBatch(
            self.clouds.pin_memory(),
            tuple(target.pin_memory() for target in self.targets),
            self.draws,
            self.view_sizes.pin_memory(),
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
        self._ahead = ReadAhead(source, self.draws, ahead, all_views=self._student.cameras == "all")

    def __len__(self) -> int:
        """Scans that can be drawn."""
        return len(self._scans)

    def __getitem__(self, step: int) -> PretrainBatch:
        draws = self.draws(step)
        with self._ahead.reading(step):
            return self._batch(draws)

    def _batch(self, draws: list[Draw]) -> PretrainBatch:
        if self._student.cameras == "all":
            return self._batch_of_all_cameras(draws)
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
            view_sizes=torch.tensor([len(sample.cloud.features) for sample in samples]),
        )

    def _batch_of_all_cameras(self, draws: list[Draw]) -> PretrainBatch:
        memory = self._source.grid_memory(draws[0].scan.reading, sum(len(draw.scan.views) for draw in draws))
        samples: list[UnionSample] = []
        number = 0
        for draw in draws:
            places = range(number, number + len(draw.scan.views))
            samples.append(self.union_sample(draw, [[m.grid(place) for m in memory] for place in places]))
            number = places.stop
        views = [view for sample in samples for view in sample.targets]
        return PretrainBatch(
            clouds=pack([sample.cloud for sample in samples]),
            targets=tuple(
                of_teacher.batch([view[teacher].coordinates for view in views])
                for teacher, of_teacher in enumerate(memory)
            ),
            draws=tuple(draws),
            view_sizes=torch.tensor([size for sample in samples for size in sample.sizes]),
        )

    def union_sample(self, draw: Draw, into: Sequence[Sequence[PatchGrid]]) -> UnionSample:
        """The sample of all of a draw's cameras; their patch grids are read straight `into` these."""
        student = self._student
        return make_union_sample(
            [
                self._source.read(draw.scan.reading, view, draw.variant, place)
                for view, place in zip(draw.scan.views, into, strict=True)
            ],
            points=student.points,
            augmentation=student.augment,
            intensity=self._intensity[draw.scan.dataset],
            teachers=self._teachers,
            sampling=student.sampling,
            rng=generator(self._seed, "augment", draw.epoch, draw.scan.dataset, draw.scan.name),
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
