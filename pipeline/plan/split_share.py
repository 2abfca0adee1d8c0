"""On how much of a split a number stands: the partitions and scans of the whole split, those that are read, and why others
are not.

The whole split is what the dataset's tables name, or what is officially in it where the files alone cannot tell. There the
official recordings are counted, each once, and not the partitions that they are cut into. No torch, no zarr.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline.config.model import Dataset
from pipeline.datasets.index import Index
from pipeline.datasets.reader import ABSENT, Reader
from pipeline.datasets.readers import reader_named
from pipeline.datasets.splits import split_of_absent
from pipeline.plan.experiment import Experiment
from pipeline.plan.labelled import LabelledReading

SHOWN = 3
UNREADABLE = "that could not be read"
UNSEEN = "that could not be read, or that no camera sees"
LEFT_OUT = "left out by the config"
NOT_THERE = "not there"
CUT_SHORT = "cut short"
PARTITION = "partition"


@dataclass(frozen=True)
class Lacking:
    """Scans of a split that a number does not stand on: of a partition or a recording, or (`name` empty) some of several.

    Attributes:
        scans: how many are lacking.
        whole: how many the partition or the recording has; 0 where `name` is empty.
    """

    name: str
    scans: int
    why: str
    whole: int = 0


@dataclass(frozen=True)
class SplitShare:
    """How much of one split of one dataset is read.

    Attributes:
        unit: what `partitions` counts: partitions, or the official recordings as the dataset calls them (`sequence`).
        partitions, scans: how many are read, and how many the whole split has. What is read in part is read.
    """

    dataset: str
    split: str
    partitions: tuple[int, int]
    scans: tuple[int, int]
    lacking: tuple[Lacking, ...]
    unit: str = PARTITION

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
    used = {entry.name: entry.scans for entry in entries if entry.name in read} | dict(cached or {})
    lacking = [
        Lacking(entry.name, entry.scans, why if config.uses(entry.name) else LEFT_OUT, entry.scans)
        for entry in entries
        if entry.name not in used
    ]
    lacking += [part for part in _absent(reader, config, index, split) if part.name not in used]
    # Splits of the user's own have nothing official.
    official = reader.official_scans(config.version, split) if config.splits is None else {}
    unit = PARTITION
    if official:
        unit = reader.official_unit
        used = _by_recording(reader, used)
        lacking = _of_recordings(reader, official, used, lacking)
    whole = sum(used.values())
    counted = whole if scans is None else scans
    if counted < whole:
        lacking.append(Lacking("", whole - counted, why_scans))
    names = used.keys() | {part.name for part in lacking if part.name}
    return SplitShare(
        dataset,
        split,
        (len(used), len(names)),
        (counted, counted + sum(part.scans for part in lacking)),
        tuple(lacking),
        unit,
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


def share_line(recorded: Mapping[str, Any]) -> str:
    """In words, from what is recorded: `toy val: 1 of 2 partitions, 2 of 4 scans; 1 partition without any file: scene-0002`,
    or `kitti val: 3 of 4,071 scans; sequence 08 is cut short (3 of 4,071)`.

    Shares of before `unit` was recorded may count a recording twice; theirs are shown without the count of partitions.
    """
    (used, partitions), (counted, scans) = recorded["partitions"], recorded["scans"]
    unit = recorded.get("unit", PARTITION)
    miscounted = "unit" not in recorded and any(CUT_SHORT in part["why"] for part in recorded["lacking"])
    parts = (
        f"{used:,} of {counted_in_words(partitions, unit)}, " if used < partitions and not miscounted else ""
    )
    line = (
        f"{recorded['dataset']} {recorded['split']}: {parts}{counted:,} of {counted_in_words(scans, 'scan')}"
    )
    reasons: dict[str, list[Mapping[str, Any]]] = {}
    for part in recorded["lacking"]:
        reasons.setdefault(part["why"], []).append(part)
    for why, lacking in reasons.items():
        names = [_name_in_words(part) for part in lacking if part["name"]]
        if miscounted and names:
            line += f"; {why}: {some_of(names)}"
        elif unit != PARTITION and len(names) == 1:
            name, _, count = names[0].partition(" ")
            line += f"; {unit} {name} is {why}{' ' if count else ''}{count}"
        elif names:
            line += f"; {counted_in_words(len(names), unit)} {why}: {some_of(names)}"
        else:
            line += f"; {counted_in_words(sum(part['scans'] for part in lacking), 'scan')} {why}"
    return line


def counted_in_words(count: int, unit: str) -> str:
    return f"{count:,} {unit}{'' if count == 1 else 's'}"


def some_of(names: Collection[str]) -> str:
    """The first names, and how many more there are: `a, b, c and 2 more`."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(list(names)[:SHOWN]) + more


def _name_in_words(part: Mapping[str, Any]) -> str:
    """Where only some of its scans are lacking, with how many are read: `08 (3 of 4,071)`."""
    whole = part.get("whole", part["scans"])
    read = whole - part["scans"]
    return f"{part['name']} ({read:,} of {whole:,})" if read > 0 else str(part["name"])


def _absent(reader: Reader, config: Dataset, index: Index, split: str) -> list[Lacking]:
    """The partitions that the tables name, and that the index left out."""
    return [
        Lacking(part["name"], part.get("scans", 0), part.get("why", ABSENT), part.get("scans", 0))
        for part in index.body["absent"]
        if split_of_absent(reader, config.splits, part["name"], part.get("split", "")) == split
    ]


def _by_recording(reader: Reader, scans: Mapping[str, int]) -> dict[str, int]:
    """How many scans each recording has, from those of partitions."""
    summed: dict[str, int] = {}
    for name, count in scans.items():
        recording = reader.recording_of(name)
        summed[recording] = summed.get(recording, 0) + count
    return summed


def _of_recordings(
    reader: Reader, official: Mapping[str, int], used: Mapping[str, int], partitions: Iterable[Lacking]
) -> list[Lacking]:
    """What is lacking of each official recording: one entry for each, with all its reasons.

    Args:
        official: how many scans each has.
        used: how many of each are read.
        partitions: that are there or named, and are not read. Those without scans are none of an official recording.
    """
    known: dict[str, list[Lacking]] = {}
    for part in partitions:
        if part.scans:
            known.setdefault(reader.recording_of(part.name), []).append(part)
    lacking = []
    for name in [*official, *(name for name in known if name not in official)]:
        parts, read = known.get(name, []), used.get(name, 0)
        in_files = read + sum(part.scans for part in parts)
        whole = max(official.get(name, 0), in_files)
        reasons = dict.fromkeys(part.why for part in parts)
        if in_files < whole:
            reasons[CUT_SHORT if in_files else NOT_THERE] = None
        if read < whole:
            lacking.append(Lacking(name, whole - read, " and ".join(reasons), whole))
    return lacking
