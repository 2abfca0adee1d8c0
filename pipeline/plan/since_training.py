"""What a dataset has more or less than when a training read it, in words. No torch, no zarr."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.datasets.index import PartitionEntry
from pipeline.plan.experiment import Experiment
from pipeline.plan.labelled import LabelledReading, LabelledRun
from pipeline.plan.parts import Reading, Run
from pipeline.plan.selection import is_chosen

SHOWN = 3


def dataset_since(experiment: Experiment, run: Run | LabelledRun) -> list[str]:
    """A line for each dataset and split that a training read and that is another today; none where nothing is.

    Only partitions that such a training reads are compared: with labels, or with images.
    """
    readings: list[Reading | LabelledReading] = (
        list(run.readings) if isinstance(run, Run) else [*run.train, *run.evaluate]
    )
    images = isinstance(run, Run) or run.kind == "teacher"
    read: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    for reading in readings:
        members = {stage: member for stage, (_, member) in reading.members if member}
        read.setdefault((reading.dataset, reading.split), {}).setdefault(reading.partition, {}).update(
            members
        )
    lines = []
    for (dataset, split), partitions in read.items():
        entries = _readable(experiment, dataset, split, labels=not isinstance(run, Run), images=images)
        today = {entry.name: entry for entry in entries}
        parts = [
            _part([name for name in today if name not in partitions], "more"),
            _part([name for name in partitions if name not in today], "no longer there"),
            _part(
                [n for n in partitions if n in today and _differ(partitions[n], today[n])], "with other files"
            ),
        ]
        if any(parts):
            lines.append(
                f"{dataset} {split} has today {'; '.join(filter(None, parts))} ({len(partitions)} then, {len(today)} today)"
            )
    return lines


def _readable(
    experiment: Experiment, dataset: str, split: str, *, labels: bool, images: bool
) -> list[PartitionEntry]:
    index, config = experiment.indices.get(dataset), experiment.config.datasets[dataset]
    return [
        entry
        for entry in (index.partitions if index is not None else ())
        if entry.split == split
        and is_chosen(config, entry.name)
        and not entry.problem
        and (entry.members["labels"] or not labels)
        and (entry.images or not images)
    ]


def _differ(read: dict[str, str], entry: PartitionEntry) -> bool:
    """Whether files of another content, or of another size, are there today."""
    members: dict[str, Any] = {**entry.members, "full_scans": entry.members["scans"]}
    return any(members[stage] != member for stage, member in read.items())


def _part(names: Iterable[str], what: str) -> str:
    listed = list(names)
    more = ", ..." if len(listed) > SHOWN else ""
    return f"{len(listed)} partition(s) {what}: {', '.join(listed[:SHOWN])}{more}" if listed else ""
