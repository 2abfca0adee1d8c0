"""Test-time votes: each scored scan goes through the student several times, with another augmentation each time.

The probabilities of the classes are added up, as in WaffleIron's published evaluation. There all passes are augmented; here the
first pass is the unchanged scan.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree
from torch.utils.data import Dataset

from cache_schemas.errors import BadInput
from pipeline.common.random import generator
from pipeline.config.model import Points
from pipeline.config.training import LabelledAugment
from pipeline.geometry.grid import plane_grid_of
from pipeline.geometry.neighbours import nearest_others
from pipeline.geometry.voxels import representatives
from pipeline.streaming.augment import augmented
from pipeline.streaming.scan_batches import (
    EvaluationScans,
    ScanBatch,
    ScanSample,
    scan_batch,
    scored_together,
)
from pipeline.streaming.scan_source import LabelledPlace, ScanPoints, ScanSource
from pipeline.students.packed import Cloud


class Votes(Dataset[ScanBatch]):
    """Item number * votes + vote is that vote on that batch of the evaluated split. Vote 0 takes the scans unchanged.

    Attributes:
        batches: of scans, each of them `votes` items.
    """

    def __init__(
        self,
        source: ScanSource,
        scans: Sequence[LabelledPlace],
        *,
        votes: int,
        seed: int,
        points: Points,
        augmentation: LabelledAugment,
        intensity: dict[str, tuple[float, float]],
    ) -> None:
        self._plain = EvaluationScans(source, scans, points=points, intensity=intensity)
        self.batches = len(self._plain)
        self._source, self._scans = source, scans
        self._votes, self._seed = votes, seed
        self._points, self._augmentation, self._intensity = points, augmentation, intensity

    def __getitem__(self, item: int) -> ScanBatch:
        number, vote = divmod(item, self._votes)
        if not vote:
            return self._plain[number]
        scans = scored_together(self._scans, number)
        return scan_batch([self._sample(place, vote) for place in scans], scans)

    def _sample(self, place: LabelledPlace, vote: int) -> ScanSample:
        return moved_sample(
            self._source.read(place),
            points=self._points,
            augmentation=self._augmentation,
            intensity=self._intensity[place.dataset],
            rng=generator(self._seed, "vote", vote, place.dataset, place.name),
        )


def moved_sample(
    scan: ScanPoints,
    *,
    points: Points,
    augmentation: LabelledAugment,
    intensity: tuple[float, float],
    rng: np.random.Generator,
) -> ScanSample:
    """An augmented scan to be scored: of each voxel the first point, if it then lies in the field of view.

    Raises:
        BadInput: if no point lies there.
    """
    moved, features = augmented(scan.intensity, scan.xyz, augmentation, intensity, rng)
    kept = representatives(scan.xyz, points.voxel, None)
    kept = kept[plane_grid_of(points).inside(moved[kept])]
    if not len(kept):
        raise BadInput(
            f"none of {len(scan.xyz)} points of a scan lies in the field of view {points.field_of_view} once it is moved "
            f"for a vote; write a wider one, or `votes: 1`"
        )
    xyz = moved[kept]
    cloud = Cloud(
        features=features[kept],
        neighbours=nearest_others(xyz, points.neighbours),
        cells=plane_grid_of(points).cells(xyz),
    )
    return ScanSample(cloud, scan.label, cKDTree(xyz).query(moved)[1].astype(np.int64))
