"""Scoring a network with classes on a split of a dataset, and writing its predictions in the official format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cache_schemas.errors import BadInput
from cache_schemas.publish import write_json
from pipeline.common.log import log
from pipeline.datasets.readers import reader_named
from pipeline.plan.evaluation import Evaluation, Scored
from pipeline.plan.experiment import Experiment
from pipeline.plan.intensity import intensity_of
from pipeline.plan.left_out import check_left_out
from pipeline.plan.split_share import PARTITION, counted_in_words, share_line, some_of
from pipeline.plan.whole_split import check_whole
from pipeline.streaming.scan_batches import scored_together
from pipeline.streaming.scan_source import ScanSource
from pipeline.streaming.votes import Votes
from pipeline.students.heads import class_head
from pipeline.students.loading import load_exactly, tensors_below
from pipeline.training.confusion import Confusion
from pipeline.training.import_weights import imported_network
from pipeline.training.labelled_task import Task, predictions
from pipeline.training.probe_features import RawInputs, StudentFeatures, point_features
from pipeline.training.weights_folder import checked_weights


def evaluate(
    experiment: Experiment,
    wanted: Evaluation,
    device: torch.device,
    *,
    votes: int | None = None,
    out: Path | None = None,
    partial: bool = False,
) -> dict[str, Any]:
    """Score, and write `evaluations/<dataset>-<split>.json` into the scored folder; with `out`, write the official files there.

    votes: passes over each scan; by default the number in its block. partial: also where official files would lack scans of
    the split. Returns the metrics; without any label miou is None.

    Raises:
        BadInput: if there is nothing to score and nothing to write, the run is not done, or the official files would lack
            scans.
        GriddleError: if its weights are not those that were trained.
        DamagedCache: naming the file, if the cache does not hold what was written.
    """
    scored = wanted.scored
    votes = votes or scored.block.votes
    if out is None and len(wanted.unlabelled) == len(wanted.readings):
        raise BadInput(
            f"dataset {wanted.dataset} has no labels in its {wanted.split} split: there is nothing to score; give --out "
            f"to write predictions"
        )
    classes = experiment.traits[wanted.dataset].classes
    source = ScanSource(experiment.cache, wanted.readings)
    scans = source.scans()
    left_out = check_left_out(experiment.config.datasets, source.left_out)
    share = wanted.share.with_scans(len(scans))
    labelled = sum(wanted.readings[place.reading].labels is not None for place in scans)
    if out is not None and not partial:
        check_whole(share, experiment.config.datasets[wanted.dataset], wanted.commands)
    names = _result_names(experiment, wanted) if out is not None else {}
    features, head = trained(experiment, scored, device)
    evaluations = scored.folder / "evaluations"
    evaluations.mkdir(
        exist_ok=True
    )  # fails now, and not after hours of scoring, where nothing can be written
    task = _task(experiment, wanted, features, source, scans, votes)
    confusion, points = Confusion(len(classes)), 0

    def by_scan() -> Iterator[tuple[str, np.ndarray]]:
        nonlocal points
        batches = predictions(task, head, workers=experiment.config.workers, device=device)
        for number, (predicted, labels) in enumerate(batches):
            classes_of_points = predicted.cpu().numpy()
            confusion.add(labels.cpu().numpy(), classes_of_points)
            points += len(labels)
            together = scored_together(scans, number)
            ends = np.cumsum([source.size(place) for place in together])[:-1]
            for place, prediction in zip(together, np.split(classes_of_points, ends), strict=True):
                yield names.get(place.name, place.name), prediction

    dataset = experiment.config.datasets[wanted.dataset]
    if out is not None:
        reader = reader_named(dataset.reader)
        written = reader.write_results(out, dataset.version, wanted.split, by_scan())
        log(f"  predictions of {written} scan(s) → {out}")
        if not share.is_whole:
            log(f"  they are not the whole split, and no official submission: {share_line(share.recorded())}")
    else:
        for _ in by_scan():
            pass
    metrics = {
        "griddle": "griddle evaluation",
        "run_id": scored.id,
        "dataset": wanted.dataset,
        "split": wanted.split,
        "votes": votes,
        "field_of_view": [list(side) for side in scored.points.field_of_view],
        "precision": scored.block.precision,
        **confusion.scores(classes),
        "points": int(confusion.counts.sum()),
        "ignored_points": points - int(confusion.counts.sum()),
        "scans": len(scans),
        "unlabelled": list(wanted.unlabelled),
        "unreadable": left_out,
        "shares": [wanted.labelled.with_scans(labelled).recorded()],
        "dataset_since": list(wanted.since),
        "confusion": confusion.counts.tolist(),
    }
    voted = f"-{votes}-votes" if votes > 1 else ""
    write_json(evaluations / f"{wanted.dataset}-{wanted.split}{voted}{scored.named}.json", metrics)
    return metrics


def trained(
    experiment: Experiment, scored: Scored, device: torch.device
) -> tuple[StudentFeatures | RawInputs, nn.Module]:
    """The features and the head of the scored network, with its weights.

    Raises:
        BadInput: if it is a run that is not done.
        GriddleError: if the weights are not those that were trained or imported.
    """
    run = scored.run
    if run is None:
        backbone, probe = imported_network(scored.folder, scored.student, scored.points)
        return StudentFeatures(backbone, scored.seed).to(device).eval(), probe.to(device).eval()
    folder, classes = scored.folder, experiment.traits[run.train[0].dataset].classes
    if not experiment.is_done(run):
        raise BadInput(f"{folder} is not done: run `snakemake {run.what}_all --cores 8` first")
    features = point_features(experiment, run, device)
    head = class_head(run.head, features.channels, len(classes), run.seed)
    with checked_weights(folder) as tensors:
        load_exactly(head, tensors_below("head.", tensors))
        if trained_student := tensors_below("student.", tensors):
            load_exactly(features, trained_student)
    return features.to(device).eval(), head.to(device).eval()


def _task(
    experiment: Experiment,
    wanted: Evaluation,
    features: StudentFeatures | RawInputs,
    source: ScanSource,
    scans: Any,
    votes: int,
) -> Task:
    scored, block = wanted.scored, wanted.scored.block
    intensity = {wanted.dataset: intensity_of(experiment, wanted.dataset, scored.intensity)}
    voted = Votes(
        source,
        scans,
        votes=votes,
        seed=scored.seed,
        points=scored.points,
        augmentation=block.augment,
        intensity=intensity,
    )
    counts = (0, len(scans))
    return Task(
        features, features.channels, False, voted, voted, voted.batches, counts, [], block.precision, votes
    )


def _result_names(experiment: Experiment, wanted: Evaluation) -> dict[str, str]:
    """For each scan the name that the official evaluation uses.

    Raises:
        BadInput: for partitions that the cache alone has: only the dataset's index knows these names.
    """
    index = experiment.indices[wanted.dataset]
    read = {reading.partition for reading in wanted.readings}
    gone = sorted(read - {entry.name for entry in index.partitions})
    if gone:
        raise BadInput(
            f"{len(gone)} of {counted_in_words(len(read), PARTITION)} are in the cache and no longer in dataset "
            f"{wanted.dataset}, so that the official names of their scans are not known: {some_of(gone)}.\n"
            f"Put their files back, run `{wanted.commands.index}` and then `{wanted.commands.evaluate}`; or leave out --out."
        )
    return {
        scan.name: scan.result_name
        for entry in index.partitions
        if entry.name in read
        for scan in index.load_partition(entry).scans
    }
