"""The pretrainings of a plan: what each reads, and its id. No torch, no zarr."""

from __future__ import annotations

from cache_schemas.errors import BadInput
from pipeline.config.model import Student
from pipeline.datasets.index import PartitionEntry
from pipeline.plan.experiment import Experiment
from pipeline.plan.identity import run_identity
from pipeline.plan.intensity import intensity_identities
from pipeline.plan.parts import Identities, Lot, Reading, Run, Store, cut, identities_of, member_of
from pipeline.plan.starting_weights import imported_runs


def plan_runs(experiment: Experiment) -> dict[str, Run]:
    """The runs of all students, by the student's name, and where it has several seeds by name and seed.

    Raises:
        BadInput: for a split without partitions, a student with nothing to learn from, or weights that do not fit.
    """
    return {
        run_key(name, student, run.seed): run
        for name, student in experiment.students.items()
        for run in _runs(experiment, name, student)
    }


def run_key(name: str, student: Student, seed: int) -> str:
    """What a run is called among those of a plan."""
    return name if len(student.seeds) == 1 else f"{name}, seed {seed}"


def _runs(experiment: Experiment, name: str, student: Student) -> list[Run]:
    """One run for each seed; all read the same."""
    if student.starts_from is not None:
        return imported_runs(experiment, name, student)
    lots: list[Lot] = []
    readings: list[Reading] = []
    scans = 0
    for dataset in student.datasets:
        stores = experiment.stores(dataset, student)
        made_for = identities_of(stores)
        for split in student.splits:
            entries = experiment.entries(f"students.{name}.splits", dataset, split)
            for stage in ("scans", "views", "features"):
                for store in stores[stage]:
                    lots += cut(store, split, entries, experiment.config.lot_partitions)
            readings += [
                _reading(dataset, split, entry, stores, made_for) for entry in entries if entry.images
            ]
            scans += sum(entry.scans for entry in entries if entry.images)
    if not readings:
        raise BadInput(f"students.{name}: none of its datasets' scans has an image to learn from")
    if scans < student.pretrain.batch:
        raise BadInput(
            f"students.{name}.pretrain.batch is {student.pretrain.batch}, but its datasets have only {scans} "
            f"scan(s) with images; write a smaller one"
        )
    reads = [[r.dataset, r.split, r.partition, r.scans, r.views, r.features] for r in readings]
    scaled = intensity_identities(experiment, student.datasets)
    return [
        Run(
            name,
            student,
            seed,
            run_identity(student, seed, experiment.teacher_ids(student), scaled, reads),
            tuple(readings),
            tuple(lots),
        )
        for seed in student.seeds
    ]


def _reading(
    dataset: str,
    split: str,
    entry: PartitionEntry,
    stores: dict[str, tuple[Store, ...]],
    made_for: Identities,
) -> Reading:
    (scans,), (views,), features = (
        tuple(member_of(store, entry) for store in stores[stage]) for stage in ("scans", "views", "features")
    )
    return Reading(dataset, split, entry.name, scans, views, features, made_for)
