"""The points that cameras see, with their teacher's patch grids and labels: for the probe of the teacher itself.

No voxels and no neighbours: every seen point of every view is one row. A point that two cameras see is two rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cache_schemas.belonging import check_same_images, check_same_scans
from cache_schemas.scans import LABELS
from cache_schemas.views import VIEWS
from pipeline.config.model import Teacher
from pipeline.plan.labelled import ProbeReading
from pipeline.plan.left_out import left_out_of, lost_scans
from pipeline.streaming.grids import GridStores, Target, TargetBatch, batches_of, targets_of
from pipeline.streaming.open_partitions import OpenPartitions, open_store
from pipeline.streaming.order import places_of_step
from pipeline.streaming.scan_places import Places
from pipeline.streaming.scan_source import LabelledPlace, labelled_places
from pipeline.teachers.sampling import Sampling


@dataclass(frozen=True)
class SeenBatch:
    """What the cameras of a few scans see.

    Attributes:
        targets: each teacher's patch grids of V views, and where the P points lie in them.
        view: (P,) int64, which of the V views.
        labels: (P,) int64, 255 ignored.
        nearest: (P,) int64, each row itself: no point stands for another.
    """

    targets: tuple[TargetBatch, ...]
    view: Tensor
    labels: Tensor
    nearest: Tensor

    def to(self, device: torch.device) -> SeenBatch:
        return SeenBatch(
            tuple(target.to(device) for target in self.targets),
            *(tensor.to(device, non_blocking=True) for tensor in self._tensors()),
        )

    def pin_memory(self) -> SeenBatch:
        return SeenBatch(
            tuple(target.pin_memory() for target in self.targets),
            *(tensor.pin_memory() for tensor in self._tensors()),
        )

    def _tensors(self) -> tuple[Tensor, ...]:
        return self.view, self.labels, self.nearest


class _Opened:
    """The view, feature and label store of one partition."""

    def __init__(self, cache: Path, reading: ProbeReading, teachers: Sequence[Teacher]) -> None:
        if reading.views is None or reading.labels is None:
            raise ValueError(
                f"{reading.dataset} {reading.partition} was planned without views, features or labels"
            )
        self.views = open_store(cache, reading, reading.views, VIEWS)
        self.grids = GridStores(cache, reading, teachers)
        self.labels = open_store(cache, reading, reading.labels, LABELS)
        self.label_bounds = self.labels.read("scan_offsets").astype(np.int64)
        self.seen_bounds = self.views.read("seen_offsets").astype(np.int64)
        self.view_scan = self.views.read("view_scan").astype(np.int64)
        self.image_size = self.views.read("image_size")
        for reader in self.grids.readers:
            check_same_images(self.views, reader)
        check_same_scans(self.views, self.labels)
        self.names: list[str] = self.views.attributes["scans"]
        self.left_out = left_out_of((self.labels, *self.grids.readers))
        self.lost = lost_scans(self.labels)

    def readable(self, scan: int) -> list[int]:
        """The views of a scan of which each teacher has the image."""
        views = np.flatnonzero(self.view_scan == scan).tolist()
        return [view for view in views if view not in self.grids.unreadable]

    def sees(self, scan: int) -> bool:
        """Whether one of them sees anything of a scan whose points and labels could be read."""
        if self.names[scan] in self.lost:
            return False
        return any(self.seen_bounds[view] < self.seen_bounds[view + 1] for view in self.readable(scan))


class SeenSource:
    """Random access, scan by scan, to what the cameras see.

    Attributes:
        left_out: by dataset the files that could not be read when the stores were written, in words; known after
            `scans`.
    """

    def __init__(
        self,
        cache: Path,
        readings: Sequence[ProbeReading],
        *,
        teachers: Sequence[Teacher],
        sampling: Sampling,
    ) -> None:
        self._cache, self._readings = cache, readings
        self._teachers, self._sampling = tuple(teachers), sampling
        self._opened = OpenPartitions(self._open)
        self.left_out: dict[str, list[str]] = {}

    def scans(self) -> Places[LabelledPlace]:
        """All scans of which a camera sees something, in the order of the plan."""
        left_out: dict[str, list[str]] = {}

        def seen() -> Iterator[tuple[int, str, tuple[int]]]:
            for number, reading in enumerate(self._readings):
                opened = self._opened[number]
                left_out.setdefault(reading.dataset, []).extend(opened.left_out)
                for row in np.unique(opened.view_scan).tolist():
                    if opened.sees(row):
                        yield number, opened.names[row], (row,)

        places = labelled_places([reading.dataset for reading in self._readings], seen())
        self.left_out = left_out
        return places

    @property
    def channels(self) -> int:
        """Of all teachers together."""
        return sum(self._opened[0].grids.channels())

    def read(self, places: Sequence[LabelledPlace]) -> SeenBatch:
        """What all cameras of some scans see.

        Raises:
            DamagedCache: naming the file, if a checksum does not fit.
        """
        targets, labels = [], []
        for place in places:
            opened = self._opened[place.reading]
            begin, end = opened.label_bounds[place.row : place.row + 2]
            label = opened.labels.read("label", int(begin), int(end))
            for view in opened.readable(place.row):
                first, last = (int(bound) for bound in opened.seen_bounds[view : view + 2])
                targets.append(self._targets(opened, view, first, last))
                labels.append(label[opened.views.read("point", first, last).astype(np.int64)])
        sizes = [len(label) for label in labels]
        return SeenBatch(
            targets=batches_of(targets),
            view=torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
            labels=torch.from_numpy(np.concatenate(labels).astype(np.int64)),
            nearest=torch.arange(sum(sizes)),
        )

    def _targets(self, opened: _Opened, view: int, first: int, last: int) -> tuple[Target, ...]:
        height, width = (int(side) for side in opened.image_size[view])
        return targets_of(
            opened.grids.read(view),
            opened.views.read("pixel", first, last),
            original=(width, height),
            teachers=self._teachers,
            sampling=self._sampling,
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
