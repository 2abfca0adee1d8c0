"""What the left colour camera sees of real scans, against the published rule written out: P2 · Tr on homogeneous points."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.datasets.records import PartitionRecord, ScanRecord
from pipeline.datasets.semantic_kitti.reader import READER
from pipeline.geometry.calibration import MaskRule
from pipeline.geometry.projection import see

COUNTS = {
    "published": [20222, 18579, 20148, 19308],
    "strict": [20215, 18564, 20140, 19298],
}
"""Points in view: three frames of KITTI's object benchmark, and scan 000000 of sequence 00."""
WHOLE_IMAGE = [20285, 18630, 20210]
"""As the samples' own page counts them: ahead by more than 1 m, and anywhere in the image."""


@pytest.fixture(scope="module")
def scans(real: Path) -> list[ScanRecord]:
    found = []
    for partition in READER.partitions(real, ""):
        assert isinstance(partition, PartitionRecord)
        assert partition.problem is None
        found += partition.scans
    return found


def projected(root: Path, scan: ScanRecord) -> tuple[np.ndarray, np.ndarray]:
    """xyz (N, 3) float32 and pixels (N, 2) float64 of all points, from the files alone."""
    folder = (root / scan.path).parent.parent
    own, separate = folder / "calib.txt", root / "calib/dataset/sequences" / folder.name / "calib.txt"
    text = (separate if separate.exists() else own).read_text()
    rows = {line.split(":")[0]: np.array(line.split()[1:], float).reshape(3, 4) for line in text.splitlines()}
    matrix = rows["P2"] @ np.vstack([rows["Tr"], [0, 0, 0, 1]])
    xyz = np.fromfile(root / scan.path, np.float32).reshape(-1, 4)[:, :3]
    image = np.column_stack([xyz, np.ones(len(xyz))]) @ matrix.T
    return xyz, image[:, :2] / image[:, 2:]


def test_the_published_rule_to_the_pixel(real: Path, scans: list[ScanRecord]) -> None:
    counts = []
    for scan in scans:
        xyz, pixel = projected(real, scan)
        (image,) = scan.images
        inside = (pixel > 0).all(axis=1) & (pixel < (image.width - 1, image.height - 1)).all(axis=1)
        wanted = np.flatnonzero((xyz[:, 0] > 1.0) & inside)
        seen = see(READER.read_points(real, scan)[0], image, READER.traits.mask("published"))
        np.testing.assert_array_equal(seen.point, wanted)
        np.testing.assert_array_equal(np.floor(seen.pixel), np.floor(pixel[wanted]))
        counts.append(len(wanted))
    assert counts == COUNTS["published"]


def test_taking_p2_apart_moves_no_point_by_a_billionth_of_a_pixel(
    real: Path, scans: list[ScanRecord]
) -> None:
    """P2 · Tr is one matrix in the published code, a turn, a step and a pinhole here: rounding differs, no pixel does."""
    from pipeline.geometry.projection import pinhole, to_camera

    for scan in scans:
        xyz, pixel = projected(real, scan)
        (image,) = scan.images
        ahead = xyz[:, 0] > 1.0
        ours, depth = pinhole(to_camera(xyz[ahead], image.steps, "float64"), image.intrinsics)
        inside = ((pixel[ahead] > 0) & (pixel[ahead] < (image.width, image.height))).all(axis=1)
        assert np.abs(ours - pixel[ahead])[inside].max() < 1e-9
        assert depth[inside].min() > 0


def test_counts_of_the_strict_rule_and_of_the_whole_image(real: Path, scans: list[ScanRecord]) -> None:
    clouds = [READER.read_points(real, scan)[0] for scan in scans]
    strict = READER.traits.mask("strict")
    assert [
        len(see(xyz, scan.images[0], strict).point) for xyz, scan in zip(clouds, scans, strict=True)
    ] == COUNTS["strict"]
    whole = MaskRule(beyond=1.0, along="depth", first=0, last=0, arithmetic="float64")
    for rule in (whole, replace(whole, along="x")):
        found = [
            len(see(xyz, scan.images[0], rule).point) for xyz, scan in zip(clouds[:3], scans[:3], strict=True)
        ]
        assert found == WHOLE_IMAGE
