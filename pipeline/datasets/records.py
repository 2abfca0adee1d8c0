"""What an index holds of a dataset: partitions of scans, their files, images and calibration. From JSON and to JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cache_schemas.access import open_regular
from cache_schemas.canonical import digest
from cache_schemas.errors import BadInput
from pipeline.datasets.files import check_pixels, size_of
from pipeline.geometry.calibration import RigidStep, plain_numbers


@dataclass(frozen=True)
class ImageRecord:
    """What one camera saw for one scan.

    Attributes:
        path: relative to the dataset's root.
        bytes: size of the file.
        height, width: pixels of the original image.
        intrinsics: 3 x 3, row by row, in pixels.
        steps: from the scan's frame to the camera's (x right, y down, z along the optical axis).
        content: what the file holds (a digest), where that is not what an earlier store was made of; else None.
        time: s, on the clock of the scan's; None where it is not known. For checks alone, in no id.
    """

    camera: str
    path: str
    bytes: int
    height: int
    width: int
    intrinsics: tuple[float, ...]
    steps: tuple[RigidStep, ...]
    content: str | None = None
    time: float | None = None

    @classmethod
    def of_file(
        cls,
        root: Path,
        path: str,
        *,
        camera: str,
        intrinsics: Iterable[float] | Iterable[Iterable[float]],
        steps: tuple[RigidStep, ...],
        time: float | None = None,
    ) -> ImageRecord:
        """The record of an image file: its size in bytes, and in pixels from its header.

        intrinsics: 3 x 3 as an array or nested lists, or 9 numbers row by row.

        Raises:
            BadInput: if it is missing, no image, or one of too many pixels.
        """
        from PIL import Image

        size = size_of(root / path)
        try:
            with open_regular(root / path) as file, Image.open(file) as image:
                width, height = image.size
        except Exception as error:  # Pillow raises nearly anything for what is no image
            raise BadInput(
                f"{root / path} cannot be read as an image ({error}); download it again"
            ) from error
        check_pixels(root / path, height, width)
        numbers = tuple(float(number) for number in plain_numbers(intrinsics))
        return cls(camera, path, size, height, width, numbers, steps, time=time)


@dataclass(frozen=True)
class ScanRecord:
    """One lidar sweep.

    Attributes:
        name: the dataset's own name of it (for nuScenes the sample token).
        result_name: the name under which its official evaluation wants predictions.
        path, bytes: the lidar file, relative to the root, and its size.
        label_path, label_bytes: likewise, or None where there are no labels.
        steps: from the frame of the lidar file to the scan's, where they differ (PandaSet records in the world's).
        content, label_content: as of images, of the lidar and the label file.
        time: s, on any clock; None where it is not known. For checks alone, in no id.
    """

    name: str
    result_name: str
    path: str
    bytes: int
    label_path: str | None
    label_bytes: int | None
    images: tuple[ImageRecord, ...]
    steps: tuple[RigidStep, ...] = ()
    content: str | None = None
    label_content: str | None = None
    time: float | None = None

    @classmethod
    def of_files(
        cls,
        root: Path,
        path: str,
        *,
        name: str,
        label_path: str | None = None,
        images: Iterable[ImageRecord] = (),
        steps: tuple[RigidStep, ...] = (),
        result_name: str | None = None,
        time: float | None = None,
    ) -> ScanRecord:
        """The record of a lidar file, and of its label file if one is named, with their sizes; paths below `root`.

        Raises:
            BadInput: if one is missing.
        """
        return cls(
            name=name,
            result_name=result_name or name,
            path=path,
            bytes=size_of(root / path),
            label_path=label_path,
            label_bytes=size_of(root / label_path) if label_path else None,
            images=tuple(images),
            steps=steps,
            time=time,
        )


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

    @property
    def scan_names(self) -> list[str]:
        """The names of all scans, in order."""
        return [scan.name for scan in self.scans]

    def member_digests(self) -> dict[str, str | None]:
        """For each store, a digest of only what it reads; None where there is nothing to read.

        Names are read, too: the stores list those of scans and images, and scans' names key random draws. Content is in it
        only where it is known to have changed: what was made of a file first keeps its digest.
        """
        lidar = [
            [scan.name, scan.path, scan.bytes, *_poses(scan.steps), *_changed(scan.content)]
            for scan in self.scans
        ]
        labels = [
            [
                scan.name,
                scan.label_path,
                scan.label_bytes,
                *_changed(scan.label_content),
                *_changed(scan.content),
            ]
            for scan in self.scans  # labels go with points: of PandaSet the lidar file says which of them are the sensor's
        ]
        geometry = [
            [scan.name, scan.path, scan.bytes, *_poses(scan.steps), *_changed(scan.content)]
            + [[i.camera, i.path, i.height, i.width, i.intrinsics, _poses(i.steps)] for i in scan.images]
            for scan in self.scans
        ]
        images = [[image.path, image.bytes, *_changed(image.content)] for image in self.images]
        return {
            "scans": digest(lidar),
            "labels": digest(labels) if all(scan.label_path for scan in self.scans) else None,
            "views": digest(geometry) if images else None,
            "features": digest(images) if images else None,
        }


def _poses(steps: tuple[RigidStep, ...]) -> list[dict[str, Any]]:
    """As JSON; written out, for `asdict` takes most of the time of an index."""
    return [
        {"rotation": step.rotation, "translation": step.translation, "inverse": step.inverse}
        for step in steps
    ]


def _changed(content: str | None) -> list[dict[str, str]]:
    return [] if content is None else [{"content": content}]


def to_json(partition: PartitionRecord) -> dict[str, Any]:
    """As JSON; contents stand in it where they are known to have changed."""
    return asdict(partition, dict_factory=_without_unknown_contents)


def _without_unknown_contents(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in items if value is not None or not name.endswith("content")}


def from_json(value: dict[str, Any]) -> PartitionRecord:
    """The inverse of `to_json`."""

    def steps(items: list[dict[str, Any]]) -> tuple[RigidStep, ...]:
        return tuple(RigidStep(tuple(s["rotation"]), tuple(s["translation"]), s["inverse"]) for s in items)

    def image(item: dict[str, Any]) -> ImageRecord:
        return ImageRecord(**{**item, "intrinsics": tuple(item["intrinsics"]), "steps": steps(item["steps"])})

    def scan(item: dict[str, Any]) -> ScanRecord:
        images = tuple(image(i) for i in item["images"])
        return ScanRecord(**{**item, "images": images, "steps": steps(item["steps"])})

    return PartitionRecord(**{**value, "scans": tuple(scan(s) for s in value["scans"])})
