"""What `griddle evaluate` scores, and what is read for it: a run of the config, or imported weights that came with classes, on
any split of any dataset with these classes. `open_evaluation.py` says which. No torch, no zarr.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cache_schemas.errors import BadInput
from pipeline.common.run_files import DONE, PROVENANCE
from pipeline.config.model import Config, Points, Student
from pipeline.config.training import Labelled, Split
from pipeline.datasets.readers import reader_named
from pipeline.plan.experiment import Experiment
from pipeline.plan.intensity import ToMeasure, to_measure
from pipeline.plan.labelled import LabelledReading, LabelledRun, check_field, points_of
from pipeline.plan.parts import Lot, cut, identities_of, member_of
from pipeline.plan.run_record import read_facts
from pipeline.plan.split_share import SplitShare, split_share
from pipeline.plan.starting_weights import Facts, student_of_weights
from pipeline.plan.whole_split import Commands

RELEASED_AVERAGING = {"relu": "scalr", "gelu": "scalr_plus"}
"""Of a cell's points, by the activation of a network of the authors: it tells which of their two codes computes it."""


@dataclass(frozen=True)
class Scored:
    """One network with classes, and how its scans are read.

    Attributes:
        folder: its weights lie there, and its scores go there, into `evaluations/`.
        points: how scans become points; the student's, or of another field of view.
        block: precision, votes, and the augmentation of these.
        seed: draws the votes.
        classes: their names, or how many they are where weights were imported.
        run: of the plan; None for imported weights.
        named: in the names of files with scores, what it is scored as.
    """

    folder: Path
    id: str
    student: Student
    points: Points
    block: Labelled
    seed: int
    classes: tuple[str, ...] | int
    run: LabelledRun | None = None
    named: str = ""

    @property
    def intensity(self) -> dict[str, Any]:
        """By dataset how the intensities of those that it was trained on are normalised, as an id holds it."""
        return self.run.identity.get("intensity", {}) if self.run is not None else {}

    def check_classes(self, dataset: str, classes: tuple[str, ...]) -> None:
        """Raise BadInput unless a dataset has its classes."""
        if isinstance(self.classes, int):
            if len(classes) != self.classes:
                raise BadInput(
                    f"{self.folder} has a head of {self.classes} classes, and dataset {dataset} has {len(classes)}; give "
                    f"--dataset of one with the classes that it was trained on"
                )
        elif classes != self.classes:
            assert self.run is not None
            raise BadInput(
                f"dataset {dataset} has other classes ({len(classes)}) than {self.run.train[0].dataset} "
                f"({len(self.classes)}), from which {self.run.folder} learnt them; give a dataset with the same"
            )


def scored_run(experiment: Experiment, run: LabelledRun) -> Scored:
    """A probe, a baseline or a finetuning of the plan.

    Raises:
        BadInput: for the teacher's own features, which only points that cameras see have.
    """
    if run.kind == "teacher":
        raise BadInput(
            f"{run.folder} is the teacher itself, which sees no whole scan; give a probe of a student"
        )
    folder, classes = experiment.run_path(run), experiment.traits[run.train[0].dataset].classes
    return Scored(folder, run.id, run.student, run.points, run.block, run.seed, classes, run)


def imported_provenance(folder: Path) -> Facts | None:
    """The provenance of a folder that `griddle weights import` wrote; None for any other.

    Raises:
        BadInput: for a checkpoint that is not imported yet, and for a student without classes.
    """
    if folder.is_file():
        raise BadInput(
            f"{folder} is a file; import it first: griddle weights import {folder} --out imported/{folder.stem}"
        )
    try:
        provenance: Facts = read_facts(folder, PROVENANCE)
        kind = json.loads((folder / DONE).read_bytes())["kind"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if kind == "pretrain":
        raise BadInput(
            f"{folder} is a pretrained student without classes; give a probe of it, {folder / 'probe'}/<name>-<id>"
        )
    return provenance if kind == "imported" else None


def scored_weights(
    config: Config, folder: Path, provenance: Facts, dataset: str | None, keys: Sequence[str] = ()
) -> Scored:
    """Imported weights, scored as published: points as in ScaLR's nuScenes configs, one pass, in float32. Or, with keys of
    the config: `students.NAME` gives its points; `probes.NAME` or `finetunes.NAME` its field of view, precision and votes.

    Raises:
        BadInput: if they have no classes, no dataset is given, it has another number of them, or there is no such key.
    """
    classes = provenance["imported"].get("classes")
    if not classes:
        raise BadInput(
            f"{folder} holds a pretrained student: it has no classes to score. Probe it: write a student of a config with "
            f"`starts_from: {folder}` and `probes: [NAME]`, run `snakemake pretrain_all`, and evaluate its probe"
        )
    if dataset is None:
        raise BadInput(
            f"{folder} does not say what it was trained on: give --dataset, one of {', '.join(config.datasets)}"
        )
    student = student_of_weights(folder, provenance, [dataset])
    network = student.network.model_copy(update={"averaging": RELEASED_AVERAGING[student.network.activation]})
    blocks = dict(_block(config, key) for key in keys)
    if len(blocks) < len(keys):
        raise BadInput(f"--as {' --as '.join(keys)}: give one student, and one probe or finetuning at most")
    points, block = blocks.get("points", student.points), blocks.get("labelled", Labelled())
    student = student.model_copy(update={"network": network, "points": points})
    check_field("--as", block, student)
    named = f"-as-{'-'.join(keys)}" if keys else ""
    where = points_of(block, student)
    scored = Scored(folder, provenance["run_id"], student, where, block, 0, classes, named=named)
    # Before the dataset is indexed.
    scored.check_classes(dataset, reader_named(config.datasets[dataset].reader).traits.classes)
    return scored


def _block(config: Config, key: str) -> tuple[str, Any]:
    """What a key of the config says of scoring: `points`, or a `labelled` block."""
    kind, _, name = key.partition(".")
    known: dict[str, dict[str, Any]] = {
        "students": config.students,
        "probes": config.probes,
        "finetunes": config.finetunes,
    }
    block = known.get(kind, {}).get(name)
    if block is None:
        keys = [f"{kind}.{name}" for kind, blocks in known.items() for name in blocks]
        raise BadInput(f"--as {key}: the config has no such block; it has {', '.join(keys)}")
    return ("points", block.points) if kind == "students" else ("labelled", block)


@dataclass(frozen=True)
class Evaluation:
    """What is scored, and one split of one dataset that it is scored on.

    Attributes:
        readings: in index order; without labels where there are none.
        lots: that must be filled first, scans before what is made from them.
        unlabelled: partitions that count for no score.
        share: how much of the split is read, and of how much predictions can be written.
        labelled: how much of the split is read and has labels: on that a score stands.
        to_measure: how intensities are spread, where that is not measured yet; its lots are in `lots`.
        since: what the datasets have more or less than when the run was trained, a line for each.
        commands: that messages name.
    """

    scored: Scored
    dataset: str
    split: Split
    readings: tuple[LabelledReading, ...]
    lots: tuple[Lot, ...]
    unlabelled: tuple[str, ...]
    share: SplitShare
    labelled: SplitShare
    to_measure: ToMeasure | None = None
    since: tuple[str, ...] = ()
    commands: Commands = field(default_factory=Commands)


def plan_evaluation(experiment: Experiment, scored: Scored, dataset: str, split: Split) -> Evaluation:
    """What scoring reads of the partitions that the dataset has today.

    Raises:
        BadInput: if the dataset has other classes, or nothing in the split.
    """
    scored.check_classes(dataset, experiment.traits[dataset].classes)
    student = scored.student.model_copy(update={"points": scored.points})
    stores = experiment.stores(dataset, student)
    (scans,), (labels,), (full,) = (stores[stage] for stage in ("scans", "labels", "full_scans"))
    entries = experiment.entries("--split", dataset, split)
    made_for = identities_of(stores)
    labelled = [entry for entry in entries if entry.members["labels"]]
    about = experiment.config.lot_partitions
    measured = None if dataset in scored.intensity else to_measure(experiment, dataset)
    if measured is not None and experiment.stats_path(measured).exists():
        measured = None
    return Evaluation(
        scored,
        dataset,
        split,
        tuple(
            LabelledReading(
                dataset,
                split,
                entry.name,
                member_of(scans, entry),
                member_of(labels, entry) if entry.members["labels"] else None,
                member_of(full, entry),
                identities=made_for,
            )
            for entry in entries
        ),
        (
            *(measured.lots(about) if measured is not None else ()),
            *cut(scans, split, entries, about),
            *cut(labels, split, labelled, about),
            *cut(full, split, entries, about),
        ),
        tuple(entry.name for entry in entries if not entry.members["labels"]),
        split_share(experiment, dataset, split, {entry.name for entry in entries}),
        split_share(experiment, dataset, split, {entry.name for entry in labelled}),
        measured,
    )
