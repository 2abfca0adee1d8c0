"""Whole scans: what is kept, in which order, and that every point finds the nearest kept one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cache_schemas.errors import BadInput
from pipeline.common.random import generator
from pipeline.config.model import Points
from pipeline.config.training import LabelledAugment
from pipeline.geometry.full_scan import FullScan, full_scan
from pipeline.geometry.voxels import representatives
from pipeline.streaming.order import places_of_step
from pipeline.streaming.scan_batches import (
    SCORED_TOGETHER,
    EvaluationScans,
    ScanSteps,
    evaluation_sample,
    training_sample,
)
from pipeline.streaming.scan_source import LabelledPlace, ScanPoints

POINTS = Points(neighbours=4, field_of_view=((-8.0, 8.0), (-8.0, 8.0), (-4.0, 4.0)), cell=0.5, voxel=0.5)
INTENSITY = (10.0, 4.0)


def scan_of(points: int, seed: int = 0) -> ScanPoints:
    rng = np.random.default_rng(seed)
    return ScanPoints(
        xyz=(rng.normal(size=(points, 3)) * (5.0, 5.0, 2.0)).astype(np.float32),
        intensity=rng.uniform(0, 255, points).astype(np.float32),
        label=rng.integers(0, 16, points).astype(np.uint8),
    )


class Memory:
    """A source that holds its scans."""

    def __init__(self, scans: list[ScanPoints]) -> None:
        self._scans = scans

    def scans(self) -> list[LabelledPlace]:
        return [LabelledPlace(0, row, "d", f"scan-{row}") for row in range(len(self._scans))]

    def read(self, place: LabelledPlace) -> ScanPoints:
        return self._scans[place.row]

    def full(self, place: LabelledPlace) -> FullScan:
        return full_scan(self._scans[place.row].xyz, POINTS)


def steps_of(source: Any, seed: int = 3, **change: Any) -> ScanSteps:
    options = {"points": POINTS, "augmentation": LabelledAugment(), "intensity": {"d": INTENSITY}, **change}
    return ScanSteps(source, source.scans(), seed=seed, batch=2, **options)


def test_every_point_takes_the_nearest_kept_one_inside_the_field_or_not() -> None:
    scan = scan_of(800)
    sample = evaluation_sample(scan, full_scan(scan.xyz, POINTS), points=POINTS, intensity=INTENSITY)
    first = representatives(scan.xyz, POINTS.voxel, None)
    low, high = np.array(POINTS.field_of_view).T
    kept = first[((scan.xyz[first] > low) & (scan.xyz[first] < high)).all(axis=1)]
    assert 0 < len(kept) < len(first), "the crop takes some"
    distance = np.linalg.norm(scan.xyz[:, None].astype(np.float64) - scan.xyz[kept][None], axis=2)
    assert len(sample.nearest) == len(scan.xyz)
    found = distance[np.arange(len(scan.xyz)), sample.nearest]
    np.testing.assert_allclose(found, distance.min(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(sample.nearest[kept], np.arange(len(kept)))
    np.testing.assert_array_equal(sample.labels, scan.label)
    np.testing.assert_array_equal(sample.cloud.features[:, 1:4], scan.xyz[kept])


def test_one_kept_point_serves_all() -> None:
    one = full_scan(np.array([[1, 1, 1], [50, 0, 0], [0, 50, 0]], np.float32), POINTS)
    assert one.kept.tolist() == [0]
    assert one.nearest.tolist() == [0, 0, 0]
    assert one.neighbours.tolist() == [[0, 0, 0, 0]], "where there are no others, itself"


def test_a_scan_outside_the_field_of_view_is_refused() -> None:
    with pytest.raises(BadInput, match=r"none of 5 points lies in points.field_of_view .* write a wider one"):
        full_scan(np.full((5, 3), 50, np.float32), POINTS)


def test_training_keeps_a_random_point_of_each_voxel_and_its_label() -> None:
    scan = scan_of(800)
    still = LabelledAugment(rotate=False, flip=False, scale=0.0)
    sample = training_sample(
        scan, points=POINTS, augmentation=still, intensity=INTENSITY, rng=generator("any")
    )
    rows = {tuple(xyz): row for row, xyz in enumerate(scan.xyz.tolist())}
    kept = [rows[tuple(xyz)] for xyz in sample.cloud.features[:, 1:4].tolist()]
    np.testing.assert_array_equal(sample.labels, scan.label[kept])
    np.testing.assert_allclose(sample.cloud.features[:, 0], (scan.intensity[kept] - 10) / 4, rtol=1e-6)
    cells = ((scan.xyz - scan.xyz.min(axis=0)) / np.float32(POINTS.voxel)).astype(int)
    assert len({tuple(cell) for cell in cells[kept]}) == len(kept)
    assert set(kept) != set(representatives(scan.xyz, POINTS.voxel, None)) & set(kept)


def test_a_big_scan_is_limited_to_the_nearest_to_one_point() -> None:
    few = POINTS.model_copy(update={"max_points": 100})
    sample = training_sample(
        scan_of(800), points=few, augmentation=LabelledAugment(), intensity=INTENSITY, rng=generator(1)
    )
    assert len(sample.labels) <= 100
    scan = scan_of(800)
    whole = evaluation_sample(scan, full_scan(scan.xyz, few), points=few, intensity=INTENSITY)
    assert len(whole.cloud.features) > 100, "evaluation keeps all"


def test_a_step_is_a_pure_function_of_seed_and_step() -> None:
    source = Memory([scan_of(200, seed) for seed in range(5)])
    steps = steps_of(source)
    later, again = steps[7], steps_of(source)[7]
    torch.testing.assert_close(later.clouds.features, again.clouds.features, rtol=0, atol=0)
    assert not torch.equal(later.clouds.features[:50], steps_of(source, seed=4)[7].clouds.features[:50])
    epoch, places = places_of_step((5,), seed=3, step=7, batch=2)
    assert (epoch, len(places)) == (3, 2)
    first_epoch = (
        places_of_step((5,), seed=3, step=0, batch=2)[1] + places_of_step((5,), seed=3, step=1, batch=2)[1]
    )
    assert len(set(first_epoch)) == 4


def test_evaluation_goes_through_every_scan_once_and_in_order() -> None:
    scans = [scan_of(100 + seed, seed) for seed in range(SCORED_TOGETHER + 2)]
    source: Any = Memory(scans)
    batches = EvaluationScans(source, source.scans(), points=POINTS, intensity={"d": INTENSITY})
    assert len(batches) == 2
    labels = torch.cat([batches[number].labels for number in range(2)])
    np.testing.assert_array_equal(labels.numpy(), np.concatenate([scan.label for scan in scans]))
    for number in range(2):
        batch = batches[number]
        clouds = batch.clouds.cloud_of_row()[batch.nearest]
        sizes = [len(s.label) for s in scans[number * SCORED_TOGETHER :][: batch.clouds.count]]
        np.testing.assert_array_equal(clouds.numpy(), np.repeat(np.arange(len(sizes)), sizes))
