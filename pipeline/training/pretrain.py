"""Pretraining: a student learns to give each point its teacher's feature (ScaLR, section 3.2, equation 1).

Streams the three stores; loads no teacher, opens no image, knows no dataset devkit.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cache_schemas.errors import GriddleError
from pipeline.common.log import log
from pipeline.common.random import scan_key
from pipeline.common.run_files import RESUME
from pipeline.losses.distillation import distillation_loss, losses_of_parts
from pipeline.plan.experiment import Experiment
from pipeline.plan.intensity import intensity_of
from pipeline.plan.left_out import check_left_out
from pipeline.plan.parts import Run
from pipeline.streaming.order import steps_per_epoch
from pipeline.streaming.view_batches import PretrainBatch, PretrainSteps, stream
from pipeline.streaming.view_source import ViewSource
from pipeline.students.backends import backend_for
from pipeline.students.distilled import Distilled, build
from pipeline.students.stochastic_depth import masks
from pipeline.training import checkpoint as checkpoints
from pipeline.training.lease import Lease
from pipeline.training.recorder import Recorder
from pipeline.training.run_folder import finish
from pipeline.training.schedule import rate_of
from pipeline.training.stepping import Stepping, autocast


def features_of(model: Distilled, batch: PretrainBatch, step: int, run: Run) -> tuple[Tensor, list[Tensor]]:
    """The student's features (P, C) and each teacher's (P, C1), (P, C2) ..., of a batch on the model's device."""
    network = run.student.network
    rate = network.stochastic_depth
    drop = None
    if rate and model.training:
        keys = [scan_key(draw.scan.dataset, draw.scan.name) for draw in batch.draws]
        drop = masks(run.seed, step, keys, network.depth, rate).to(batch.clouds.features.device)
    view = batch.view_of_row()
    return model(batch.clouds, drop), [target.sample(view) for target in batch.targets]


def pretrain(experiment: Experiment, run: Run, device: torch.device, lease: Lease) -> Path:
    """Train a run to its end, from its newest checkpoint if there is one; returns the folder.

    Raises:
        BadInput: if there is nothing to learn from.
        GriddleError: if the loss is not finite, with the scans of the batch and the last good checkpoint; or if another trainer
            took the folder over.
        DamagedCache: naming the file, if the cache does not hold what was written.
    """
    folder = experiment.run_path(run)
    student = run.student
    teachers = experiment.teachers_of(student)
    source = ViewSource(experiment.cache, run.readings, teachers)
    scans, unusable = source.scans()
    for name in unusable:
        log(f"  left out: {name}: no camera sees enough points, or their images could not be read")
    unreadable = check_left_out(experiment.config.datasets, source.left_out)
    for line in unreadable:
        log(f"  left out, unreadable: {line}")
    training = student.pretrain
    per_epoch = steps_per_epoch(len(scans), training.batch)
    total = per_epoch * training.epochs
    steps = PretrainSteps(
        source,
        scans,
        run,
        teachers,
        {name: intensity_of(experiment, name) for name in student.datasets},
    )
    backend = backend_for(student.network.backend, device.type)
    model = build(run.student, run.seed, source.channels()).to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=training.lr, weight_decay=training.weight_decay)
    stepping = Stepping(model, optimiser, training.precision, device)
    first = stepping.resume(folder / RESUME, run.id)
    log(
        f"pretrain {run.name} (seed {run.seed}): {len(scans)} scans, {per_epoch} steps an epoch, {total} steps in all, "
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, on {device}, backend {backend}"
        + (f", going on from step {first}" if first else "")
    )
    # Stores open their files at each read, so that workers may be forked after this process listed the scans.
    batches = stream(steps, first, total, experiment.config.workers, pin=device.type == "cuda")
    several = student.teachers if len(teachers) > 1 else ()
    recorder = Recorder(folder, lease, first, total, per_epoch, several, skips=stepping.skipped is not None)
    last_save = time.monotonic()
    try:
        for step in range(first, total):
            waited = time.monotonic()
            batch = next(batches).to(device)
            waited = time.monotonic() - waited
            rate = rate_of(training, step, per_epoch)
            for group in optimiser.param_groups:
                group["lr"] = rate
            with autocast(training.precision, device.type):
                features, wanted = features_of(model, batch, step, run)
                loss = distillation_loss(features, wanted)
            stepping.backward(loss)
            value = loss.item()
            if not np.isfinite(value):
                raise GriddleError(_not_finite(value, step, batch, folder))
            stepping.step()
            parts = [part.item() for part in losses_of_parts(features, wanted)] if several else []
            shares = dict(zip(several, parts, strict=True))
            recorder.step(step + 1, value, rate, batch, waited, shares, stepping.skipped)
            if time.monotonic() - last_save > experiment.config.checkpoint_minutes * 60:
                lease.check()
                stepping.save(folder / RESUME, run.id, step + 1)
                last_save = time.monotonic()
    finally:
        recorder.close()
    lease.check()
    stepping.save(folder / RESUME, run.id, total)
    lease.check()
    finish(
        folder,
        run,
        experiment,
        model,
        device=device,
        steps=total,
        skipped=stepping.skipped,
        hours=recorder.hours,
        unreadable=unreadable,
    )
    return folder


def _not_finite(value: float, step: int, batch: PretrainBatch, folder: Path) -> str:
    scans = "\n".join(f"  {draw.scan.dataset} {draw.scan.name}, view {draw.view}" for draw in batch.draws)
    good = checkpoints.newest(folder / RESUME)
    return (
        f"the loss is {value} at step {step}. The batch's scans:\n{scans}\n"
        f"The last good checkpoint: {good or 'none yet'}. Try a smaller pretrain.lr, `norm: layer`, or "
        f"`precision: float32`."
    )
