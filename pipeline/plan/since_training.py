"""What a training read that a config reads otherwise today, in words, and how much of it is the same. No torch, no zarr."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.config.model import Dataset
from pipeline.datasets.index import PartitionEntry
from pipeline.plan.experiment import Experiment
from pipeline.plan.labelled import LabelledReading, LabelledRun
from pipeline.plan.parts import Reading, Run
from pipeline.plan.split_share import PARTITION, counted_in_words, some_of

OTHER_DATA = "trained on other data than today's"
"""Before a line of `dataset_since`."""

Read = dict[tuple[str, str], dict[str, dict[str, str]]]
"""By dataset and split, of each partition the member digest of each stage."""


def dataset_since(experiment: Experiment, run: Run | LabelledRun) -> list[str]:
    """A line for each dataset and split that a training read and that is another today; none where nothing is.

    Only partitions that such a training reads are compared: with labels, or with images.
    """
    lines = []
    for (dataset, split), partitions in _read(_own_readings(run)).items():
        today = _today(experiment, run, dataset, split)
        parts = [_part([name for name in today if name not in partitions], "more today")]
        indexed = {entry.name: entry for entry in _entries(experiment, dataset, split)}
        gone: dict[str, list[str]] = {}
        for name in partitions:
            if name not in today:
                gone.setdefault(
                    _why_not(experiment.config.datasets[dataset], name, indexed.get(name)), []
                ).append(name)
        parts += [_part(names, why) for why, names in gone.items()]
        others = [n for n in partitions if n in today and _other_members(partitions[n], today[n])]
        parts.append(_part(others, "with other files"))
        if any(parts):
            then, now = len(partitions), len(today)
            counts = f" ({counted_in_words(then, PARTITION)} then, {now:,} today)" if then != now else ""
            lines.append(f"{dataset} {split}: {'; '.join(filter(None, parts))}{counts}")
    return lines


def nearness(experiment: Experiment, run: Run | LabelledRun) -> tuple[int, int]:
    """How near what a training read is to what the datasets have today; the greater, the nearer. First, how many members are
    the same, then, negative, how many are not. What its pretraining read counts, too."""
    same = other = 0
    runs: list[Run | LabelledRun] = [run] if isinstance(run, Run) else [run, run.run]
    for each in runs:
        for (dataset, split), partitions in _read(_own_readings(each)).items():
            today = _today(experiment, each, dataset, split)
            for name, read in partitions.items():
                kept = len(read) - len(_other_members(read, today[name])) if name in today else 0
                same, other = same + kept, other + len(read) - kept
    return same, -other


def _own_readings(run: Run | LabelledRun) -> list[Reading | LabelledReading]:
    return list(run.readings) if isinstance(run, Run) else [*run.train, *run.evaluate]


def _read(readings: Iterable[Reading | LabelledReading]) -> Read:
    read: Read = {}
    for reading in readings:
        members = {stage: member for stage, (_, member) in reading.members if member}
        read.setdefault((reading.dataset, reading.split), {}).setdefault(reading.partition, {}).update(
            members
        )
    return read


def _today(
    experiment: Experiment, run: Run | LabelledRun, dataset: str, split: str
) -> Mapping[str, PartitionEntry]:
    """The partitions that such a training would read today."""
    labels, images = not isinstance(run, Run), isinstance(run, Run) or run.kind == "teacher"
    config = experiment.config.datasets[dataset]
    return {
        entry.name: entry
        for entry in _entries(experiment, dataset, split)
        if config.uses(entry.name)
        and not entry.problem
        and (entry.members["labels"] or not labels)
        and (entry.images or not images)
    }


def _entries(experiment: Experiment, dataset: str, split: str) -> list[PartitionEntry]:
    index = experiment.indices.get(dataset)
    return [entry for entry in (index.partitions if index is not None else ()) if entry.split == split]


def _why_not(config: Dataset, name: str, entry: PartitionEntry | None) -> str:
    """Why a partition that was read would not be read today."""
    if not config.uses(name):
        return "left out by this config"
    if entry is None:
        return "no longer there"
    return "that cannot be used today" if entry.problem else "without labels or images today"


def _other_members(read: dict[str, str], entry: PartitionEntry) -> list[str]:
    """The stages for which files of another content, or of another size, are there today."""
    members: dict[str, Any] = {**entry.members, "full_scans": entry.members["scans"]}
    return [stage for stage, member in read.items() if members[stage] != member]


def _part(names: list[str], what: str) -> str:
    return f"{counted_in_words(len(names), PARTITION)} {what}: {some_of(names)}" if names else ""
