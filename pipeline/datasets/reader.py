"""The interface that every reader has, those of the package and a user's own: traits, partitions, points, labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cache_schemas.errors import BadInput
from pipeline.datasets.fence import ReaderMistake, name_of_class
from pipeline.datasets.listing import is_reachable
from pipeline.datasets.records import PartitionRecord, ScanRecord
from pipeline.geometry.calibration import STRICT, MaskRule

if TYPE_CHECKING:
    import numpy as np

Rule = Literal["published", "strict"]


@dataclass(frozen=True)
class Typical:
    """What a dataset's scans are like before any of its files is there: for estimates alone, in no id.

    Attributes:
        points: in one scan.
        partition_scans: in one partition.
        seen, kept, edge: as in `pipeline.plan.cost.shares.ViewShares`, at voxels of 10 cm and crops to 64 m around and 8 m up and
            down.
        whole: share of a whole scan's points that is left when one point of each voxel is kept, in that field of view.
    """

    points: int
    partition_scans: int
    seen: float
    kept: float
    edge: float
    whole: float = 0.5


@dataclass(frozen=True)
class Traits:
    """What is known of a dataset before any file is read. Ids hold its numbers.

    Attributes:
        reader, reader_version: raise the version when the meaning of what is read changes.
        frame: the frame of the points, in words.
        classes: names in order of their numbers; 255 is ignored. Empty where there are never labels.
        cameras: their names, in the published order. Empty where there are never images.
        label_map_version: raise it when the map from raw labels changes.
        intensity: mean and standard deviation that normalise the raw intensity; None where none are published:
            `griddle stats` measures them.
        published_mask: the rule of the dataset's published code.
        published_voxels: along whose axes the published code cuts voxels for pretraining: those of the scan, or those of
            the lidar file (`ScanRecord.steps` lead from the file's frame to the scan's).
        point_bytes: of a lidar file, for each point; for estimates alone, in no id.
        typical: what its scans are like, where that is known; for estimates alone, in no id.
        named_splits: choices of splits beside the dataset's own, which `Reader.named_split` knows by name.
        intensity_range: least and greatest raw intensity that there is; None where it is not known. For checks alone, in no id.
        reach: metres from the sensor beyond which it measures nothing; None where it is not known: then 1,000. For checks
            alone, in no id.
    """

    reader: str
    reader_version: int
    frame: str
    classes: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    label_map_version: int = 1
    intensity: tuple[float, float] | None = None
    published_mask: MaskRule = STRICT
    published_voxels: Literal["scan", "file"] = "scan"
    point_bytes: float = 16
    typical: Typical | None = None
    named_splits: tuple[str, ...] = ()
    intensity_range: tuple[float, float] | None = None
    reach: float | None = None

    def mask(self, choice: Rule) -> MaskRule:
        return {"published": self.published_mask, "strict": STRICT}[choice]

    def voxels(self, choice: Rule) -> str:
        """Whose axes voxels lie along in pretraining: `scan` or `file`."""
        return {"published": self.published_voxels, "strict": "scan"}[choice]


class Reader(ABC):
    """One dataset's reader. Importing it must be cheap; a devkit is imported inside `partitions` alone.

    `docs/your-dataset.md` shows how to write one of your own.
    """

    traits: Traits
    official_unit = "partition"
    """What the dataset calls a recording of `official_scans`, in messages."""

    def check(self, root: Path, version: str) -> None:
        """Raise BadInput, in words for the user, unless `root` holds this version of the dataset."""
        if not is_reachable(root) or not root.is_dir():
            raise BadInput(f"{root} does not exist or is no folder; it should hold {self.traits.reader}.")

    def cue(self, root: Path, version: str) -> list[Path]:
        """The tables (files) and folders of recordings whose change means that the index is to be made anew.

        Here: all folders below the root, and the links that lead nowhere.
        """
        paths = (root, *root.rglob("*"))
        return sorted(path for path in paths if path.is_dir() or (path.is_symlink() and not path.exists()))

    @abstractmethod
    def partitions(self, root: Path, version: str) -> Iterator[PartitionRecord | AbsentPartition]:
        """All partitions in the dataset's own order, whole, broken (`problem`) or absent."""

    def points_about(self, scan: ScanRecord) -> int:
        """About how many points a scan has, by the size of its file; for estimates alone, in no id."""
        return round(scan.bytes / self.traits.point_bytes)

    def named_split(self, choice: str, partition: str, split: str) -> str | None:
        """Under one of the traits' `named_splits` the split of a partition that is officially in `split`; None: in none."""
        raise BadInput(f"{self.traits.reader} has no splits called {choice!r}")

    def official_scans(self, version: str, split: str) -> Mapping[str, int]:
        """How many scans each recording of an official split has, where files that are not there leave no trace in the index.

        Empty where the dataset's tables name all there is. `recording_of` says which partitions are of a recording.
        """
        return {}

    def recording_of(self, partition: str) -> str:
        """The recording, as `official_scans` names it, of a partition."""
        return partition

    @abstractmethod
    def read_points(self, root: Path, scan: ScanRecord) -> tuple[np.ndarray, np.ndarray]:
        """xyz (N, 3) float32 in metres, in the frame that the traits name, and intensity (N,) float32 as recorded.

        Raises:
            BadInput: naming the file, for a size that does not fit, or values that are not finite.
        """

    def read_labels(self, root: Path, scan: ScanRecord) -> np.ndarray:
        """Classes (N,) uint8, 255 ignored.

        Raises:
            BadInput: naming the file, for a raw class that is not in the dataset's table.
            ReaderMistake: if a class names label files and has no such method.
        """
        raise ReaderMistake(
            f"{name_of_class(type(self))} has no read_labels, but its scans name label files. Mend the reader: no file is at "
            f"fault."
        )

    def write_results(
        self, folder: Path, version: str, split: str, predictions: Iterable[tuple[str, np.ndarray]]
    ) -> int:
        """Write predictions as the dataset's official evaluation wants them; returns of how many scans.

        predictions: of each scan its `result_name`, and its points' classes (N,) integers, in file order.

        Raises:
            BadInput: if the dataset has no official format.
        """
        raise BadInput(f"{self.traits.reader} has no official format of predictions; leave out --out")


ABSENT = "without any file"


@dataclass(frozen=True)
class AbsentPartition:
    """A partition that the dataset's tables name, but that has no file here, or is left out for another reason.

    Attributes:
        why: the reason, as in "3 partition(s) {why}".
    """

    name: str
    split: str
    scans: int
    why: str = ABSENT
