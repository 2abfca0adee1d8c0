"""On how much of a split a number stands: the partitions and scans of the whole split, those that are read, and why others
are not.

The whole split is what the dataset's tables name, or what is officially in it where the files alone cannot tell. No torch,
no zarr.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from cache_schemas.errors import BadInput
from pipeline.config.model import Dataset
from pipeline.datasets.index import Index
from pipeline.datasets.reader import ABSENT, Reader
from pipeline.datasets.readers import reader_named
from pipeline.datasets.splits import split_of_absent
from pipeline.plan.experiment import Experiment
from pipeline.plan.labelled import LabelledReading
from pipeline.plan.selection import is_chosen

SHOWN = 3
UNREADABLE = "that could not be read"
UNSEEN = "that could not be read, or that no camera sees"


@dataclass(frozen=True)
class Lacking:
    """Scans of a split that a number does not stand on: a whole partition, or (`name` empty) some of several."""

    name: str
    scans: int
    why: str


@dataclass(frozen=True)
class SplitShare:
    """How much of one split of one dataset is read.

    Attributes:
        partitions, scans: how many are read, and how many the whole split has.
    """

    dataset: str
    split: str
    partitions: tuple[int, int]
    scans: tuple[int, int]
    lacking: tuple[Lacking, ...]

    @property
    def is_whole(self) -> bool:
        return self.scans[0] == self.scans[1]

    def with_scans(self, count: int) -> SplitShare:
        """The same, where of the partitions that are read only so many scans are."""
        (read, whole), lost = self.scans, self.scans[0] - count
        if not lost:
            return self
        lacking = (*self.lacking, Lacking("", lost, UNREADABLE))
        return replace(self, scans=(read - lost, whole), lacking=lacking)

    def recorded(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def split_share(
    experiment: Experiment,
    dataset: str,
    split: str,
    read: Collection[str],
    scans: int | None = None,
    *,
    images: bool = False,
    cached: Mapping[str, int] | None = None,
) -> SplitShare:
    """What of a split is read.

    Args:
        read: the names of the partitions.
        scans: how many of theirs; None: all of them.
        images: whether only what cameras see is read.
        cached: more partitions that are read, with their scans: they are in the cache and no longer in the dataset.
    """
    why, why_scans = ("without labels or images", UNSEEN) if images else ("without labels", UNREADABLE)
    config, index = experiment.config.datasets[dataset], experiment.indices[dataset]
    reader = reader_named(config.reader)
    entries = [entry for entry in index.partitions if entry.split == split]
    lacking = [
        Lacking(entry.name, entry.scans, why if is_chosen(config, entry.name) else "left out by the config")
        for entry in entries
        if entry.name not in read
    ]
    cached = cached or {}
    lacking += [part for part in _absent(reader, config, index, split) if part.name not in cached]
    lacking += _beyond_the_files(reader, config, split, index, cached)
    whole = sum(entry.scans for entry in entries if entry.name in read) + sum(cached.values())
    counted = whole if scans is None else scans
    if counted < whole:
        lacking.append(Lacking("", whole - counted, why_scans))
    used = sum(entry.name in read for entry in entries) + len(cached)
    return SplitShare(
        dataset,
        split,
        (used, used + sum(bool(part.name) for part in lacking)),
        (counted, counted + sum(part.scans for part in lacking)),
        tuple(lacking),
    )


def shares_of(
    experiment: Experiment,
    readings: Iterable[LabelledReading],
    scans: Mapping[str, int],
    *,
    images: bool = False,
) -> tuple[SplitShare, ...]:
    """Of each dataset and split of some readings. scans: how many are scored, by dataset. images: as of `split_share`."""
    read: dict[tuple[str, str], set[str]] = {}
    for reading in readings:
        read.setdefault((reading.dataset, reading.split), set()).add(reading.partition)
    return tuple(
        split_share(experiment, dataset, split, names, scans.get(dataset, 0), images=images)
        for (dataset, split), names in read.items()
    )


def check_whole(share: SplitShare) -> None:
    """Raise BadInput unless an official submission would hold every scan of the split."""
    if share.is_whole:
        return
    raise BadInput(
        f"the official evaluation wants predictions of every scan of a split. {share_line(share.recorded())}.\n"
        f"Put the files there and run `griddle index` and this again, or give --partial to write what can be written."
    )


def share_line(recorded: Mapping[str, Any]) -> str:
    """In words, from what is recorded: `toy val: 1 of 2 partitions, 2 of 4 scans; 1 without any file: scene-0002`."""
    (used, partitions), (counted, scans) = recorded["partitions"], recorded["scans"]
    line = (
        f"{recorded['dataset']} {recorded['split']}: {used:,} of {partitions:,} partition(s), "
        f"{counted:,} of {scans:,} scan(s)"
    )
    reasons: dict[str, list[Mapping[str, Any]]] = {}
    for part in recorded["lacking"]:
        reasons.setdefault(part["why"], []).append(part)
    for why, parts in reasons.items():
        names = [part["name"] for part in parts if part["name"]]
        count = f"{len(names)} partition(s)" if names else f"{sum(part['scans'] for part in parts)} scan(s)"
        shown = f": {', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''}" if names else ""
        line += f"; {count} {why}{shown}"
    return line


def _absent(reader: Reader, config: Dataset, index: Index, split: str) -> list[Lacking]:
    """The partitions that the tables name, and that the index left out."""
    return [
        Lacking(part["name"], part.get("scans", 0), part.get("why", ABSENT))
        for part in index.body["absent"]
        if split_of_absent(reader, config.splits, part["name"], part.get("split", "")) == split
    ]


def _beyond_the_files(
    reader: Reader, config: Dataset, split: str, index: Index, cached: Mapping[str, int]
) -> list[Lacking]:
    """What is officially in a split, and of which no file says that it exists. Splits of the user's own have nothing official."""
    if config.splits is not None:
        return []
    known: dict[str, int] = {}
    parts = {part["name"]: part.get("scans", 0) for part in index.body["absent"]}
    parts |= {entry.name: entry.scans for entry in index.partitions} | dict(cached)
    for name, scans in parts.items():
        recording = reader.recording_of(name)
        known[recording] = known.get(recording, 0) + scans
    official = reader.official_scans(config.version, split)
    return [
        Lacking(name, scans - known.get(name, 0), "not there, or cut short")
        for name, scans in official.items()
        if known.get(name, 0) < scans
    ]
