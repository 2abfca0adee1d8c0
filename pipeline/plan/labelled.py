"""Trainings with labels, of probes and finetunings: what they read, and when they can start. No torch, no zarr."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

from cache_schemas.canonical import digest
from cache_schemas.errors import BadInput
from pipeline.config.model import Points, Student, misfit
from pipeline.config.training import Labelled
from pipeline.datasets.index import PartitionEntry
from pipeline.datasets.splits import full_name
from pipeline.plan.experiment import Experiment
from pipeline.plan.intensity import before_intensity
from pipeline.plan.label_subset import number_chosen
from pipeline.plan.parts import Identities, Lot, Member, Run, Store, cut, identities_of, member_of


@dataclass(frozen=True)
class LabelledReading:
    """What a probe, a finetuning or an evaluation reads of one partition.

    Attributes:
        labels: None where a split without labels is evaluated.
        full: the full scans; None where the partition is not scored, or is scored on the teacher's own features.
        views, features: of the teacher's own features alone.
        identities: as of `Reading`.
    """

    dataset: str
    split: str
    partition: str
    scans: Member
    labels: Member | None
    full: Member | None = None
    views: Member | None = None
    features: tuple[Member, ...] = ()
    identities: Identities = field(default_factory=dict, compare=False)

    @property
    def members(self) -> list[tuple[str, Member]]:
        """Each member that is read, after the stage that made it."""
        members = [("scans", self.scans), ("views", self.views), *(("features", f) for f in self.features)]
        members += [("labels", self.labels), ("full_scans", self.full)]
        return [(stage, member) for stage, member in members if member is not None]


@dataclass(frozen=True)
class LabelledRun:
    """One training with labels, of a probe or a finetuning (`block`, which the config calls `name`).

    Attributes:
        what: `probe` or `finetune`.
        kind: what is trained: `distilled` or a baseline, of a finetuning what it starts from.
        run: the pretraining of the same student and seed: a distilled student's weights, a calibrated one's batches.
        left_out: partitions that have no labels, or for the teacher no images.
    """

    what: ClassVar[str]

    kind: str
    name: str
    block: Labelled
    run: Run
    identity: dict[str, Any]
    train: tuple[LabelledReading, ...]
    evaluate: tuple[LabelledReading, ...]
    left_out: tuple[str, ...]
    lots: tuple[Lot, ...]

    @property
    def student(self) -> Student:
        return self.run.student

    @property
    def seed(self) -> int:
        return self.run.seed

    @property
    def points(self) -> Points:
        """How scans become points: as the student's, in the block's own field of view where it has one."""
        return points_of(self.block, self.student)

    @cached_property
    def id(self) -> str:
        return digest(self.identity)

    @property
    def key(self) -> str:
        """Where the config says how: `probes.NAME` or `finetunes.NAME`."""
        return f"{self.what}s.{self.name}"

    @property
    def folder(self) -> str:
        """Relative to the workdir."""
        raise NotImplementedError

    @property
    def is_pretrained(self) -> bool:
        """Whether it starts from the weights of `run`, which must be done before."""
        return self.kind in ("distilled", "finetuned")

    @property
    def trains_student(self) -> bool:
        """Whether the student learns together with the head; otherwise it is frozen."""
        raise NotImplementedError

    @property
    def head(self) -> Literal["linear", "mlp"]:
        """From the student's features to classes."""
        return "linear"

    @property
    def calibration_batches(self) -> int:
        """Pretraining batches that the student's batch norms see before; 0 for all kinds but `calibrated`."""
        return 0

    @property
    def stochastic_depth(self) -> float | None:
        """The chance that a block's branch is dropped; None where it is that of the student's network."""
        return None


AnyRun = TypeVar("AnyRun", bound=LabelledRun, covariant=True)


@dataclass(frozen=True)
class LabelledRow(Generic[AnyRun]):
    """One row of the table: one kind of one probe or finetuning (`name` in the config), over the seeds of a student."""

    student: str
    name: str
    kind: str
    runs: tuple[AnyRun, ...]


@dataclass(frozen=True)
class Readings:
    """What one probe or finetuning of one student reads; the same for all seeds."""

    train: tuple[LabelledReading, ...]
    evaluate: tuple[LabelledReading, ...]
    left_out: tuple[str, ...]
    lots: tuple[Lot, ...]

    def identity(self) -> list[Any]:
        """The members that are read, as they enter an id."""
        return [
            [r.dataset, r.split, r.partition, r.labels, *([r.views, r.features] if r.views else [r.scans])]
            + ([r.full] if r.full else [])
            for r in (*self.train, *self.evaluate)
        ]


def points_of(block: Labelled, student: Student) -> Points:
    """The student's points, in the block's own field of view where it has one."""
    if block.field_of_view is None:
        return student.points
    return student.points.model_copy(update={"field_of_view": block.field_of_view})


def check_field(key: str, block: Labelled, student: Student) -> None:
    """Raise BadInput unless a block's field of view holds whole cells of the student that is probed."""
    points = points_of(block, student)
    problem = misfit(points.field_of_view, points.cell)
    if problem is not None:
        raise BadInput(f"{key}.field_of_view {problem}")


def before_labelled(experiment: Experiment, run: LabelledRun) -> list[str]:
    """The files that must exist before a probe or a finetuning starts; none once it is done."""
    if experiment.is_done(run):
        return []
    paths = [str(experiment.lot_path(lot)) for lot in run.lots]
    datasets = dict.fromkeys([r.dataset for r in (*run.train, *run.evaluate)] + run.student.datasets)
    paths += before_intensity(experiment, datasets)
    return [*paths, str(experiment.marker(run.run))] if run.is_pretrained else paths


def labelled_markers(
    experiment: Experiment, runs: Iterable[LabelledRun], *, startable: bool = False
) -> list[str]:
    """The marker of each; with `startable` only of those that wait for no pretraining."""
    return [
        str(experiment.marker(run))
        for run in runs
        if not startable or not run.is_pretrained or experiment.is_done(run.run)
    ]


def labelled_readings(
    experiment: Experiment, run: Run, key: str, block: Labelled, datasets: list[str], *, images: bool
) -> Readings:
    """Labelled partitions of the train and the evaluated splits; with `images` those that cameras saw, too.

    key: of the block in the config, `probes.NAME` or `finetunes.NAME`.
    """
    student = run.student
    scored_student = student.model_copy(update={"points": points_of(block, student)})
    _check_classes(experiment, key, datasets)
    check_field(key, block, student)
    by_split: dict[str, list[LabelledReading]] = {split: [] for split in (*block.splits, block.evaluate)}
    evaluated: list[LabelledReading] = []
    scans = dict.fromkeys(by_split, 0)
    left_out: list[str] = []
    lots: list[Lot] = []
    for dataset in datasets:
        stores = experiment.stores(dataset, student)
        made_for = identities_of(stores)
        for split in by_split:
            where = f"{key}.{'splits' if split in block.splits else 'evaluate'}"
            entries = experiment.entries(where, dataset, split)
            usable = [e for e in entries if e.members["labels"] and (e.images or not images)]
            if not any(entry.members["labels"] for entry in entries):
                raise BadInput(_no_labels(experiment, key, run.name, dataset, split, len(entries)))
            kept = {entry.name for entry in usable}
            left_out += [f"{dataset} {split} {entry.name}" for entry in entries if entry.name not in kept]
            readings = [_reading(dataset, split, entry, stores, images, made_for) for entry in usable]
            by_split[split] += readings
            scans[split] += sum(entry.scans for entry in usable)
            pretrained = dataset in student.datasets and split in student.splits
            lots += _lots(experiment, stores, split, entries, usable, pretrained=pretrained, images=images)
            if split == block.evaluate and images:
                evaluated += readings
            elif split == block.evaluate:
                (full,) = experiment.stores(dataset, scored_student)["full_scans"]
                lots += cut(full, split, usable, experiment.config.lot_partitions)
                made_for_full = {**made_for, full.folder: full.identity}
                evaluated += [
                    replace(reading, full=member_of(full, entry), identities=made_for_full)
                    for reading, entry in zip(readings, usable, strict=True)
                ]
    train = [reading for split in block.splits for reading in by_split[split]]
    chosen = number_chosen(
        key, block, sum(scans[split] for split in block.splits), lambda: _names(experiment, train)
    )
    if chosen < block.batch:
        raise BadInput(
            f"{key}.batch is {block.batch}, but the {', '.join(block.splits)} split has only {chosen} "
            f"scan(s) with labels{' and images' if images else ''}"
            f"{' that it learns from' if block.every > 1 or block.scans else ''}; write a smaller one"
        )
    return Readings(tuple(train), tuple(evaluated), tuple(left_out), tuple(lots))


def _names(experiment: Experiment, train: list[LabelledReading]) -> list[tuple[str, str]]:
    """Of each scan to learn from (PARTITION/SCAN, SCAN), from the index alone."""
    names = {dataset: experiment.indices[dataset].scan_names() for dataset in {r.dataset for r in train}}
    return [
        (full_name(reading.partition, name), name)
        for reading in train
        for name in names[reading.dataset][reading.partition]
    ]


def _lots(
    experiment: Experiment,
    stores: dict[str, tuple[Store, ...]],
    split: str,
    entries: list[PartitionEntry],
    usable: list[PartitionEntry],
    *,
    pretrained: bool,
    images: bool,
) -> Iterator[Lot]:
    """Whole splits where pretraining cuts the same lots; what costs much only for partitions that are used."""
    about = experiment.config.lot_partitions
    for store in (*stores["scans"], *stores["labels"]):
        yield from cut(store, split, entries, about)
    for store in (*stores["views"], *stores["features"]) if images else ():
        yield from cut(store, split, entries if pretrained else usable, about)


def _reading(
    dataset: str,
    split: str,
    entry: PartitionEntry,
    stores: dict[str, tuple[Store, ...]],
    images: bool,
    made_for: Identities,
) -> LabelledReading:
    (scans,), (labels,), (views,) = (stores[stage] for stage in ("scans", "labels", "views"))
    plain = LabelledReading(
        dataset, split, entry.name, member_of(scans, entry), member_of(labels, entry), identities=made_for
    )
    if not images:
        return plain
    features = tuple(member_of(store, entry) for store in stores["features"])
    return replace(plain, views=member_of(views, entry), features=features)


def _check_classes(experiment: Experiment, key: str, datasets: list[str]) -> None:
    tables = {experiment.traits[dataset].classes for dataset in datasets}
    if len(tables) > 1:
        raise BadInput(
            f"{key}: {', '.join(datasets)} have {len(tables)} different tables of classes, and a head learns one; write "
            f"a block for each, with its `datasets`"
        )


def _no_labels(
    experiment: Experiment, key: str, student: str, dataset: str, split: str, partitions: int
) -> str:
    root = Path(experiment.config.datasets[dataset].root)
    kind, _, name = key.partition(".")
    return (
        f"dataset {dataset} has no labels in its {split} split (none of {partitions} partition(s) in {root}), and {key} "
        f"needs labels to learn from and to be scored on. Put the label files and their tables there and run again, or "
        f"take {name} out of students.{student}.{kind}."
    )
