"""The index: what a dataset holds. It is made once, and kept as JSON beside a cue that says when to make it anew."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cache_schemas.canonical import digest, sealed
from cache_schemas.errors import BadInput
from cache_schemas.publish import write_json
from pipeline.common.log import log
from pipeline.config.model import Dataset
from pipeline.datasets.copies import Copies
from pipeline.datasets.fence import fenced, reading, shown
from pipeline.datasets.index_files import read_sealed, read_summary, write_if_other
from pipeline.datasets.listing import unreachable_below
from pipeline.datasets.reader import ABSENT, AbsentPartition
from pipeline.datasets.readers import reader_named, source_of
from pipeline.datasets.record_checks import check_names, check_partition, natural
from pipeline.datasets.records import PartitionRecord, ScanRecord, from_json, to_json
from pipeline.datasets.scan_names import Names, read_scan_names, write_scan_names
from pipeline.datasets.splits import full_name, named_split, resplit

KIND = "griddle index"
FORMAT = 3


@dataclass(frozen=True)
class PartitionEntry:
    """A partition as the summary lists it; `load_partition` reads the rest.

    Attributes:
        members: each store's member digest, or None where the partition has nothing for it.
        points: of all its scans, about; for estimates alone.
    """

    name: str
    split: str
    scans: int
    images: int
    points: int
    members: dict[str, str | None]
    file: str
    problem: str | None


@dataclass(frozen=True)
class Index:
    """One dataset's index, as read from its folder."""

    folder: Path
    body: dict[str, Any]

    @cached_property
    def partitions(self) -> list[PartitionEntry]:
        return [PartitionEntry(**entry) for entry in self.body["partitions"]]

    @property
    def absent(self) -> dict[str, str]:
        """Partitions that the tables name but that are left out, and why: for instance `without any file`."""
        return {entry["name"]: entry.get("why", ABSENT) for entry in self.body["absent"]}

    @property
    def left_out(self) -> list[str]:
        """PARTITION/SCAN of the scans that no pattern of the config's `splits` names."""
        return self.body["left_out"]

    @property
    def copies(self) -> dict[str, str]:
        """Partitions that hold the same lidar files as another, and which; an index of before does not say."""
        return self.body.get("copies", {})

    def scan_names(self) -> Names:
        """For each partition the names of its scans, in order, without its record."""
        return read_scan_names(self.folder, [entry.file for entry in self.partitions])

    def load_partition(self, entry: PartitionEntry) -> PartitionRecord:
        """The whole record of a partition: scans, images, calibration.

        Raises:
            BadInput: if it is not the one that was written: its name holds its digest.
        """
        return from_json(read_sealed(self.folder / entry.file))


def index_folder(workdir: Path, name: str) -> Path:
    return workdir / "index" / name


def read_index(workdir: Path, name: str) -> Index | None:
    """The index on disk, fresh or not, or None if there is none, or one of another format.

    Raises:
        BadInput: if it is not the one that was written.
    """
    path = index_folder(workdir, name) / "index.json"
    body = read_summary(path)
    if body is None or body.get("griddle") != KIND or body.get("format") != FORMAT:
        return None
    return Index(path.parent, body)


def is_fresh(index: Index | None, dataset: Dataset) -> bool:
    """Whether the cue (names, sizes and times of tables, times of folders) is the one that was indexed."""
    return index is not None and index.body["cue"] == make_cue(dataset)


def make_cue(dataset: Dataset) -> dict[str, Any]:
    """When this changes, the index is made anew. It enters no id.

    Raises:
        BadInput: if the root does not hold this version of the dataset.
    """
    reader = reader_named(dataset.reader)
    root = Path(dataset.root)
    with reading(f"reader {dataset.reader}, at {root}"):
        reader.check(root, dataset.version)
        seen = [[str(path.relative_to(root)), *_stamp(path)] for path in reader.cue(root, dataset.version)]
    source = source_of(dataset.reader)
    return {
        "root": str(root.resolve()),
        "reader": [reader.traits.reader, reader.traits.reader_version],
        "version": dataset.version,
        "splits": dataset.splits,
        "source": _stamp(source) if source else None,
        "seen": seen,
    }


def _stamp(path: Path) -> list[int | None]:
    """Time and size of a file; of a folder the time alone: its size does not change when a file is added. None for what is
    not there or cannot be reached: the reader says so, where it looks."""
    try:
        stat = path.stat()
    except OSError:
        return [None]
    return [stat.st_mtime_ns, None if path.is_dir() else stat.st_size]


def make_index(workdir: Path, name: str, dataset: Dataset, *, force: bool = False) -> tuple[Index, bool]:
    """The index of a dataset, made anew where its cue has changed; and whether it was.

    Raises:
        BadInput: if the root does not hold this version of the dataset, or none of its files.
    """
    folder = index_folder(workdir, name)
    with _locked(folder):
        try:
            cue = make_cue(dataset)
        except BadInput as error:
            raise BadInput(f"datasets.{name}: {error}") from error
        known = sound_index(workdir, name)
        if known is not None and known.body["cue"] == cue and not force:
            return known, False
        if known is not None and _same_version_of_another_file(known.body["cue"], cue):
            log(
                f"index {name}: {dataset.reader} was changed, and its reader_version is still {cue['reader'][1]}: what the "
                f"file before read stays in use. Raise it if the same recordings are now read as other values"
            )
        reader = reader_named(dataset.reader)
        _say_what_is_unreachable(name, dataset)
        entries: list[dict[str, Any]] = []
        absent: list[AbsentPartition] = []
        left_out: list[str] = []
        names: Names = {}
        copies = Copies(Path(dataset.root))
        for partition in _partitions(name, dataset):
            if isinstance(partition, AbsentPartition):
                absent.append(partition)
                continue
            copies.add(partition)
            if isinstance(dataset.splits, str):
                with reading(f"datasets.{name}: reader {dataset.reader}, partition {partition.name}"):
                    parts, unnamed = named_split(reader, dataset.splits, partition)
            else:
                parts, unnamed = resplit(partition, dataset.splits)
            with reading(f"datasets.{name}: reader {dataset.reader}, partition {partition.name}"):
                entries += [_write_partition(folder, part, reader.points_about) for part in parts]
            names |= {part.name: part.scan_names for part in parts}
            left_out += [full_name(partition.name, scan) for scan in unnamed]
        entries.sort(key=lambda entry: natural(entry["name"]))  # lots rest on it: never a file system's order
        _check_splits(name, dataset, entries, left_out)
        if not entries:
            raise BadInput(
                f"dataset {name}: {dataset.root} has nothing to read: "
                f"{why_absent({entry.name: entry.why for entry in absent}) or 'no partition'}. Download or extract what "
                f"is missing."
            )
        write_scan_names(folder, [entry["file"] for entry in entries], names)
        body = {
            "griddle": KIND,
            "format": FORMAT,
            "dataset": name,
            "cue": cue,
            "partitions": entries,
            "absent": [asdict(entry) for entry in absent],
            "left_out": left_out,
            "copies": copies.originals(),
        }
        write_json(folder / "index.json", sealed(body))
    index = read_index(workdir, name)
    assert index is not None
    return index, True


def _say_what_is_unreachable(name: str, dataset: Dataset) -> None:
    """A user's own reader may list folders in its own way, to which these look empty."""
    if source_of(dataset.reader) is None:
        return
    refused = unreachable_below(Path(dataset.root))
    if refused:
        log(
            f"index {name}: {len(refused)} path(s) below {dataset.root} are links that lead nowhere or cannot be listed: "
            f"{', '.join(refused[:3])}{' ...' if len(refused) > 3 else ''}. To {dataset.reader} they may look empty; list folders "
            f"with griddle.files_in, which refuses them"
        )


def sound_index(workdir: Path, name: str) -> Index | None:
    """The index on disk; None where there is none, or a damaged one: it is made anew."""
    try:
        return read_index(workdir, name)
    except BadInput as error:
        log(f"index {name}: {str(error).splitlines()[0]} It is made anew")
        return None


def _same_version_of_another_file(known: dict[str, Any], cue: dict[str, Any]) -> bool:
    """Whether a user's own reader was edited without a new version. What was read before the edit stays valid."""
    return bool(
        cue["source"]
        and known["source"]
        and known["source"] != cue["source"]
        and known["reader"] == cue["reader"]
    )


def _partitions(name: str, dataset: Dataset) -> Iterator[PartitionRecord | AbsentPartition]:
    """What the reader gives, checked: it may be a user's own, and wrong."""
    reader = reader_named(dataset.reader)
    seen: set[str] = set()
    scans: set[str] = set()
    what = f"datasets.{name}: reader {dataset.reader}, reading {dataset.root}"
    for partition in fenced(reader.partitions(Path(dataset.root), dataset.version), what):
        try:
            check_partition(partition, reader.traits, seen)
            if isinstance(partition, PartitionRecord):
                check_names(partition, scans)
        except ValueError as error:
            raise BadInput(f"datasets.{name}: reader {dataset.reader}: {error}") from error
        except (TypeError, AttributeError) as error:  # values of other types than the records name
            raise BadInput(
                f"datasets.{name}: reader {dataset.reader}: partition {partition.name!r:.100}: {shown(error)}"
            ) from error
        yield partition


def _check_splits(name: str, dataset: Dataset, entries: list[dict[str, Any]], left_out: list[str]) -> None:
    if dataset.splits is None or isinstance(dataset.splits, str):
        return
    for split in dataset.splits:
        if not any(entry["split"] == split for entry in entries):
            some = [entry["name"] for entry in entries[:3]] + left_out[:3]
            raise BadInput(
                f"datasets.{name}.splits.{split}: none of {dataset.splits[split]} names a scan that is there; there are "
                f"{', '.join(some) or 'none'}, ..."
            )


def _write_partition(
    folder: Path, partition: PartitionRecord, points_about: Callable[[ScanRecord], int]
) -> dict[str, Any]:
    record = to_json(partition)
    file = f"{partition.name}.{digest(record)}.json"
    write_if_other(folder / file, record)
    return {
        "name": partition.name,
        "split": partition.split,
        "scans": len(partition.scans),
        "images": len(partition.images),
        "points": sum(map(points_about, partition.scans)),
        "members": partition.member_digests(),
        "file": file,
        "problem": partition.problem,
    }


def why_absent(absent: Mapping[str, str]) -> str:
    """How many partitions are left out, reason by reason: `3 partition(s) without any file: 001, 002, 003`.

    Args:
        absent: for each partition's name why it is.
    """
    names: dict[str, list[str]] = {}
    for name, why in absent.items():
        names.setdefault(why, []).append(name)
    return "; ".join(
        f"{len(absentees)} partition(s) {why}: {', '.join(absentees[:5])}{' ...' if len(absentees) > 5 else ''}"
        for why, absentees in names.items()
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """A context that one process at a time enters; the lock ends with its process."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
