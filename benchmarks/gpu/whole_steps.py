"""Whole pretraining steps on a device, as a training takes them: from the cache, and with the teacher in every step.

    cached      patch grids come from the cache, as `griddle pretrain` does it
    online      pictures come from the loader, decoded and resized; our teacher runs in the step; the same student
    published   the same pictures; the authors' teacher, its features made as large as the picture, and their network

All three take the points of a view from the cache: how the published code makes them is not compared here
(benchmarks/sample.py does), and its devkit is not needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from pipeline.config.model import Teacher
from pipeline.config.training import Precision
from pipeline.datasets.records import ScanRecord
from pipeline.losses.distillation import distillation_loss
from pipeline.plan.parts import Run
from pipeline.streaming.grids import TargetBatch
from pipeline.streaming.view_batches import PretrainBatch, PretrainSteps
from pipeline.students.distilled import build
from pipeline.teachers.images import load_input
from pipeline.teachers.loaded import LoadedTeacher
from pipeline.training.pretrain import features_of
from pipeline.training.stepping import Stepping, autocast

SIDES = ("cached", "online", "published")


@dataclass(frozen=True)
class OnlineBatch:
    """A step's points with their pictures. padded: the points as the authors' network takes them, where that is asked for."""

    points: PretrainBatch
    images: Tensor  # (V, 3, H, W) float32 in [0, 1]
    padded: tuple[Tensor, ...] = ()

    def pin_memory(self) -> OnlineBatch:
        padded = tuple(tensor.pin_memory() for tensor in self.padded)
        return OnlineBatch(self.points.pin_memory(), self.images.pin_memory(), padded)

    def to(self, device: torch.device) -> OnlineBatch:
        padded = tuple(tensor.to(device, non_blocking=True) for tensor in self.padded)
        return OnlineBatch(self.points.to(device), self.images.to(device, non_blocking=True), padded)


class OnlineSteps(Dataset[OnlineBatch]):
    """Item `step` is the batch of `PretrainSteps` with the pictures that its views are of.

    The patch grids are read, too, and not used: a millisecond beside the decoding.
    """

    def __init__(
        self,
        steps: PretrainSteps,
        root: Path,
        scans: tuple[ScanRecord, ...],
        each: int,
        size: tuple[int, int],
        pad: bool = False,
    ) -> None:
        """each: scans in a partition; all have as many pictures. size: height and width of the teacher's input."""
        self._steps, self._root, self._scans, self._each, self._size = steps, root, scans, each, size
        self._pad = pad

    def __getitem__(self, step: int) -> OnlineBatch:
        batch = self._steps[step]
        images = [self._image(draw.scan.reading, draw.view) for draw in batch.draws]
        padded: tuple[Tensor, ...] = ()
        if self._pad:
            from published import padded as pad

            padded = pad(batch.clouds, batch.clouds.features)
        return OnlineBatch(batch, torch.stack(images), padded)

    def _image(self, partition: int, view: int) -> Tensor:
        scan, number = divmod(view, len(self._scans[0].images))
        image = self._scans[partition * self._each + scan].images[number]
        return load_input(self._root, image, self._size, antialias=False)


class Trainee:
    """A student of ours on its way.

    Attributes:
        points: of the last step.
    """

    def __init__(self, run: Run, channels: int, device: torch.device) -> None:
        training = run.student.pretrain
        self._run, self._device = run, device
        self.precision: Precision = training.precision
        model = build(run.student, run.seed, channels).to(device).train()
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=training.weight_decay)
        self._model, self._stepping = model, Stepping(model, optimiser, training.precision, device)
        self.points = 0

    def cached(self, batch: PretrainBatch, number: int) -> float:
        """One step as `pipeline.training.pretrain` takes it; the batch lies on the device. Returns the loss."""
        with autocast(self.precision, self._device.type):
            found, wanted = features_of(self._model, batch, number, self._run)
            loss = distillation_loss(found, wanted)
        self.points = len(found)
        self._stepping.backward(loss)
        value = loss.item()
        self._stepping.step()
        return value

    def online(self, teacher: LoadedTeacher) -> Callable[[OnlineBatch, int], float]:
        """Steps whose targets the teacher computes."""

        def step(batch: OnlineBatch, number: int) -> float:
            target = TargetBatch(grids_of(teacher, batch.images), None, batch.points.targets[0].coordinates)
            return self.cached(replace(batch.points, targets=(target,)), number)

        return step


@torch.no_grad()
def grids_of(teacher: LoadedTeacher, images: Tensor) -> Tensor:
    """As `LoadedTeacher.features`, on the device that the images are on: (V, rows, cols, C)."""
    x = (images - teacher.mean) / teacher.std
    low = teacher.config.precision == "bfloat16"
    with torch.autocast(teacher.device.type, dtype=torch.bfloat16, enabled=low):
        grid = teacher.read(x)  # (V, C, rows, cols)
    return grid.float().permute(0, 2, 3, 1).contiguous()


class PublishedTrainee:
    """The authors' network and teacher, put together as their training loop does it."""

    def __init__(
        self, teacher: nn.Module, student: nn.Module, precision: Precision, device: torch.device
    ) -> None:
        self._teacher, self._student, self._precision = (
            teacher.to(device),
            student.to(device).train(),
            precision,
        )
        optimiser = torch.optim.AdamW(self._student.parameters(), lr=1e-4, weight_decay=0.03)
        self._stepping = Stepping(self._student, optimiser, precision, device)
        self._device = device

    def step(self, batch: OnlineBatch, number: int) -> float:
        with autocast(self._precision, self._device.type):
            features = self._teacher(batch.images).permute(0, 2, 3, 1)  # (V, H, W, C)
            found = self._student(*batch.padded)  # (V, C, n)
            rows = self._rows(found, batch)  # (P, C)
            view, line, column = self._pixels(batch, features.shape[1:3])
            ours = F.normalize(rows, p=2, dim=1)
            target = F.normalize(features[view, line, column], p=2, dim=1)
            loss = torch.norm(ours - target, dim=1, p=2).mean()
        self._stepping.backward(loss)
        value = loss.item()
        self._stepping.step()
        return value

    @staticmethod
    def _rows(found: Tensor, batch: OnlineBatch) -> Tensor:
        from published import unpadded

        return unpadded(found, batch.points.clouds)

    @staticmethod
    def _pixels(batch: OnlineBatch, size: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
        """View, line and column of each point's pixel in the features that were made as large as the picture."""
        target = batch.points.targets[0]
        rows, cols = target.values.shape[1:3]
        column = (target.coordinates[:, 0] * ((size[1] - 1) / (cols - 1))).round().long()
        line = (target.coordinates[:, 1] * ((size[0] - 1) / (rows - 1))).round().long()
        return batch.points.view_of_row(), line, column


def variant(run: Run, batch: int, precision: Precision, **network: Any) -> Run:
    """The same run with another network: the caches that it reads stay."""
    student = run.student
    of_network = student.network.model_copy(update=network)
    of_pretrain = student.pretrain.model_copy(update={"batch": batch, "precision": precision})
    return replace(run, student=student.model_copy(update={"network": of_network, "pretrain": of_pretrain}))


def untrained(teacher: Teacher, precision: str) -> Teacher:
    """With weights that are drawn: they cost the same."""
    return teacher.model_copy(update={"weights": "untrained", "precision": precision, "storage": "float16"})
