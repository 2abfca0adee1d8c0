"""What an index says of a dataset: partitions of scans, their files, images and calibration. Plain JSON both ways."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cache_schemas.canonical import digest


@dataclass(frozen=True)
class RigidStep:
    """One rigid motion on the way from the scan's frame to a camera's.

    Forward: rotate, then translate. Inverse: translate back, then rotate back.

    Attributes:
        rotation: quaternion w, x, y, z.
        translation: metres.
    """

    rotation: tuple[float, ...]
    translation: tuple[float, ...]
    inverse: bool = False


@dataclass(frozen=True)
class ImageRecord:
    """What one camera saw for one scan.

    Attributes:
        path: relative to the dataset's root.
        bytes: size of the file.
        height, width: pixels of the original image.
        intrinsics: 3 x 3, row by row, in pixels.
        steps: from the scan's frame to the camera's (x right, y down, z along the optical axis).
    """

    camera: str
    path: str
    bytes: int
    height: int
    width: int
    intrinsics: tuple[float, ...]
    steps: tuple[RigidStep, ...]


@dataclass(frozen=True)
class ScanRecord:
    """One lidar sweep.

    Attributes:
        name: the dataset's own name of it (for nuScenes the sample token).
        result_name: the name under which its official evaluation wants predictions.
        path, bytes: the lidar file, relative to the root, and its size.
        label_path, label_bytes: likewise, or None where there are no labels.
    """

    name: str
    result_name: str
    path: str
    bytes: int
    label_path: str | None
    label_bytes: int | None
    images: tuple[ImageRecord, ...]


@dataclass(frozen=True)
class PartitionRecord:
    """A run of scans that is written, replaced and lost as one.

    Attributes:
        split: train, val or test.
        problem: why it cannot be used, in words for the user, or None.
    """

    name: str
    split: str
    scans: tuple[ScanRecord, ...]
    problem: str | None = None

    @property
    def images(self) -> tuple[ImageRecord, ...]:
        """All images, scan by scan: the order of the views and of the feature store."""
        return tuple(image for scan in self.scans for image in scan.images)

    def member_digests(self) -> dict[str, str | None]:
        """For each store, a digest of only what it reads; None where there is nothing to read.

        Names are read, too: the stores list those of scans and images, and scans' names key random draws.
        """
        lidar = [[scan.name, scan.path, scan.bytes] for scan in self.scans]
        labels = [[scan.name, scan.label_path, scan.label_bytes] for scan in self.scans]
        geometry = [
            [scan.name, scan.path, scan.bytes]
            + [
                [i.camera, i.path, i.height, i.width, i.intrinsics, [asdict(s) for s in i.steps]]
                for i in scan.images
            ]
            for scan in self.scans
        ]
        images = [[image.path, image.bytes] for image in self.images]
        return {
            "scans": digest(lidar),
            "labels": digest(labels) if all(scan.label_path for scan in self.scans) else None,
            "views": digest(geometry) if images else None,
            "features": digest(images) if images else None,
        }


def to_json(partition: PartitionRecord) -> dict[str, Any]:
    return asdict(partition)


def from_json(value: dict[str, Any]) -> PartitionRecord:
    """The inverse of `to_json`."""

    def image(item: dict[str, Any]) -> ImageRecord:
        steps = tuple(
            RigidStep(tuple(s["rotation"]), tuple(s["translation"]), s["inverse"]) for s in item["steps"]
        )
        return ImageRecord(**{**item, "intrinsics": tuple(item["intrinsics"]), "steps": steps})

    def scan(item: dict[str, Any]) -> ScanRecord:
        return ScanRecord(**{**item, "images": tuple(image(i) for i in item["images"])})

    return PartitionRecord(**{**value, "scans": tuple(scan(s) for s in value["scans"])})
