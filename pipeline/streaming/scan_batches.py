"""Whole scans for probes and finetunings: augmented to learn from, unchanged to be scored, where each point counts.

Source: ScaLR's released datasets/pc_dataset.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.common.random import generator, scan_key
from pipeline.config.model import Points
from pipeline.config.training import LabelledAugment
from pipeline.geometry.full_scan import FullScan
from pipeline.geometry.grid import plane_grid_of
from pipeline.geometry.neighbours import nearest_others
from pipeline.geometry.voxels import representatives
from pipeline.streaming.augment import augmented, point_features
from pipeline.streaming.order import places_of_step
from pipeline.streaming.scan_source import LabelledPlace, ScanPoints, ScanSource, scan_name
from pipeline.streaming.view_sample import nearest_to_one
from pipeline.students.packed import Cloud, PackedClouds, pack

SCORED_TOGETHER = 4
"""Scans in one evaluation batch: a matter of memory and speed, not of results."""


@dataclass(frozen=True)
class ScanBatch:
    """Whole scans, packed.

    Attributes:
        clouds: P kept points of B scans.
        labels: (N,) int64, 255 is ignored. In training they are those of the kept points (N = P), in evaluation of all points.
        nearest: (N,) int64: for each label the row in `clouds` of the kept point whose prediction is compared with it.
        keys: of the scans, for draws that are keyed by numbers.
        names: of the scans, for people.
    """

    clouds: PackedClouds
    labels: Tensor
    nearest: Tensor
    keys: tuple[int, ...]
    names: tuple[str, ...]

    def to(self, device: torch.device) -> ScanBatch:
        return ScanBatch(
            self.clouds.to(device),
            self.labels.to(device, non_blocking=True),
            self.nearest.to(device, non_blocking=True),
            self.keys,
            self.names,
        )

    def pin_memory(self) -> ScanBatch:
        return ScanBatch(
            self.clouds.pin_memory(),
            self.labels.pin_memory(),
            self.nearest.pin_memory(),
            self.keys,
            self.names,
        )


@dataclass(frozen=True)
class ScanSample:
    """One scan of a batch: its kept points, and `labels` and `nearest` as in `ScanBatch`, with rows counted in the scan."""

    cloud: Cloud
    labels: np.ndarray
    nearest: np.ndarray


def training_sample(
    scan: ScanPoints,
    *,
    points: Points,
    augmentation: LabelledAugment,
    intensity: tuple[float, float],
    rng: np.random.Generator,
) -> ScanSample:
    """One random point of each voxel; of these at most `max_points`, nearest to one of them; augmented and cropped."""
    kept = representatives(scan.xyz, points.voxel, rng)
    kept = kept[nearest_to_one(scan.xyz[kept], points.max_points, rng)]
    xyz, features = augmented(scan.intensity[kept], scan.xyz[kept], augmentation, intensity, rng)
    inside = plane_grid_of(points).inside(xyz)
    kept, xyz = kept[inside], xyz[inside]
    cloud = Cloud(
        features=features[inside],
        neighbours=nearest_others(xyz, points.neighbours),
        cells=plane_grid_of(points).cells(xyz),
    )
    return ScanSample(cloud, scan.label[kept], np.arange(len(kept)))


def evaluation_sample(
    scan: ScanPoints, full: FullScan, *, points: Points, intensity: tuple[float, float]
) -> ScanSample:
    """The first point of each voxel in file order, cropped. Every point of the scan takes the class of the nearest kept one."""
    xyz = scan.xyz.take(full.kept, axis=0)
    cloud = Cloud(
        features=point_features(scan.intensity.take(full.kept), xyz, intensity),
        neighbours=full.neighbours,
        cells=plane_grid_of(points).cells(xyz),
    )
    return ScanSample(cloud, scan.label, full.nearest)


class ScanSteps(Dataset[ScanBatch]):
    """Item `step` is the batch of that step of a training with labels: a pure function of its seed and the cache.

    purpose: of the draws, `probe` or `finetune`.
    """

    def __init__(
        self,
        source: ScanSource,
        scans: Sequence[LabelledPlace],
        *,
        seed: int,
        batch: int,
        points: Points,
        augmentation: LabelledAugment,
        intensity: dict[str, tuple[float, float]],
        purpose: str = "probe",
    ) -> None:
        self._source, self._scans = source, scans
        self._seed, self._batch, self._purpose = seed, batch, purpose
        self._points, self._augmentation, self._intensity = points, augmentation, intensity

    def __getitem__(self, step: int) -> ScanBatch:
        epoch, places = places_of_step((len(self._scans),), seed=self._seed, step=step, batch=self._batch)
        scans = [self._scans[place] for place in places]
        return scan_batch([self._sample(scan, epoch) for scan in scans], scans)

    def names(self, step: int) -> tuple[str, ...]:
        """Of the scans in a step's batch, as in `ScanBatch`."""
        _, places = places_of_step((len(self._scans),), seed=self._seed, step=step, batch=self._batch)
        return tuple(scan_name(self._scans[place]) for place in places)

    def _sample(self, place: LabelledPlace, epoch: int) -> ScanSample:
        return training_sample(
            self._source.read(place),
            points=self._points,
            augmentation=self._augmentation,
            intensity=self._intensity[place.dataset],
            rng=generator(self._seed, self._purpose, epoch, place.dataset, place.name),
        )


def scored_together(scans: Sequence[LabelledPlace], number: int) -> Sequence[LabelledPlace]:
    """The scans of that batch of an evaluated split."""
    return scans[number * SCORED_TOGETHER :][:SCORED_TOGETHER]


class EvaluationScans(Dataset[ScanBatch]):
    """Item `number` is that batch of the evaluated split, in the order of the plan."""

    def __init__(
        self,
        source: ScanSource,
        scans: Sequence[LabelledPlace],
        *,
        points: Points,
        intensity: dict[str, tuple[float, float]],
    ) -> None:
        self._source, self._scans = source, scans
        self._points, self._intensity = points, intensity

    def __len__(self) -> int:
        return -(-len(self._scans) // SCORED_TOGETHER)

    def __getitem__(self, number: int) -> ScanBatch:
        scans = scored_together(self._scans, number)
        return scan_batch([self._sample(place) for place in scans], scans)

    def _sample(self, place: LabelledPlace) -> ScanSample:
        return evaluation_sample(
            self._source.read(place),
            self._source.full(place),
            points=self._points,
            intensity=self._intensity[place.dataset],
        )


def scan_batch(samples: Sequence[ScanSample], scans: Sequence[LabelledPlace]) -> ScanBatch:
    """Samples of these scans, packed."""
    clouds = pack([sample.cloud for sample in samples])
    starts = clouds.offsets.numpy()
    nearest = [
        sample.nearest.astype(np.int64) + start for sample, start in zip(samples, starts[:-1], strict=True)
    ]
    return ScanBatch(
        clouds=clouds,
        labels=torch.from_numpy(np.concatenate([sample.labels for sample in samples]).astype(np.int64)),
        nearest=torch.from_numpy(np.concatenate(nearest)),
        keys=tuple(scan_key(scan.dataset, scan.name) for scan in scans),
        names=tuple(map(scan_name, scans)),
    )
