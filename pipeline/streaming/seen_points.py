"""The points that cameras see, with patch grids and labels. The probe of the teacher itself learns from them.

There are no voxels and no neighbours. Each view gives one row for each point that it sees, so that a point that two cameras
see is two rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cache_schemas.belonging import check_same_scans
from cache_schemas.scans import LABELS
from pipeline.config.model import Teacher
from pipeline.plan.labelled import LabelledReading
from pipeline.plan.left_out import left_out_of, lost_scans
from pipeline.streaming.grids import TargetBatch, coordinates_in
from pipeline.streaming.open_partitions import PartitionSource, open_store
from pipeline.streaming.order import places_of_step
from pipeline.streaming.scan_places import Places
from pipeline.streaming.scan_source import LabelledPlace, labelled_place, scan_name
from pipeline.streaming.view_source import OpenedViews
from pipeline.teachers.sampling import Sampling


@dataclass(frozen=True)
class SeenBatch:
    """What the cameras of a few scans see.

    Attributes:
        targets: each teacher's patch grids of V views, and where the P points lie in them.
        view: (P,) int64, which of the V views.
        labels: (P,) int64, 255 ignored.
        nearest: (P,) int64: each row itself, because no point stands for another.
        names: of the scans, for people.
    """

    targets: tuple[TargetBatch, ...]
    view: Tensor
    labels: Tensor
    nearest: Tensor
    names: tuple[str, ...]

    def to(self, device: torch.device) -> SeenBatch:
        return SeenBatch(
            tuple(target.to(device) for target in self.targets),
            self.view.to(device, non_blocking=True),
            self.labels.to(device, non_blocking=True),
            self.nearest.to(device, non_blocking=True),
            self.names,
        )

    def pin_memory(self) -> SeenBatch:
        return SeenBatch(
            tuple(target.pin_memory() for target in self.targets),
            self.view.pin_memory(),
            self.labels.pin_memory(),
            self.nearest.pin_memory(),
            self.names,
        )


class _Opened(OpenedViews):
    """The view, feature and label store of one partition."""

    def __init__(self, cache: Path, reading: LabelledReading, teachers: Sequence[Teacher]) -> None:
        super().__init__(cache, reading, teachers)
        if reading.labels is None:
            raise ValueError(f"{reading.dataset} {reading.partition} was planned without labels")
        self.labels = open_store(cache, reading, reading.labels, LABELS)
        check_same_scans(self.views, self.labels)
        self.label_bounds = self.labels.read("scan_offsets").astype(np.int64)
        self.left_out = left_out_of((self.labels, *self.grids.readers))
        self.lost = lost_scans(self.labels)

    def sees(self, scan: int) -> bool:
        """Whether a camera sees anything of a scan whose points and labels could be read."""
        if self.names[scan] in self.lost:
            return False
        return any(self.seen_bounds[view] < self.seen_bounds[view + 1] for view in self.usable(scan))


class SeenSource(PartitionSource[LabelledReading, _Opened]):
    """Random access, scan by scan, to what the cameras see."""

    def __init__(
        self,
        cache: Path,
        readings: Sequence[LabelledReading],
        *,
        teachers: Sequence[Teacher],
        sampling: Sampling,
    ) -> None:
        super().__init__(cache, readings)
        self._teachers, self._sampling = tuple(teachers), sampling

    def scans(self) -> Places[LabelledPlace]:
        """All scans of which a camera sees something, in the order of the plan."""
        return self._places(labelled_place)

    def _drawable(self, reading: LabelledReading, opened: _Opened) -> Iterator[tuple[str, tuple[int]]]:
        for row in np.unique(opened.view_scan).tolist():
            if opened.sees(row):
                yield opened.names[row], (row,)

    @property
    def channels(self) -> int:
        """Of all teachers together."""
        return sum(self._opened[0].grids.channels())

    def read(self, places: Sequence[LabelledPlace]) -> SeenBatch:
        """What all cameras of some scans see.

        Raises:
            DamagedCache: naming the file, if a checksum does not fit.
        """
        partitions = [self._opened[place.reading] for place in places]
        views = [opened.usable(place.row) for opened, place in zip(partitions, places, strict=True)]
        memory = partitions[0].grids.memory(sum(map(len, views)))
        into = iter(memory.places())
        coordinates, labels = [], []
        for place, opened, usable in zip(places, partitions, views, strict=True):
            begin, end = opened.label_bounds[place.row : place.row + 2]
            label = opened.labels.read("label", int(begin), int(end))
            for view in usable:
                first, last = opened.seen(view)
                coordinates.append(
                    coordinates_in(
                        opened.grids.read(view, next(into)),
                        opened.views.read("pixel", first, last),
                        original=opened.original(view),
                        teachers=self._teachers,
                        sampling=self._sampling,
                    )
                )
                labels.append(label[opened.views.read("point", first, last).astype(np.int64)])
        sizes = [len(label) for label in labels]
        return SeenBatch(
            targets=memory.batches(coordinates),
            view=torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
            labels=torch.from_numpy(np.concatenate(labels).astype(np.int64)),
            nearest=torch.arange(sum(sizes)),
            names=tuple(map(scan_name, places)),
        )

    def _open(self, number: int) -> _Opened:
        return _Opened(self._cache, self._readings[number], self._teachers)


class SeenSteps(Dataset[SeenBatch]):
    """Item `step` is the batch of that step of the teacher's probe, in the same order as a student's."""

    def __init__(self, source: SeenSource, scans: Sequence[LabelledPlace], *, seed: int, batch: int) -> None:
        self._source, self._scans = source, scans
        self._seed, self._batch = seed, batch

    def __getitem__(self, step: int) -> SeenBatch:
        _, places = places_of_step((len(self._scans),), seed=self._seed, step=step, batch=self._batch)
        return self._source.read([self._scans[place] for place in places])


class EvaluationSeen(Dataset[SeenBatch]):
    """Item `number` is what the cameras see of that scan of the evaluated split."""

    def __init__(self, source: SeenSource, scans: Sequence[LabelledPlace]) -> None:
        self._source, self._scans = source, scans

    def __len__(self) -> int:
        return len(self._scans)

    def __getitem__(self, number: int) -> SeenBatch:
        return self._source.read([self._scans[number]])
