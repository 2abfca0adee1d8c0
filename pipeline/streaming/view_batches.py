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
from pipeline.streaming.all_cameras import make_union_sample
from pipeline.streaming.grids import TargetBatch
from pipeline.streaming.order import Draw, ScanPlace, batch_of_step
from pipeline.streaming.readahead import STEPS_AHEAD, ReadAhead
from pipeline.streaming.view_sample import Sample, make_sample
from pipeline.streaming.view_source import ViewPoints, ViewSource
from pipeline.students.packed import PackedClouds, pack

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class PretrainBatch:
    """One step's input.

    Attributes:
        clouds: P points of B samples.
        targets: each teacher's patch grids of V views, and where the points lie in them.
        draws: what was drawn, for errors and the log.
        view_sizes: (V,) int64, on the CPU: the number of points of each view, in the order of the rows. A sample has one
            view, or all views of its scan.
    """

    clouds: PackedClouds
    targets: tuple[TargetBatch, ...]
    draws: tuple[Draw, ...]
    view_sizes: Tensor

    def view_of_row(self) -> Tensor:
        """For each row the view that its target is in: (P,) int64, on the device of the clouds."""
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
        self._all_cameras = run.student.cameras == "all"
        self._ahead = ReadAhead(source, self.draws, ahead, all_views=self._all_cameras)

    def __getitem__(self, step: int) -> PretrainBatch:
        draws = self.draws(step)
        with self._ahead.reading(step):
            return self._batch(draws)

    def _batch(self, draws: list[Draw]) -> PretrainBatch:
        views = [draw.scan.views if self._all_cameras else (draw.view,) for draw in draws]
        memory = self._source.grid_memory(draws[0].scan.reading, sum(map(len, views)))
        into = iter(memory.places())
        samples = [
            self._sample(
                draw,
                [
                    self._source.read(draw.scan.reading, view, draw.variant, next(into))
                    for view in views_of_draw
                ],
            )
            for draw, views_of_draw in zip(draws, views, strict=True)
        ]
        return PretrainBatch(
            clouds=pack([sample.cloud for sample in samples]),
            targets=memory.batches([view for sample in samples for view in sample.coordinates]),
            draws=tuple(draws),
            view_sizes=torch.tensor([size for sample in samples for size in sample.sizes]),
        )

    def _sample(self, draw: Draw, views: Sequence[ViewPoints]) -> Sample:
        student = self._student
        options: dict[str, Any] = {
            "points": student.points,
            "augmentation": student.augment,
            "intensity": self._intensity[draw.scan.dataset],
            "teachers": self._teachers,
            "sampling": student.sampling,
            "rng": generator(self._seed, "augment", draw.epoch, draw.scan.dataset, draw.scan.name),
        }
        return make_union_sample(views, **options) if self._all_cameras else make_sample(*views, **options)

    def draws(self, step: int) -> list[Draw]:
        """The draws of a step."""
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


class _Careful(Dataset[Any]):
    """Returns our own errors as values; raised, torch would wrap them in a traceback of the worker."""

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
