"""A plan of datasets that are not there: how many scans and cameras they have is said, the rest is what is known of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache_schemas.canonical import digest
from cache_schemas.errors import BadInput
from pipeline.config.model import Config, Dataset, Student
from pipeline.datasets.reader import reader_named
from pipeline.index import Index
from pipeline.plan import STAGES, Plan
from pipeline.planned import cut
from pipeline.shares import TYPICAL, Shares

READER = "nuscenes"
"""Stands in for the readers of all assumed datasets: of a reader a plan needs little more than that there is one."""


@dataclass(frozen=True)
class Known:
    """What is known of a dataset before any of its files is there.

    Attributes:
        points: in one scan.
        partition_scans: in one partition.
    """

    points: int
    partition_scans: int


KNOWN = {
    "nuscenes": Known(points=34_700, partition_scans=40),
    "semantic_kitti": Known(points=120_000, partition_scans=250),
    "pandaset64": Known(points=106_500, partition_scans=80),
    "pandasetgt": Known(points=62_000, partition_scans=80),
}
"""Points: means over the same recordings as `shares.TYPICAL`. Partitions: scenes of nuScenes (28,130 scans in 700),
sequences of PandaSet (80 scans), runs of 250 scans of the long sequences of SemanticKITTI."""

_ONE = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*)=(\d+)x(\d+)(?:x(\d+))?")


@dataclass(frozen=True)
class Assumed:
    """One dataset of `--assume`."""

    name: str
    scans: int
    cameras: int
    known: Known
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
        known = KNOWN.get(name)
        if known is None and match[4] is None:
            raise BadInput(
                f"--assume: how many points a scan of {name} has is not known; write "
                f"{name}={match[2]}x{match[3]}xPOINTS, or one of {', '.join(KNOWN)}"
            )
        points = int(match[4]) if match[4] else KNOWN[name].points
        found[name] = Assumed(
            name,
            int(match[2]),
            int(match[3]),
            Known(points, known.partition_scans if known else KNOWN[READER].partition_scans),
            TYPICAL.get(name, TYPICAL[READER]),
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
    dataset = Dataset(reader=READER, root="(assumed)", version="(assumed)")
    as_if = config.model_copy(
        update={"datasets": dict.fromkeys(names, dataset), "students": students, "probes": {}}
    )
    plan = Plan(as_if, workdir, only, indices={one.name: assumed_index(one) for one in assumed})
    for name, student in plan.students.items():
        if config.students[name].probes:
            _add_labels(plan, student)
    return plan


def assumed_index(one: Assumed, folder: Path = Path("(assumed)")) -> Index:
    """The index that a dataset of these numbers would have."""
    point_bytes = reader_named(READER).traits.point_bytes
    entries: list[dict[str, Any]] = []
    for number, first in enumerate(range(0, one.scans, one.known.partition_scans)):
        scans = min(one.known.partition_scans, one.scans - first)
        name = f"{one.name}-{number:06d}"
        entries.append(
            {
                "name": name,
                "split": "train",
                "scans": scans,
                "images": scans * one.cameras,
                "lidar_bytes": round(scans * one.known.points * point_bytes),
                "members": {stage: digest([name, stage]) for stage in STAGES},
                "file": f"{name}.json",
                "problem": None,
            }
        )
    return Index(folder, {"dataset": one.name, "partitions": entries, "absent": []})


def _learning_from(student: Student, datasets: list[str]) -> Student:
    return student.model_copy(update={"datasets": datasets, "splits": ["train"], "probes": []})


def _add_labels(plan: Plan, student: Student) -> None:
    for dataset in student.datasets:
        entries = plan.entries("--assume", dataset, "train")
        for store in plan.stores(dataset, student)["labels"]:
            plan.add(cut(store, "train", entries, plan.config.lot_partitions))
