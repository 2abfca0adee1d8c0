"""A plan of datasets that are not there: how many scans and cameras they have is said, the rest is what is known of them."""

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
from pipeline.plan.cost.shares import Shares, typical_shares
from pipeline.plan.parts import STAGES, cut
from pipeline.plan.plan import Plan, plan_experiment

UNKNOWN = Traits("unknown", 1, frame="unknown", intensity=(0.0, 1.0))
"""Stands in for a dataset without a reader in the package: of a reader a plan needs little more than that there is one."""
PARTITION_SCANS = 40
"""Of a dataset of which nothing is known but its points: as in nuScenes."""

_ONE = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*)=(\d+)x(\d+)(?:x(\d+))?")


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
    shares: Shares


def parse_assumed(text: str) -> list[Assumed]:
    """`NAME=SCANSxCAMERAS` or `NAME=SCANSxCAMERASxPOINTS`, with commas between them.

    Raises:
        BadInput: for what cannot be read, a name given twice, or an unknown name without points.
    """
    found: dict[str, Assumed] = {}
    for part in text.split(","):
        match = _ONE.fullmatch(part.strip())
        if match is None or int(match[2]) == 0 or int(match[3]) == 0:
            raise BadInput(
                f"--assume: {part.strip()!r} cannot be read; write NAME=SCANSxCAMERAS, for instance nuscenes=28130x6, "
                f"with commas between datasets"
            )
        name = match[1]
        if name in found:
            raise BadInput(f"--assume: {name} is there twice; write it once")
        traits = packaged()[name].traits if name in packaged() else UNKNOWN
        known = traits.typical
        if known is None and match[4] is None:
            typical = [other for other, reader in packaged().items() if reader.traits.typical]
            raise BadInput(
                f"--assume: how many points a scan of {name} has is not known; write "
                f"{name}={match[2]}x{match[3]}xPOINTS, or one of {', '.join(typical)}"
            )
        found[name] = Assumed(
            name,
            int(match[2]),
            int(match[3]),
            int(match[4]) if match[4] else known.points if known else 0,
            known.partition_scans if known else PARTITION_SCANS,
            traits,
            typical_shares(traits),
        )
    return list(found.values())


def assume(config: Config, assumed: list[Assumed], workdir: Path | None, only: str | None) -> Plan:
    """The plan of a config as if these datasets were there, and no other.

    A student is planned on those of its own datasets that are assumed, and on all that the config does not know.
    Probes are left out; the labels that they would read of these scans are planned.

    Raises:
        BadInput: if no student has a dataset left.
    """
    names = [one.name for one in assumed]
    students = {
        name: _learning_from(student, [n for n in names if n in student.datasets or n not in config.datasets])
        for name, student in config.students.items()
    }
    students = {name: student for name, student in students.items() if student.datasets}
    if not students:
        raise BadInput(f"--assume: no student of the config names any of {', '.join(names)}")
    datasets = {
        one.name: Dataset(reader=one.traits.reader, root="(assumed)", version="(assumed)") for one in assumed
    }
    as_if = config.model_copy(
        update={"datasets": datasets, "students": students, "probes": {}, "finetunes": {}}
    )
    plan = plan_experiment(
        as_if,
        workdir,
        only,
        indices={one.name: assumed_index(one) for one in assumed},
        traits={one.name: one.traits for one in assumed},
    )
    for name, student in plan.experiment.students.items():
        if config.students[name].probes:
            _add_labels(plan, student)
    return plan


def assumed_index(one: Assumed, folder: Path = Path("(assumed)")) -> Index:
    """The index that a dataset of these numbers would have."""
    entries: list[dict[str, Any]] = []
    for number, first in enumerate(range(0, one.scans, one.partition_scans)):
        scans = min(one.partition_scans, one.scans - first)
        name = f"{one.name}-{number:06d}"
        entries.append(
            {
                "name": name,
                "split": "train",
                "scans": scans,
                "images": scans * one.cameras,
                "points": scans * one.points,
                "members": {stage: digest([name, stage]) for stage in STAGES},
                "file": f"{name}.json",
                "problem": None,
            }
        )
    return Index(folder, {"dataset": one.name, "partitions": entries, "absent": []})


def _learning_from(student: Student, datasets: list[str]) -> Student:
    return student.model_copy(
        update={"datasets": datasets, "splits": ["train"], "probes": [], "finetunes": []}
    )


def _add_labels(plan: Plan, student: Student) -> None:
    for dataset in student.datasets:
        entries = plan.experiment.entries("--assume", dataset, "train")
        for store in plan.experiment.stores(dataset, student)["labels"]:
            plan.add(cut(store, "train", entries, plan.experiment.config.lot_partitions))
