"""A reader for the layout of KITTI's object benchmark: velodyne/, image_2/ and a calib/ file for each frame; no labels.

    datasets:
      kitti:
        reader: examples/kitti_object.py:Reader
        root: /data/kitti/object/training

The lidar and the colour camera are those of SemanticKITTI, whose published normalisation and mask it takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

import griddle

KITTI = griddle.reader_named("semantic_kitti")


class Reader(griddle.Reader):
    """All frames as one sequence."""

    traits = griddle.Traits(
        reader="kitti_object",
        reader_version=1,
        frame=KITTI.traits.frame,
        cameras=("image_2",),
        intensity=KITTI.traits.intensity,
        intensity_range=KITTI.traits.intensity_range,
        reach=KITTI.traits.reach,
        published_mask=KITTI.traits.published_mask,
        point_bytes=16,
        typical=KITTI.traits.typical,
    )

    def partitions(self, root: Path, version: str) -> Iterator[griddle.PartitionRecord]:
        """One partition; KITTI's frames are drawn from many drives, so any run of them would do."""
        frames = [path.stem for path in griddle.files_in(root / "velodyne", "*.bin")]
        if not frames:
            raise griddle.BadInput(
                f"{root}/velodyne holds no .bin file; extract data_object_velodyne.zip there"
            )
        yield griddle.PartitionRecord("training", "train", tuple(self._scan(root, frame) for frame in frames))

    def read_points(self, root: Path, scan: griddle.ScanRecord) -> tuple[np.ndarray, np.ndarray]:
        return KITTI.read_points(root, scan)

    def _scan(self, root: Path, frame: str) -> griddle.ScanRecord:
        calibration = read_calibration(root / "calib" / f"{frame}.txt")
        projection = calibration["P2"].reshape(3, 4)
        rectify = calibration["R0_rect"].reshape(3, 3)
        to_reference = calibration["Tr_velo_to_cam"].reshape(3, 4)
        intrinsics = projection[:, :3]
        to_rectified = rectify @ to_reference  # what the odometry benchmark calls Tr
        # P2 = K [1 | t]: the colour camera stands beside the grey one, whose frame the rectified one is.
        aside = np.linalg.solve(intrinsics, projection[:, 3])
        steps = (
            griddle.RigidStep(
                tuple(to_rectified[:, :3].flatten().tolist()), tuple(to_rectified[:, 3].tolist())
            ),
            griddle.RigidStep((1.0, 0.0, 0.0, 0.0), tuple(aside.tolist())),
        )
        image = griddle.ImageRecord.of_file(
            root, f"image_2/{frame}.png", camera="image_2", intrinsics=intrinsics.flatten(), steps=steps
        )
        return griddle.ScanRecord.of_files(root, f"velodyne/{frame}.bin", name=frame, images=[image])


def read_calibration(path: Path) -> dict[str, np.ndarray]:
    """The matrices of a calibration file, flat, by name.

    Raises:
        BadInput: if the file is missing, or lacks one that is needed.
    """
    sizes = {"P2": 12, "R0_rect": 9, "Tr_velo_to_cam": 12}
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError as error:
        raise griddle.BadInput(f"{path} is missing; extract data_object_calib.zip") from error
    found = {}
    for line in lines:
        name, _, numbers = line.partition(":")
        found[name] = np.array(numbers.split(), float)
    for name, size in sizes.items():
        if name not in found or len(found[name]) != size:
            raise griddle.BadInput(
                f"{path} has no {name} of {size} numbers; it is cut short, download it again"
            )
    return found
