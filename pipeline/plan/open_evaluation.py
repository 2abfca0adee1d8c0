"""From what a user names to what is scored: a run of today's plan, one from before a dataset changed, or imported weights.

A run of before is scored again on what it was scored on, from the cache; or, where a dataset is named, on what it has today.
No torch, no zarr.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cache_schemas.errors import BadInput
from cache_schemas.manifest import manifest_path, read_manifest
from pipeline.common.log import log
from pipeline.common.run_files import CONFIG, DONE
from pipeline.config.load import load_config
from pipeline.config.training import Split
from pipeline.datasets.index import PartitionEntry, make_index
from pipeline.plan.evaluation import (
    Evaluation,
    Scored,
    imported_provenance,
    plan_evaluation,
    scored_run,
    scored_weights,
)
from pipeline.plan.experiment import Experiment, cache_folder, open_experiment
from pipeline.plan.labelled import LabelledReading, LabelledRun
from pipeline.plan.missing import lacking_of
from pipeline.plan.parts import Lot, cut
from pipeline.plan.plan import Plan
from pipeline.plan.recorded_runs import RecordedRuns
from pipeline.plan.since_training import OTHER_DATA, dataset_since
from pipeline.plan.split_share import split_share


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
        work = workdir or Path(config.workdir)
        make_index(work, dataset, config.datasets[dataset], cache=cache_folder(config, work))
    if scored is not None:  # the datasets of the config's students need no index
        config = config.model_copy(update={"students": {}})
    experiment = open_experiment(config, workdir, also=[dataset] if dataset else [])
    if scored is not None:
        assert dataset is not None  # imported weights are refused without one
        return experiment, plan_evaluation(experiment, scored, dataset, split)
    run, since = run_in_folder(experiment, folder, config_path)
    scored = scored_run(experiment, run)
    if since is None:
        where = dataset or run.evaluate[0].dataset
        return experiment, plan_evaluation(experiment, scored, where, split)
    calibrating = lacking_of(experiment, run.run.readings) if run.calibration_batches else set()
    if calibrating:
        raise BadInput(
            f"{folder}: its batch norms were calibrated on partitions of which the cache in {experiment.cache} lacks "
            f"{len(calibrating)}, as they were then: {', '.join(sorted(calibrating)[:3])}. Without them it cannot be scored again"
        )
    for line in since:
        log(f"evaluate: {folder} was {OTHER_DATA}: {line}. snakemake trains on today's")
    if dataset is None and split == run.block.evaluate:
        evaluation = as_trained(experiment, scored, run)
    else:
        evaluation = plan_evaluation(experiment, scored, dataset or run.evaluate[0].dataset, split)
    return experiment, replace(evaluation, since=since)


def run_in_folder(
    experiment: Experiment, folder: Path, config_path: str
) -> tuple[LabelledRun, tuple[str, ...] | None]:
    """The probe, the baseline or the finetuning of a config that lies in a folder; and of one that today's plan does not make,
    what the datasets have more or less since.

    Raises:
        BadInput: for any other folder. Where it holds a run that another config made, the message names that config.
    """
    try:
        place = str(folder.resolve().relative_to(experiment.workdir.resolve()))
    except ValueError:
        raise BadInput(
            f"{folder} does not lie in {experiment.workdir}, and is no folder that `griddle weights import` wrote; give "
            f"the folder of a probe or a finetuning"
        ) from None
    try:
        return Plan(experiment).labelled_run(place), None
    except BadInput:
        if not (folder / DONE).exists():
            raise
    run = RecordedRuns(experiment).in_folder(place)
    if run is not None:
        return run, tuple(dataset_since(experiment, run))
    raise BadInput(f"{config_path} does not make {place}: {_who_makes_it(folder, config_path)}")


def _who_makes_it(folder: Path, config_path: str) -> str:
    config = folder.parent.parent / CONFIG  # of the pretraining that a probe or a finetuning lies in
    if not config.exists():
        return f"it is another than when this was trained. Evaluate it with a config with the blocks in {folder / CONFIG}"
    if config.resolve() != Path(config_path).resolve():
        return f"it is another than when this was trained. Evaluate it with the config that made it: --config {config}"
    return (
        f"what it makes has another id than {folder.name}. The config was edited, or reads a file that is another today (a "
        f"list of scans, weights, a reader of your own). Compare it with {folder / CONFIG}, which is as it was trained"
    )


def as_trained(experiment: Experiment, scored: Scored, run: LabelledRun) -> Evaluation:
    """What a run of before was scored on. What the cache lacks of it is computed where the dataset still has it.

    Raises:
        BadInput: if the cache lacks partitions that the dataset has no more.
    """
    dataset, split = run.evaluate[0].dataset, run.block.evaluate
    readings = tuple(reading for reading in run.evaluate if reading.dataset == dataset)
    lacking = lacking_of(experiment, readings)
    today = {entry.name: entry for entry in experiment.indices[dataset].partitions if entry.split == split}
    again = [
        today[reading.partition]
        for reading in readings
        if reading.partition in lacking and _is_same(reading, today.get(reading.partition))
    ]
    gone = lacking - {entry.name for entry in again}
    if gone:
        raise BadInput(
            f"{scored.folder} was scored on {len(readings)} partition(s) of {dataset} {split}. {len(gone)} of them are no "
            f"longer in the dataset as they were, and the cache in {experiment.cache} lacks them: "
            f"{', '.join(sorted(gone)[:3])}{', ...' if len(gone) > 3 else ''}. To score it on what the dataset has today, "
            f"add --dataset {dataset}"
        )
    share = split_share(
        experiment,
        dataset,
        split,
        {reading.partition for reading in readings},
        cached={r.partition: _scans_of(experiment, r) for r in readings if r.partition not in today},
    )
    return Evaluation(
        scored,
        dataset,
        split,
        readings,
        tuple(_lots(experiment, scored, dataset, split, again)),
        (),
        share,
        share,
    )


def _is_same(reading: LabelledReading, entry: PartitionEntry | None) -> bool:
    """Whether a partition of today has the files that were read."""
    return (
        entry is not None
        and entry.members["scans"] == reading.scans[1]
        and reading.labels is not None
        and entry.members["labels"] == reading.labels[1]
    )


def _lots(
    experiment: Experiment, scored: Scored, dataset: str, split: Split, entries: list[PartitionEntry]
) -> list[Lot]:
    student = scored.student.model_copy(update={"points": scored.points})
    stores = experiment.stores(dataset, student)
    about = experiment.config.lot_partitions
    return [
        lot
        for stage in ("scans", "labels", "full_scans")
        for lot in cut(stores[stage][0], split, entries, about)
    ]


def _scans_of(experiment: Experiment, reading: LabelledReading) -> int:
    folder, member = reading.scans
    return read_manifest(manifest_path(experiment.cache / folder, reading.partition, member)).counts["scans"]
