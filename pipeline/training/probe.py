"""Probing: a linear head learns classes from features that stay as they are (ScaLR, section 4.2, supplement B.3).

A probe is short: one that is killed starts anew. The baseline `scratch` is the same loop with the student trained, too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from cache_schemas.errors import GriddleError
from pipeline.intensity import intensity_of
from pipeline.log import log
from pipeline.losses.lovasz import segmentation_loss
from pipeline.metrics.confusion import Confusion
from pipeline.plan import Plan
from pipeline.plan_probes import ProbeRun
from pipeline.streaming.batches import stream
from pipeline.streaming.order import steps_per_epoch
from pipeline.streaming.scan_source import ScanSource
from pipeline.streaming.scans import EvaluationScans, ScanSteps
from pipeline.streaming.seen import EvaluationSeen, SeenSource, SeenSteps
from pipeline.students.backends import backend_for
from pipeline.students.heads import ProbeHead
from pipeline.training.probe_folder import finish_probe
from pipeline.training.probed import RawInputs, StudentFeatures, TeacherFeatures, student_features
from pipeline.training.schedule import learning_rate
from pipeline.unreadable import allowed

LOG_SECONDS = 5.0


@dataclass(frozen=True)
class Task:
    """A probe with all that it reads.

    Attributes:
        features: a module from a batch and a step to (P, channels).
        trained: whether the features learn, too.
        steps: item `step` is the batch of that training step; batches as `ScanBatch` or `SeenBatch`.
        scored, batches: the evaluated split, in so many batches.
        scans: in training and in evaluation.
        unreadable: files that neither of them has, as they could not be read when the cache was written, in words.
    """

    features: nn.Module
    channels: int
    trained: bool
    steps: Dataset[Any]
    scored: Dataset[Any]
    batches: int
    scans: tuple[int, int]
    unreadable: list[str]


def run_probe(plan: Plan, probe: ProbeRun, device: torch.device) -> Path:
    """Train and score a probe; returns its folder.

    Raises:
        GriddleError: if the loss is not finite, or the student's weights are not there.
        DamagedCache: naming the file, if the cache does not hold what was written.
    """
    folder = plan.workdir / probe.folder
    for name in probe.left_out:
        log(f"  left out: {name}: " + ("no labels or no images" if probe.kind == "teacher" else "no labels"))
    task = prepare(plan, probe, device)
    for told in task.unreadable:
        log(f"  left out, unreadable: {told}")
    classes = plan.traits[probe.train[0].dataset].classes
    head = ProbeHead(task.channels, len(classes)).to(device)
    per_epoch = steps_per_epoch(task.scans[0], probe.probe.batch, f"probes.{probe.name}.batch")
    backend = ""
    if isinstance(task.features, StudentFeatures):
        backend = f", backend {backend_for(task.features.backbone.backend, device.type)}"
    log(
        f"probe {probe.name}, {probe.kind} (student {probe.run.name}, seed {probe.seed}): {task.scans[0]} scans, "
        f"{per_epoch * probe.epochs} steps in {probe.epochs} epochs, {task.channels} channels, "
        f"{len(classes)} classes, on {device}{backend}"
    )
    started = time.monotonic()
    losses = fit(task, head, probe, per_epoch, workers=plan.config.workers, device=device)
    trained = time.monotonic()
    confusion, ignored = score(task, head, len(classes), workers=plan.config.workers, device=device)
    seconds = {"train": round(trained - started, 2), "evaluate": round(time.monotonic() - trained, 2)}
    log(
        f"  mIoU {100 * confusion.mean_iou():.2f} % over {int(confusion.counts.sum()):,} points of {task.scans[1]} "
        f"scans, {seconds['train']:.0f} s of training and {seconds['evaluate']:.0f} s of evaluation"
    )
    finish_probe(
        plan,
        probe,
        modules={"head": head, **({"student": task.features} if task.trained else {})},
        confusion=confusion,
        classes=classes,
        ignored=ignored,
        scans=task.scans,
        unreadable=task.unreadable,
        losses=losses,
        seconds=seconds,
        device=device,
    )
    return folder


def prepare(plan: Plan, probe: ProbeRun, device: torch.device) -> Task:
    """The features and the batches of a probe."""
    if probe.kind == "teacher":
        return _prepare_teacher(plan, probe)
    points = probe.student.points
    if probe.kind == "inputs":
        points = points.model_copy(update={"neighbours": 1})  # nothing looks at them
    intensity = {
        name: intensity_of(plan, name)
        for name in dict.fromkeys(r.dataset for r in (*probe.train, *probe.evaluate))
    }
    training, scoring = ScanSource(plan.cache, probe.train), ScanSource(plan.cache, probe.evaluate)
    scans, scored = training.scans(), scoring.scans()
    features = RawInputs() if probe.kind == "inputs" else student_features(plan, probe, device)
    steps = ScanSteps(
        training,
        scans,
        seed=probe.seed,
        batch=probe.probe.batch,
        points=points,
        augmentation=probe.probe.augment,
        intensity=intensity,
    )
    whole = EvaluationScans(scoring, scored, points=points, intensity=intensity)
    return Task(
        features.to(device),
        features.channels,
        probe.kind == "scratch",
        steps,
        whole,
        len(whole),
        (len(scans), len(scored)),
        _together(plan, training, scoring),
    )


def _prepare_teacher(plan: Plan, probe: ProbeRun) -> Task:
    teachers = plan.teachers_of(probe.student)

    def source(readings: Sequence[Any]) -> SeenSource:
        return SeenSource(
            plan.cache,
            readings,
            teachers=teachers,
            sampling=probe.student.sampling,
        )

    training, scoring = source(probe.train), source(probe.evaluate)
    scans, scored = training.scans(), scoring.scans()
    features = TeacherFeatures(training.channels)
    steps = SeenSteps(training, scans, seed=probe.seed, batch=probe.probe.batch)
    seen = EvaluationSeen(scoring, scored)
    counts = len(scans), len(scored)
    unreadable = _together(plan, training, scoring)
    return Task(features, features.channels, False, steps, seen, len(seen), counts, unreadable)


def _together(plan: Plan, *sources: ScanSource | SeenSource) -> list[str]:
    """What the sources left out, each once: a split may be trained on and scored."""
    found = (told for source in sources for told in allowed(plan.config.datasets, source.left_out))
    return list(dict.fromkeys(found))


def fit(
    task: Task, head: ProbeHead, probe: ProbeRun, per_epoch: int, *, workers: int, device: torch.device
) -> list[float]:
    """Train the head, and the features where the task says so; returns the mean loss of each epoch."""
    config, total = probe.probe, per_epoch * probe.epochs
    parameters = [*head.parameters(), *(task.features.parameters() if task.trained else ())]
    optimiser = torch.optim.AdamW(parameters, lr=probe.lr, weight_decay=config.weight_decay)
    task.features.train(task.trained)
    head.train()
    losses: list[float] = []
    started = last_line = time.monotonic()
    batches = stream(task.steps, 0, total, workers, pin=device.type == "cuda")
    for step, batch in enumerate(batches):
        batch = batch.to(device)
        rate = learning_rate(
            step,
            peak=probe.lr,
            minimum=min(config.min_lr, probe.lr),
            warmup_steps=min(round(config.warmup_epochs * per_epoch), total - 1),
            total_steps=total,
        )
        for group in optimiser.param_groups:
            group["lr"] = rate
        with torch.set_grad_enabled(task.trained):
            features = task.features(batch, step)  # (P, channels)
        loss = segmentation_loss(head(features), batch.labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        if not np.isfinite(losses[-1]):
            raise GriddleError(
                f"the loss of {probe.folder} is {losses[-1]} at step {step}; try a smaller probes.{probe.name}.lr"
            )
        now = time.monotonic()
        if now - last_line > LOG_SECONDS or step + 1 == total:
            last_line = now
            left = (now - started) / (step + 1) * (total - step - 1)
            log(f"  step {step + 1}/{total}  loss {losses[-1]:.4f}  lr {rate:.2e}  {left:.0f} s left")
    return [float(np.mean(losses[first : first + per_epoch])) for first in range(0, total, per_epoch)]


@torch.no_grad()
def score(
    task: Task, head: ProbeHead, classes: int, *, workers: int, device: torch.device
) -> tuple[Confusion, int]:
    """The confusion matrix over every labelled point of the evaluated split, and how many had no label."""
    task.features.eval()
    head.eval()
    confusion, points = Confusion(classes), 0
    for batch in stream(task.scored, 0, task.batches, workers, pin=device.type == "cuda"):
        batch = batch.to(device)
        prediction = head(task.features(batch, 0)).argmax(dim=1)[batch.nearest]  # (N,)
        confusion.add(batch.labels.cpu().numpy(), prediction.cpu().numpy())
        points += len(batch.labels)
    return confusion, points - int(confusion.counts.sum())
