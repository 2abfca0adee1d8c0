"""The index: what a dataset holds. It is made once, and kept as JSON beside a cue that says when to make it anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cache_schemas.canonical import digest, sealed
from cache_schemas.errors import BadInput
from cache_schemas.publish import write_json
from pipeline.common.log import log
from pipeline.config.model import Dataset
from pipeline.datasets.changed_files import Comparison, MadeOf
from pipeline.datasets.fence import reading
from pipeline.datasets.held import Held
from pipeline.datasets.index_files import read_sealed, read_summary, write_if_other
from pipeline.datasets.known_contents import KnownContents, locked
from pipeline.datasets.listing import unreachable_below, why_unreachable
from pipeline.datasets.reader import ABSENT
from pipeline.datasets.readers import reader_named, source_of
from pipeline.datasets.record_checks import natural
from pipeline.datasets.records import PartitionRecord, from_json, to_json
from pipeline.datasets.scan_names import Names, read_scan_names, write_scan_names

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


def _stamp(path: Path) -> list[int | str | None]:
    """Times and size of a file; of a folder the times alone: its size does not change when a file is added. The second time
    tells a folder that an archive gave its old time. For what is not there or cannot be reached, None and why: the reader says so,
    where it looks."""
    try:
        stat = path.stat()
    except OSError as error:
        return [None, *why_unreachable(path, error)]
    return [stat.st_mtime_ns, stat.st_ctime_ns, None if path.is_dir() else stat.st_size]


def make_index(
    workdir: Path, name: str, dataset: Dataset, *, force: bool = False, cache: Path | None = None
) -> tuple[Index, bool]:
    """The index of a dataset, made anew where its cue has changed; and whether it was.

    Args:
        force: make it anew in any case.
        cache: where stores may lie that were made of these files. Default: the workdir's.

    Raises:
        BadInput: if the root does not hold this version of the dataset, or none of its files.
    """
    folder = index_folder(workdir, name)
    with locked(folder):
        try:
            cue = make_cue(dataset)
        except BadInput as error:
            raise BadInput(f"datasets.{name}: {error}") from error
        before = sound_index(workdir, name)
        if before is not None and before.body["cue"] == cue and not force:
            return before, False
        if before is not None and _same_version_of_another_file(before.body["cue"], cue):
            log(
                f"index {name}: {dataset.reader} was changed, and its reader_version is still {cue['reader'][1]}: what the "
                f"file before read stays in use. Raise it if the same recordings are now read as other values"
            )
        _say_what_is_unreachable(name, dataset)
        cache = cache or workdir / "cache"
        known, made_of = KnownContents.load(folder, cache, name), MadeOf(cache, name)
        comparison = Comparison(name, Path(dataset.root), made_of, known)
        points_about = reader_named(dataset.reader).points_about
        held = Held(name, dataset)
        entries: list[dict[str, Any]] = []
        names: Names = {}
        for part in held:
            with reading(f"datasets.{name}: reader {dataset.reader}, partition {part.name}"):
                points = sum(map(points_about, part.scans))
            entries.append(_write_partition(folder, comparison.of(part), points))
            names[part.name] = part.scan_names
        entries.sort(key=lambda entry: natural(entry["name"]))  # lots rest on it: never a file system's order
        _check_splits(name, dataset, entries, held.left_out)
        if not entries:
            raise BadInput(
                f"dataset {name}: {dataset.root} has nothing to read: "
                f"{why_absent({entry.name: entry.why for entry in held.absent}) or 'no partition'}. Download or extract "
                f"what is missing."
            )
        comparison.say()
        known.save()
        write_scan_names(folder, [entry["file"] for entry in entries], names)
        body = {
            "griddle": KIND,
            "format": FORMAT,
            "dataset": name,
            "cue": cue,
            "partitions": entries,
            "absent": [asdict(entry) for entry in held.absent],
            "left_out": held.left_out,
            "copies": held.copies.originals(),
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


def _write_partition(folder: Path, partition: PartitionRecord, points: int) -> dict[str, Any]:
    record = to_json(partition)
    file = f"{partition.name}.{digest(record)}.json"
    write_if_other(folder / file, record)
    return {
        "name": partition.name,
        "split": partition.split,
        "scans": len(partition.scans),
        "images": len(partition.images),
        "points": points,
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
