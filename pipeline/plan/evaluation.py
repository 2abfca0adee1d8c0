"""What `griddle evaluate` scores, and what is read for it: a run of the plan, or imported weights that came with classes, on any
split of any dataset with these classes. No torch, no zarr.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache_schemas.errors import BadInput
from pipeline.common.run_files import CONFIG, DONE, PROVENANCE
from pipeline.config.load import load_config
from pipeline.config.model import Config, Points, Student
from pipeline.config.training import Labelled, Split
from pipeline.datasets.index import make_index
from pipeline.datasets.readers import reader_named
from pipeline.plan.experiment import Experiment
from pipeline.plan.intensity import ToMeasure, to_measure
from pipeline.plan.labelled import LabelledReading, LabelledRun, check_field, points_of
from pipeline.plan.parts import Lot, cut, identities_of, member_of
from pipeline.plan.plan import Plan, plan_experiment
from pipeline.plan.run_record import read_facts
from pipeline.plan.split_share import SplitShare, split_share
from pipeline.plan.starting_weights import Facts, student_of_weights

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


def open_evaluation(
    config_path: str,
    workdir: Path | None,
    folder: Path,
    dataset: str | None,
    split: Split,
    keys: Sequence[str] = (),
) -> tuple[Experiment, Evaluation]:
    """What scoring a folder on a split of a dataset reads; None: the dataset that a run was scored on. keys: of the config,
    as `scored_weights` takes them.

    A dataset that is named is indexed first.

    Raises:
        BadInput: if the folder, the dataset or the keys cannot be used.
    """
    config = load_config(config_path)
    if dataset is not None and dataset not in config.datasets:
        raise BadInput(
            f"--dataset {dataset}: the config has no such dataset; it has {', '.join(config.datasets)}"
        )
    provenance = imported_provenance(folder)
    scored = scored_weights(config, folder, provenance, dataset, keys) if provenance else None
    if keys and scored is None:
        raise BadInput(f"--as {keys[0]} is for imported weights; {folder} is scored as it was trained to be")
    if dataset is not None:
        make_index(workdir or Path(config.workdir), dataset, config.datasets[dataset])
    if scored is not None:  # the datasets of the config's students need no index
        config = config.model_copy(update={"students": {}})
    plan = plan_experiment(config, workdir, also=[dataset] if dataset else [])
    if scored is None:
        run = run_in_folder(plan, folder, config_path)
        scored = scored_run(plan.experiment, run)
        dataset = dataset or run.evaluate[0].dataset
    assert dataset is not None  # imported weights are refused without one
    return plan.experiment, plan_evaluation(plan.experiment, scored, dataset, split)


def run_in_folder(plan: Plan, folder: Path, config_path: str) -> LabelledRun:
    """The probe, the baseline or the finetuning of a plan that lies in a folder.

    Raises:
        BadInput: for any other folder. Where it holds a run that another config made, the message names that config.
    """
    try:
        place = str(folder.resolve().relative_to(plan.experiment.workdir.resolve()))
    except ValueError:
        raise BadInput(
            f"{folder} does not lie in {plan.experiment.workdir}, and is no folder that `griddle weights import` wrote; give "
            f"the folder of a probe or a finetuning"
        ) from None
    try:
        return plan.labelled_run(place)
    except BadInput:
        if not (folder / DONE).exists():
            raise
    config = folder.parent.parent / CONFIG  # of the pretraining that a probe or a finetuning lies in
    made_by = (
        f"--config {config}" if config.exists() else f"a config with the blocks in {folder / 'config.yaml'}"
    )
    raise BadInput(
        f"{config_path} does not make {place}: it, or the dataset, is another than when this was trained. Evaluate it with "
        f"the config that made it: {made_by}"
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
        share: how much of the split is read.
        to_measure: how intensities are spread, where that is not measured yet; its lots are in `lots`.
    """

    scored: Scored
    dataset: str
    split: Split
    readings: tuple[LabelledReading, ...]
    lots: tuple[Lot, ...]
    unlabelled: tuple[str, ...]
    share: SplitShare
    to_measure: ToMeasure | None = None


def plan_evaluation(experiment: Experiment, scored: Scored, dataset: str, split: Split) -> Evaluation:
    """What scoring reads.

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
    measured = to_measure(experiment, dataset)
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
        measured,
    )
