"""A student and the head that leads to its teachers' features, as one module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.config.model import Student
from pipeline.geometry.grid import plane_grid_of
from pipeline.students.heads import head_of
from pipeline.students.packed import PackedClouds
from pipeline.students.waffleiron import WaffleIron


class Distilled(nn.Module):
    """A student and the head that leads to its teachers' features, `channels` in all."""

    def __init__(self, student: Student, channels: int) -> None:
        super().__init__()
        network = student.network
        self.backbone = WaffleIron(
            width=network.width,
            depth=network.depth,
            plane_shapes=plane_grid_of(student.points).shapes,
            norm=network.norm,
            activation=network.activation,
            drop_path=network.stochastic_depth,
            backend=network.backend,
            averaging=network.averaging,
            checkpointing=network.checkpointing,
            padding_aware=network.padding_aware,
        )
        self.head = head_of(network.head, network.width, channels, network.head_width)

    def forward(self, clouds: PackedClouds, drop: Tensor | None) -> Tensor:
        """Features (P, channels) of the clouds' points, in the teachers' space."""
        out: Tensor = self.head(self.backbone(clouds, drop))  # (P, channels)
        return out


def build(student: Student, seed: int, channels: int) -> Distilled:
    """The model of a student, its weights drawn from the seed alone; the student's before the head's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Distilled(student, channels)
