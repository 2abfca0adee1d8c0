"""Probing: a linear head learns classes from features that stay as they are (ScaLR, section 4.2, supplement B.3).

A probe is short: one that is killed starts anew. The baseline `scratch` is the same loop with the student trained, too.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cache_schemas.errors import GriddleError
from pipeline.common.log import log
from pipeline.common.progress import pause, tell
from pipeline.config.training import Probe
from pipeline.losses.lovasz import segmentation_loss
from pipeline.plan.experiment import Experiment
from pipeline.plan.probes import ProbeRun
from pipeline.streaming.order import steps_per_epoch
from pipeline.streaming.view_batches import stream
from pipeline.students.backends import backend_for
from pipeline.students.heads import class_head
from pipeline.training.labelled_folder import finish_labelled
from pipeline.training.labelled_task import LabelCount, Task, logits_of, prepare, score
from pipeline.training.lease import Lease
from pipeline.training.probe_features import StudentFeatures
from pipeline.training.schedule import learning_rate
from pipeline.training.stepping import Stepping
from pipeline.training.too_small import TooSmall, mean_by_epoch


def run_probe(experiment: Experiment, probe: ProbeRun, device: torch.device, lease: Lease) -> Path:
    """Train and score a probe; returns its folder.

    Raises:
        GriddleError: if the loss is not finite, the student's weights are not there, or another trainer took the folder over.
        DamagedCache: naming the file, if the cache does not hold what was written.
    """
    folder = experiment.run_path(probe)
    for name in probe.left_out:
        log(f"  left out: {name}: " + ("no labels or no images" if probe.kind == "teacher" else "no labels"))
    task = prepare(experiment, probe, device)
    for line in task.unreadable:
        log(f"  left out, unreadable: {line}")
    classes = experiment.traits[probe.train[0].dataset].classes
    head = class_head(probe.head, task.channels, len(classes), probe.seed).to(device)
    per_epoch = steps_per_epoch(task.scans[0], probe.block.batch, f"{probe.key}.batch")
    backend = ""
    if isinstance(task.features, StudentFeatures):
        backend = f", backend {backend_for(task.features.backbone.backend, device.type)}"
    log(
        f"probe {probe.name}, {probe.kind} (student {probe.run.name}, seed {probe.seed}): {task.scans[0]} scans, "
        f"{per_epoch * probe.epochs} steps in {probe.epochs} epochs, {task.channels} channels, "
        f"{len(classes)} classes, on {device}{backend}"
    )
    started = time.monotonic()
    too_small = TooSmall(probe.key)
    losses = fit(
        task, head, probe, per_epoch, workers=experiment.config.workers, device=device, too_small=too_small
    )
    trained = time.monotonic()
    confusion, ignored = score(task, head, len(classes), workers=experiment.config.workers, device=device)
    seconds = {"train": round(trained - started, 2), "evaluate": round(time.monotonic() - trained, 2)}
    log(
        f"  mIoU {100 * confusion.mean_iou():.2f} % over {int(confusion.counts.sum()):,} points of {task.scans[1]} "
        f"scans, {seconds['train']:.0f} s of training and {seconds['evaluate']:.0f} s of evaluation"
    )
    lease.check()
    finish_labelled(
        experiment,
        probe,
        modules={"head": head, **({"student": task.features} if task.trained else {})},
        confusion=confusion,
        classes=classes,
        ignored=ignored,
        scans=task.scans,
        unreadable=task.unreadable,
        shares=task.shares,
        too_small=too_small,
        losses=losses,
        seconds=seconds,
        device=device,
    )
    return folder


def fit(
    task: Task,
    head: nn.Module,
    probe: ProbeRun,
    per_epoch: int,
    *,
    workers: int,
    device: torch.device,
    too_small: TooSmall | None = None,
) -> list[float | None]:
    """Train the head, and the features where the task says so; returns the mean loss of each epoch, None where all its batches
    were too small to learn from. These are counted in too_small.

    Raises:
        BadInput: if all labels are ignored, or all batches are too small.
        GriddleError: if the loss is not finite.
    """
    too_small = too_small or TooSmall(probe.key)
    config, total = probe.block, per_epoch * probe.epochs
    parameters = [*head.parameters(), *(task.features.parameters() if task.trained else ())]
    optimiser = torch.optim.AdamW(parameters, lr=probe.lr, weight_decay=config.weight_decay)
    stepping = Stepping(head, optimiser, task.precision, device)
    task.features.train(task.trained)
    head.train()
    losses: list[float] = []
    labels = LabelCount(probe.key, per_epoch)
    started = last_line = time.monotonic()
    batches = stream(task.steps, 0, total, workers, pin=device.type == "cuda")
    for step, batch in enumerate(batches):
        batch = batch.to(device)
        rate = probe_rate(config, step, per_epoch, lr=probe.lr, epochs=probe.epochs)
        for group in optimiser.param_groups:
            group["lr"] = rate
        if too_small.skips(len(batch.labels), batch.names):
            losses.append(np.nan)
        else:
            loss = segmentation_loss(logits_of(task, head, batch, step, device), batch.labels)
            stepping.backward(loss)
            losses.append(loss.item())
            if not np.isfinite(losses[-1]):
                raise GriddleError(
                    f"the loss of {probe.folder} is {losses[-1]} at step {step}; try a smaller {probe.key}.lr"
                )
            stepping.step()
        labels.add(step, batch.labels)
        now = time.monotonic()
        if now - last_line > pause() or step + 1 == total:
            last_line = now
            left = (now - started) / (step + 1) * (total - step - 1)
            value = "none" if np.isnan(losses[-1]) else f"{losses[-1]:.4f}"
            line = f"  step {step + 1}/{total}  loss {value}  lr {rate:.2e}  {left:.0f} s left"
            tell((step + 1) / total, line)
    too_small.check(total)
    if stepping.skipped:
        log(f"  {stepping.skipped} of {total} steps skipped: their gradients overflowed float16")
    return mean_by_epoch(losses, per_epoch)


def probe_rate(block: Probe, step: int, per_epoch: int, *, lr: float, epochs: int) -> float:
    """The rate of a probe's step; `lr` and `epochs` are the block's own, or those of its baseline `scratch`."""
    total = per_epoch * epochs
    return learning_rate(
        step,
        peak=lr,
        minimum=min(block.min_lr, lr),
        warmup_steps=min(block.warmup_epochs * per_epoch, total - 1),
        total_steps=total,
    )
