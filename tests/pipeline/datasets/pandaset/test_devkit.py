"""Our reader beside pandaset-devkit, on a real recording. The devkit is not in the registry: where it is not installed
(README of github.com/scaleapi/pandaset-devkit), this is skipped and test_recording.py alone holds the reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.datasets.pandaset.classes import CLASS_OF_RAW
from pipeline.datasets.reader import Reader
from pipeline.datasets.readers import packaged
from pipeline.geometry.projection import see

pandaset = pytest.importorskip(
    "pandaset", reason="pandaset-devkit is needed; it is installed from its source repository"
)


@pytest.fixture(scope="module")
def sequence(samples: Path) -> Any:
    loaded = pandaset.DataSet(str(samples / "pandaset"))["002"]
    return loaded.load_lidar().load_camera().load_semseg()


@pytest.mark.parametrize(("name", "sensor"), [("pandaset64", 0), ("pandasetgt", 1)])
def test_the_devkit_gives_the_same(samples: Path, sequence: Any, name: str, sensor: int) -> None:
    from pandaset.geometry import lidar_points_to_ego

    root, reader = samples / "pandaset", packaged()[name]
    scans = _scans(reader, root)
    sequence.lidar.set_sensor(sensor)
    for place, scan in enumerate(scans):
        number = int(
            scan.name.split("/")[1]
        )  # the devkit's lists of poses have all frames, those of files four
        table = sequence.lidar[place]
        world = table[["x", "y", "z"]].to_numpy()
        ego = lidar_points_to_ego(world, sequence.lidar.poses[number])
        xyz, intensity = reader.read_points(root, scan)
        np.testing.assert_allclose(xyz + np.array([0, 0, 1.6]), ego, rtol=0, atol=2e-5)
        np.testing.assert_array_equal(intensity, table["i"])
        raw = sequence.semseg[place].loc[table.index, "class"].to_numpy()
        np.testing.assert_array_equal(reader.read_labels(root, scan), np.array(CLASS_OF_RAW)[raw])
        for image in scan.images:
            camera = sequence.camera[image.camera]
            pixel, _, point = pandaset.projection(
                world, camera[place], camera.poses[number], camera.intrinsics, filter_outliers=True
            )
            seen = see(xyz, image, reader.traits.mask("published"))
            np.testing.assert_array_equal(seen.point, point)
            near = seen.depth < 1  # where a hundredth of a millimetre is many pixels
            np.testing.assert_allclose(seen.pixel[~near], pixel[~near], rtol=0, atol=0.05)


def _scans(reader: Reader, root: Path) -> Any:
    (partition,) = reader.partitions(root, "")
    return partition.scans
