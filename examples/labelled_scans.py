"""Readers for labelled scans that lie apart from their dataset, without images: to probe on, or to be evaluated on.

    datasets:
      keyframes:
        reader: examples/labelled_scans.py:Keyframes     # NN/points.bin and NN/ground.bin, as in nuScenes-lidarseg
        root: /data/keyframes

They take points, labels and classes from the package's readers, and only say which files there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

import griddle


class LabelledScans(griddle.Reader):
    """Scans in the file format of a reader of the package (`like`), in any layout of folders."""

    like: griddle.Reader
    points: str
    """A pattern of lidar files below the root; each has its labels beside it."""

    def partitions(self, root: Path, version: str) -> Iterator[griddle.PartitionRecord]:
        """All scans in one partition; the config's `splits` may cut it."""
        paths = griddle.files_in(root, self.points)
        if not paths:
            raise griddle.BadInput(f"{root} holds no {self.points}")
        scans = [
            griddle.ScanRecord.of_files(
                root,
                path.relative_to(root).as_posix(),
                name=self.name_of(path),
                label_path=self.labels_of(path).relative_to(root).as_posix(),
            )
            for path in paths
        ]
        yield griddle.PartitionRecord("all", "train", tuple(scans))

    def name_of(self, path: Path) -> str:
        """A scan's name, from its lidar file."""
        return path.stem

    def labels_of(self, path: Path) -> Path:
        """A scan's label file, from its lidar file."""
        return path.with_suffix(".label")

    def read_points(self, root: Path, scan: griddle.ScanRecord) -> tuple[np.ndarray, np.ndarray]:
        return self.like.read_points(root, scan)

    def read_labels(self, root: Path, scan: griddle.ScanRecord) -> np.ndarray:
        return self.like.read_labels(root, scan)


def traits_like(reader: griddle.Reader, name: str) -> griddle.Traits:
    """Of scans of a known lidar: everything but cameras."""
    known = reader.traits
    return griddle.Traits(
        reader=name,
        reader_version=1,
        frame=known.frame,
        classes=known.classes,
        label_map_version=known.label_map_version,
        intensity=known.intensity,
        intensity_range=known.intensity_range,
        reach=known.reach,
        point_bytes=known.point_bytes,
    )


class Keyframes(LabelledScans):
    """nuScenes keyframes, each in a folder of its own."""

    like = griddle.reader_named("nuscenes")
    traits = traits_like(like, "nuscenes_keyframes")
    points = "*/points.bin"

    def name_of(self, path: Path) -> str:
        return path.parent.name

    def labels_of(self, path: Path) -> Path:
        return path.with_name("ground.bin")


class KittiScans(LabelledScans):
    """SemanticKITTI scans with their labels beside them."""

    like = griddle.reader_named("semantic_kitti")
    traits = traits_like(like, "semantic_kitti_scans")
    points = "*.bin"
