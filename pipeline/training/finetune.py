"""Finetuning: student and head learn from labels, each layer at a rate of its own (ScaLR, supplement B.4).

As published: the network is in training mode, also its batch-norm statistics; the loss is cross-entropy plus Lovasz-softmax;
branches are dropped (stochastic depth); the head is a batch norm and a linear layer that starts at zero; after the last epoch the
student is scored at full resolution. A finetuning is long: like a pretraining it goes on from its newest checkpoint.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cache_schemas.errors import GriddleError
from pipeline.common.log import log
from pipeline.common.run_files import CURVE, RESUME
from pipeline.config.training import Finetune
from pipeline.losses.lovasz import segmentation_loss
from pipeline.plan.experiment import Experiment
from pipeline.plan.finetunes import FinetuneRun
from pipeline.streaming.order import steps_per_epoch
from pipeline.streaming.scan_batches import ScanSteps
from pipeline.streaming.view_batches import stream
from pipeline.students.heads import ProbeHead
from pipeline.training import checkpoint as checkpoints
from pipeline.training.labelled_folder import finish_labelled
from pipeline.training.labelled_task import LabelCount, Task, logits_of, prepare, score
from pipeline.training.lease import Lease
from pipeline.training.parameter_groups import for_optimiser, layer_groups
from pipeline.training.recorder import Recorder, read_metrics
from pipeline.training.schedule import learning_rate
from pipeline.training.stepping import Stepping
from pipeline.training.too_small import TooSmall, mean_by_epoch


def finetune(experiment: Experiment, run: FinetuneRun, device: torch.device, lease: Lease) -> Path:
    """Train to the end, from the newest checkpoint if there is one, then score; returns the folder.

    Raises:
        BadInput: if there is nothing to learn from.
        GriddleError: if the loss is not finite, or the student's weights are not there.
        DamagedCache: naming the file, if the cache does not hold what was written.
    """
    folder, block = experiment.run_path(run), run.block
    for name in run.left_out:
        log(f"  left out: {name}: no labels")
    task = prepare(experiment, run, device)
    for line in task.unreadable:
        log(f"  left out, unreadable: {line}")
    classes = experiment.traits[run.train[0].dataset].classes
    head = ProbeHead(task.channels, len(classes)).to(device)
    per_epoch = steps_per_epoch(task.scans[0], block.batch, f"{run.key}.batch")
    total = per_epoch * block.epochs
    model = model_of(task, head)
    optimiser = optimiser_of(block, run.student.network.depth, model)
    stepping = Stepping(model, optimiser, block.precision, device)
    first = stepping.resume(folder / RESUME, run.id)
    log(
        f"finetune {run.name} of {run.run.name} (seed {run.seed}) from "
        f"{'nothing' if run.kind == 'nothing' else 'its pretraining'}: {task.scans[0]} scans, {total} steps in {block.epochs} "
        f"epochs, {len(classes)} classes, on {device}" + (f", going on from step {first}" if first else "")
    )
    folder.mkdir(parents=True, exist_ok=True)
    recorder = Recorder(
        folder, lease, first, total, per_epoch, what="finetune", skips=stepping.skipped is not None
    )
    too_small = TooSmall(run.key)
    try:
        _train(
            experiment,
            run,
            task,
            head,
            stepping,
            optimiser,
            recorder,
            lease,
            first,
            per_epoch,
            device,
            too_small,
        )
    finally:
        recorder.close()
    if first:  # those before the restart, too
        too_small = skipped_in(folder, run.key, task)
    too_small.check(total)
    trained = time.monotonic()
    confusion, ignored = score(task, head, len(classes), workers=experiment.config.workers, device=device)
    log(
        f"  mIoU {100 * confusion.mean_iou():.2f} % over {int(confusion.counts.sum()):,} points of {task.scans[1]} scans"
    )
    lease.check()
    finish_labelled(
        experiment,
        run,
        modules={"head": head, "student": task.features},
        confusion=confusion,
        classes=classes,
        ignored=ignored,
        scans=task.scans,
        unreadable=task.unreadable,
        shares=task.shares,
        too_small=too_small,
        losses=loss_by_epoch(folder, per_epoch),
        seconds={"evaluate": round(time.monotonic() - trained, 2)},
        device=device,
        steps=total,
        skipped=stepping.skipped,
        hours=recorder.hours,
    )
    return folder


def model_of(task: Task, head: nn.Module) -> nn.ModuleDict:
    """Student and head under the names that their rates go by: `backbone` and `head`."""
    backbone = task.features.backbone
    assert isinstance(backbone, nn.Module)
    return nn.ModuleDict({"backbone": backbone, "head": head})


def optimiser_of(block: Finetune, depth: int, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW with a rate for each layer of a student of so many layers."""
    groups = layer_groups(
        model.named_parameters(),
        depth=depth,
        layer_decay=block.layer_decay,
        weight_decay=block.weight_decay,
    )
    return torch.optim.AdamW(for_optimiser(groups, block.lr))


def set_rates(optimiser: torch.optim.Optimizer, block: Finetune, step: int, per_epoch: int) -> float:
    """Set each group's rate for a step; returns the head's."""
    total = per_epoch * block.epochs

    def rate(peak: float) -> float:
        return learning_rate(
            step,
            peak=peak,
            minimum=block.min_lr / block.lr * peak,
            warmup_steps=min(block.warmup * per_epoch, total - 1),
            total_steps=total,
        )

    for group in optimiser.param_groups:
        group["lr"] = rate(group["base"])
    return rate(block.lr)


def _train(
    experiment: Experiment,
    run: FinetuneRun,
    task: Task,
    head: nn.Module,
    stepping: Stepping,
    optimiser: torch.optim.Optimizer,
    recorder: Recorder,
    lease: Lease,
    first: int,
    per_epoch: int,
    device: torch.device,
    too_small: TooSmall,
) -> None:
    folder, total = experiment.run_path(run), per_epoch * run.block.epochs
    task.features.train()
    head.train()
    labels = LabelCount(run.key, per_epoch)
    last_save = time.monotonic()
    batches = stream(task.steps, first, total, experiment.config.workers, pin=device.type == "cuda")
    for step in range(first, total):
        waited = time.monotonic()
        batch = next(batches).to(device)
        waited = time.monotonic() - waited
        rate = set_rates(optimiser, run.block, step, per_epoch)
        value = np.nan
        if not too_small.skips(len(batch.labels), batch.names):
            loss = segmentation_loss(logits_of(task, head, batch, step, device), batch.labels)
            stepping.backward(loss)
            value = loss.item()
            if not np.isfinite(value):
                raise GriddleError(
                    f"the loss of {run.folder} is {value} at step {step}. The batch's scans:\n"
                    + "\n".join(f"  {name}" for name in batch.names)
                    + f"\nThe last good checkpoint: {checkpoints.newest(folder / RESUME) or 'none yet'}. Try a smaller "
                    f"{run.key}.lr, or `precision: float32`."
                )
            stepping.step()
        labels.add(step, batch.labels)
        recorder.step(step + 1, value, rate, batch, waited, skipped=stepping.skipped)
        if time.monotonic() - last_save > experiment.config.checkpoint_minutes * 60:
            lease.check()
            stepping.save(folder / RESUME, run.id, step + 1)
            last_save = time.monotonic()
    if first < total:
        lease.check()
        stepping.save(folder / RESUME, run.id, total)


def loss_by_epoch(folder: Path, per_epoch: int) -> list[float | None]:
    """The mean loss of each epoch, also of the epochs before a restart; None where all batches were too small."""
    return mean_by_epoch([float(row["loss"]) for row in read_metrics(folder / CURVE)], per_epoch)


def skipped_in(folder: Path, key: str, task: Task) -> TooSmall:
    """The batches that were too small, also before a restart: their loss is NaN in the curve."""
    too_small, steps = TooSmall(key), task.steps
    assert isinstance(steps, ScanSteps)
    for row in read_metrics(folder / CURVE):
        if np.isnan(float(row["loss"])):
            too_small.add(steps.names(int(row["step"]) - 1))
    return too_small
