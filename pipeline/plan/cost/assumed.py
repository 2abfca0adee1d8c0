"""A plan of datasets that are not there: the user says how many scans and cameras they have; the rest is typical of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache_schemas.canonical import digest
from cache_schemas.errors import BadInput
from pipeline.config.model import Config, Dataset, Student
from pipeline.datasets.index import Index
from pipeline.datasets.reader import Traits
from pipeline.datasets.readers import packaged
from pipeline.plan.cost.shares import ViewShares, typical_view_shares
from pipeline.plan.parts import STAGES, cut
from pipeline.plan.plan import Plan, plan_experiment

UNKNOWN = Traits("unknown", 1, frame="unknown", intensity=(0.0, 1.0))
"""Stands in for the reader of a dataset that the package has none for: a plan needs little of a reader."""
PARTITION_SCANS = 40
"""Scans in a partition where nothing is known of a dataset but its points: as in nuScenes."""

_DATASET = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*)=(\d+)x(\d+)(?:x(\d+))?")


@dataclass(frozen=True)
class Assumed:
    """One dataset of `--assume`.

    Attributes:
        cameras: images a scan.
        points: in a scan.
        traits: of the reader of that name, or of one that stands in.
    """

    name: str
    scans: int
    cameras: int
    points: int
    partition_scans: int
    traits: Traits
    shares: ViewShares


def parse_assumed(text: str) -> list[Assumed]:
    """`NAME=SCANSxCAMERAS` or `NAME=SCANSxCAMERASxPOINTS`, with commas between them.

    Raises:
        BadInput: for what cannot be read, a name given twice, or an unknown name without points.
    """
    by_name: dict[str, Assumed] = {}
    for part in text.split(","):
        match = _DATASET.fullmatch(part.strip())
        if match is None or int(match[2]) == 0 or int(match[3]) == 0:
            raise BadInput(
                f"--assume: {part.strip()!r} cannot be read; write NAME=SCANSxCAMERAS, for instance nuscenes=28130x6, "
                f"with commas between datasets"
            )
        name = match[1]
        if name in by_name:
            raise BadInput(f"--assume: {name} is there twice; write it once")
        traits = packaged()[name].traits if name in packaged() else UNKNOWN
        known = traits.typical
        if known is None and match[4] is None:
            typical = [other for other, reader in packaged().items() if reader.traits.typical]
            raise BadInput(
                f"--assume: how many points a scan of {name} has is not known; write "
                f"{name}={match[2]}x{match[3]}xPOINTS, or one of {', '.join(typical)}"
            )
        by_name[name] = Assumed(
            name,
            int(match[2]),
            int(match[3]),
            int(match[4]) if match[4] else known.points if known else 0,
            known.partition_scans if known else PARTITION_SCANS,
            traits,
            typical_view_shares(traits),
        )
    return list(by_name.values())


def assume(config: Config, assumed: list[Assumed], workdir: Path | None, only: str | None) -> Plan:
    """The plan of a config as if these datasets were there, and no other.

    A student is planned on those of its own datasets that are assumed, and on all that the config does not know.
    Probes are left out; the labels that they would read of these scans are planned.

    Raises:
        BadInput: if no student has a dataset left.
    """
    names = [dataset.name for dataset in assumed]
    students = {
        name: _learning_from(student, [n for n in names if n in student.datasets or n not in config.datasets])
        for name, student in config.students.items()
    }
    students = {name: student for name, student in students.items() if student.datasets}
    if not students:
        raise BadInput(f"--assume: no student of the config names any of {', '.join(names)}")
    datasets = {
        dataset.name: Dataset(reader=dataset.traits.reader, root="(assumed)", version="(assumed)")
        for dataset in assumed
    }
    as_if = config.model_copy(
        update={"datasets": datasets, "students": students, "probes": {}, "finetunes": {}}
    )
    plan = plan_experiment(
        as_if,
        workdir,
        only,
        indices={dataset.name: assumed_index(dataset) for dataset in assumed},
        traits={dataset.name: dataset.traits for dataset in assumed},
    )
    for name, student in plan.experiment.students.items():
        if config.students[name].probes:
            _add_labels(plan, student)
    return plan


def assumed_index(dataset: Assumed, folder: Path = Path("(assumed)")) -> Index:
    """The index that a dataset of these numbers would have."""
    entries: list[dict[str, Any]] = []
    for number, first in enumerate(range(0, dataset.scans, dataset.partition_scans)):
        scans = min(dataset.partition_scans, dataset.scans - first)
        name = f"{dataset.name}-{number:06d}"
        entries.append(
            {
                "name": name,
                "split": "train",
                "scans": scans,
                "images": scans * dataset.cameras,
                "points": scans * dataset.points,
                "members": {stage: digest([name, stage]) for stage in STAGES},
                "file": f"{name}.json",
                "problem": None,
            }
        )
    return Index(folder, {"dataset": dataset.name, "partitions": entries, "absent": []})


def _learning_from(student: Student, datasets: list[str]) -> Student:
    return student.model_copy(
        update={"datasets": datasets, "splits": ["train"], "probes": [], "finetunes": []}
    )


def _add_labels(plan: Plan, student: Student) -> None:
    for dataset in student.datasets:
        entries = plan.experiment.entries("--assume", dataset, "train")
        for store in plan.experiment.stores(dataset, student)["labels"]:
            plan.add(cut(store, "train", entries, plan.experiment.config.lot_partitions))
