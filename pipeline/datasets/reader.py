"""What a dataset must say of itself, and where the readers are found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline.datasets.records import PartitionRecord, ScanRecord

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class MaskRule:
    """Which points a camera sees: depth > min_depth, first < u < width - last, first < v < height - last.

    Attributes:
        min_depth: metres along the optical axis.
        first: pixels left out at the left and the upper side.
        last: pixels left out at the right and the lower side.
        arithmetic: `float64`, or `float32` where the published code keeps points in float32 between the steps of
            the projection.
    """

    min_depth: float
    first: int
    last: int
    arithmetic: str


STRICT = MaskRule(min_depth=1.0, first=1, last=1, arithmetic="float64")
"""One rule for all datasets; the border is that of the nuScenes devkit's `map_pointcloud_to_image`."""


@dataclass(frozen=True)
class Traits:
    """What is known of a dataset before any file is read. Its numbers are part of ids.

    Attributes:
        reader, reader_version: raise the version when the meaning of what is read changes.
        frame: the frame of the points, in words.
        cameras: their names, in the published order.
        classes: names in order of their numbers; 255 is ignored.
        label_map_version: raise it when the map from raw labels changes.
        intensity: mean and standard deviation that normalise the raw intensity.
        published_mask: the rule of the dataset's published code.
        point_bytes: of a lidar file, for each point; for estimates alone, in no id.
    """

    reader: str
    reader_version: int
    frame: str
    cameras: tuple[str, ...]
    classes: tuple[str, ...]
    label_map_version: int
    intensity: tuple[float, float]
    published_mask: MaskRule
    point_bytes: float

    def mask(self, choice: str) -> MaskRule:
        return {"published": self.published_mask, "strict": STRICT}[choice]


class Reader(Protocol):
    """One dataset's reader. Importing it must be cheap; a devkit is imported inside `partitions` alone."""

    traits: Traits

    def check(self, root: Path, version: str) -> None:
        """Raise BadInput, in words for the user, unless `root` holds this version of the dataset."""

    def cue(self, root: Path, version: str) -> list[Path]:
        """The tables (files) and folders of recordings whose change means that the index is to be made anew."""

    def partitions(self, root: Path, version: str) -> Iterator[PartitionRecord | AbsentPartition]:
        """All partitions in the dataset's own order, whole, broken (`problem`) or absent."""

    def read_points(self, root: Path, scan: ScanRecord) -> tuple[np.ndarray, np.ndarray]:
        """xyz (N, 3) float32 in metres and intensity (N,) float32 as recorded.

        Raises:
            BadInput: naming the file, for a size that does not fit, or values that are not finite.
        """

    def read_labels(self, root: Path, scan: ScanRecord) -> np.ndarray:
        """Classes (N,) uint8, 255 ignored.

        Raises:
            BadInput: naming the file, for a raw class that is not in the dataset's table.
        """


@dataclass(frozen=True)
class AbsentPartition:
    """A partition that the dataset's tables name but none of whose files are there."""

    name: str
    split: str
    scans: int


def reader_named(name: str) -> Reader:
    """The reader of `pipeline/datasets/<name>/`."""
    module = import_module(f"pipeline.datasets.{name}.reader")
    return module.READER
