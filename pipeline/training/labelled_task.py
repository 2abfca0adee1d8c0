"""What probes and finetunings share: batches, forward pass, and scoring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from cache_schemas.errors import BadInput
from pipeline.config.training import Precision
from pipeline.datasets.splits import full_name
from pipeline.losses.lovasz import IGNORE
from pipeline.plan.experiment import Experiment
from pipeline.plan.intensity import intensity_of
from pipeline.plan.label_subset import choose
from pipeline.plan.labelled import LabelledRun
from pipeline.plan.left_out import check_left_out
from pipeline.plan.split_share import SplitShare, shares_of
from pipeline.streaming.order import dataset_sizes
from pipeline.streaming.scan_batches import ScanSteps
from pipeline.streaming.scan_source import LabelledPlace, ScanSource
from pipeline.streaming.seen_points import EvaluationSeen, SeenSource, SeenSteps
from pipeline.streaming.view_batches import stream
from pipeline.streaming.votes import Votes
from pipeline.training.confusion import Confusion
from pipeline.training.probe_features import TeacherFeatures, point_features
from pipeline.training.stepping import autocast


@dataclass(frozen=True)
class Task:
    """A probe or a finetuning, with its features and its batches.

    Attributes:
        features: a module from a batch and a step to (P, channels).
        trained: whether the features learn, too.
        steps: item `step` is the batch of that training step; batches as `ScanBatch` or `SeenBatch`.
        scored, batches: the evaluated split, and its number of batches; each batch comes `votes` times in a row.
        scans: in training and in evaluation.
        unreadable: a line for each file that could not be read when the cache was written, and that neither split has.
        shares: on how much of the evaluated split the score stands, for each dataset.
    """

    features: nn.Module
    channels: int
    trained: bool
    steps: Dataset[Any]
    scored: Dataset[Any]
    batches: int
    scans: tuple[int, int]
    unreadable: list[str]
    precision: Precision = "float32"
    votes: int = 1
    shares: tuple[SplitShare, ...] = ()


def prepare(experiment: Experiment, run: LabelledRun, device: torch.device) -> Task:
    """The features and the batches of a probe or a finetuning.

    Raises:
        BadInput: if there are too few scans to learn from, or chosen ones that are not there, or all labels are ignored.
        GriddleError: if the student's weights are not there.
    """
    if run.kind == "teacher":
        return _prepare_teacher(experiment, run)
    points, block = run.points, run.block
    if run.kind == "inputs":
        points = points.model_copy(update={"neighbours": 1})  # nothing looks at them
    intensity = {
        name: intensity_of(experiment, name)
        for name in dict.fromkeys(reading.dataset for reading in (*run.train, *run.evaluate))
    }
    training, scoring = (
        ScanSource(experiment.cache, run.train),
        ScanSource(experiment.cache, run.evaluate),
    )
    scans, scored = _chosen(run, training), scoring.scans()
    _check_labels(run, f"the {', '.join(run.block.splits)} split, which it learns from", training)
    _check_labels(run, f"the {run.block.evaluate} split, on which it is scored", scoring)
    features = point_features(experiment, run, device)
    steps = ScanSteps(
        training,
        scans,
        seed=run.seed,
        batch=block.batch,
        points=points,
        augmentation=block.augment,
        intensity=intensity,
        purpose=run.what,
    )
    voted = Votes(
        scoring,
        scored,
        votes=block.votes,
        seed=run.seed,
        points=points,
        augmentation=block.augment,
        intensity=intensity,
    )
    return Task(
        features.to(device),
        features.channels,
        run.trains_student,
        steps,
        voted,
        voted.batches,
        (len(scans), len(scored)),
        _together(experiment, training, scoring),
        block.precision,
        block.votes,
        shares_of(experiment, run.evaluate, dataset_sizes(scored)),
    )


def _check_labels(run: LabelledRun, where: str, source: ScanSource) -> None:
    """Raise BadInput where no point of a split has a class: nothing can be learnt there, nor scored."""
    classed, points = source.labels
    if points and not classed:
        datasets = ", ".join(dict.fromkeys(reading.dataset for reading in run.train))
        raise BadInput(
            f"{run.key}: none of {points:,} points in {where}, has a class: all labels are ignored. Look at the label "
            f"files of {datasets}: do they hold the ids that the reader's classes are made from?"
        )


def _chosen(run: LabelledRun, source: ScanSource | SeenSource) -> Sequence[LabelledPlace]:
    """The scans that it learns from."""
    scans = source.scans()
    names: list[tuple[str, str]] = []
    if run.block.scans is not None:
        partitions = [reading.partition for reading in run.train]
        names = [(full_name(partitions[place.reading], place.name), place.name) for place in scans]
    return choose(run.key, run.block, scans, names)


def _prepare_teacher(experiment: Experiment, run: LabelledRun) -> Task:
    teachers = experiment.teachers_of(run.student)

    def source(readings: Sequence[Any]) -> SeenSource:
        return SeenSource(
            experiment.cache,
            readings,
            teachers=teachers,
            sampling=run.student.sampling,
        )

    training, scoring = source(run.train), source(run.evaluate)
    scans, scored = _chosen(run, training), scoring.scans()
    features = TeacherFeatures(training.channels)
    steps = SeenSteps(training, scans, seed=run.seed, batch=run.block.batch)
    seen = EvaluationSeen(scoring, scored)
    counts = len(scans), len(scored)
    unreadable = _together(experiment, training, scoring)
    shares = shares_of(experiment, run.evaluate, dataset_sizes(scored), images=True)
    return Task(features, features.channels, False, steps, seen, len(seen), counts, unreadable, shares=shares)


def _together(experiment: Experiment, *sources: ScanSource | SeenSource) -> list[str]:
    """What the sources left out, each file once: a split may be both trained on and scored."""
    lines = (
        line for source in sources for line in check_left_out(experiment.config.datasets, source.left_out)
    )
    return list(dict.fromkeys(lines))


def logits_of(task: Task, head: nn.Module, batch: Any, step: int, device: torch.device) -> Tensor:
    """Logits (P, classes) of a batch on the device. Gradients reach the features only if these are trained."""
    with autocast(task.precision, device.type):
        with torch.set_grad_enabled(task.trained and torch.is_grad_enabled()):
            features = task.features(batch, step)  # (P, channels)
        logits: Tensor = head(features)  # (P, classes)
    return logits


class LabelCount:
    """Counts labelled points in the first epoch. Without it, a training whose labels are all ignored would learn nothing and
    raise no error."""

    def __init__(self, key: str, per_epoch: int) -> None:
        self._key, self._per_epoch = key, per_epoch
        self._labelled = self._points = 0

    def add(self, step: int, labels: Tensor) -> None:
        """Of the batch of a step, counted from 0.

        Raises:
            BadInput: after the first epoch, if no point had a label.
        """
        if step >= self._per_epoch:
            return
        self._labelled += int((labels != IGNORE).sum())
        self._points += len(labels)
        if step + 1 == self._per_epoch and not self._labelled and self._points:
            raise BadInput(
                f"{self._key}: none of {self._points:,} points that it learns from has a class, all labels are ignored. Look "
                f"at the labels' files, and at `every` and `scans` of {self._key}"
            )


@torch.no_grad()
def predictions(
    task: Task, head: nn.Module, *, workers: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each batch of the evaluated split the class (N,) and the label (N,) of every point, on the device. 255 is ignored."""
    task.features.eval()
    head.eval()
    total: Tensor | None = None
    batches = stream(task.scored, 0, task.batches * task.votes, workers, pin=device.type == "cuda")
    for item, batch in enumerate(batches):
        batch = batch.to(device)
        logits = logits_of(task, head, batch, 0, device)
        if task.votes > 1:
            voted = logits.float().softmax(dim=1)[batch.nearest]  # (N, classes)
            total = voted if total is None else total + voted
            if (item + 1) % task.votes:
                continue
            yield total.argmax(dim=1), batch.labels
            total = None
        else:
            yield logits.argmax(dim=1)[batch.nearest], batch.labels


def score(
    task: Task, head: nn.Module, classes: int, *, workers: int, device: torch.device
) -> tuple[Confusion, int]:
    """The confusion matrix over every labelled point of the evaluated split, and how many had no label."""
    confusion, points = Confusion(classes), 0
    for prediction, labels in predictions(task, head, workers=workers, device=device):
        confusion.add(labels.cpu().numpy(), prediction.cpu().numpy())
        points += len(labels)
    return confusion, points - int(confusion.counts.sum())
