"""Heads of a student: distillation heads, which lead to the teachers' channels, and heads of probes, which lead to classes.

`authors.py` gives the authors' names of their tensors; a `JointHead` was not released.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn


class LinearHead(nn.Module):
    """One linear layer with bias from the student's channels to the teacher's (ScaLR, section 3.2)."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, out)

    def forward(self, features: Tensor) -> Tensor:
        """features: (P, width). Returns (P, out)."""
        out: Tensor = self.linear(features)  # (P, out)
        return out


class MlpHead(nn.Module):
    """Two linear layers with a ReLU between and no norm (ScaLR+)."""

    def __init__(self, width: int, out: int, hidden: int = 2048) -> None:
        super().__init__()
        self.linear_in = nn.Linear(width, hidden)
        self.linear_out = nn.Linear(hidden, out)

    def forward(self, features: Tensor) -> Tensor:
        """features: (P, width). Returns (P, out)."""
        hidden = self.linear_in(features).relu()  # (P, hidden)
        out: Tensor = self.linear_out(hidden)  # (P, out)
        return out


class JointHead(nn.Module):
    """Two linear layers with LayerNorm and ReLU between, for several teachers at once (ScaLR, supplement B.2)."""

    def __init__(self, width: int, out: int, hidden: int) -> None:
        super().__init__()
        self.linear_in = nn.Linear(width, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.linear_out = nn.Linear(hidden, out)

    def forward(self, features: Tensor) -> Tensor:
        """features: (P, width). Returns (P, out)."""
        hidden = self.norm(self.linear_in(features)).relu()  # (P, hidden)
        out: Tensor = self.linear_out(hidden)  # (P, out)
        return out


def head_of(kind: str | None, width: int, out: int, hidden: int | None) -> nn.Module:
    """The distillation head that a config names: `linear`, `mlp` (2,048 hidden channels unless said), or `joint` (twice the
    student's width unless said)."""
    if kind == "linear":
        return LinearHead(width, out)
    if kind == "mlp":
        return MlpHead(width, out, hidden or 2048)
    if kind == "joint":
        return JointHead(width, out, hidden or 2 * width)
    raise ValueError(f"there is no head {kind!r}")


class ProbeHead(nn.Module):
    """BatchNorm and a linear layer that starts at zero (ScaLR, section 4.2): for probes and finetuning.

    In a probe only this head is in training mode: its BatchNorm takes the batch's statistics.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.linear = nn.Linear(width, classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """features: (P, width). Returns logits (P, classes)."""
        logits: Tensor = self.linear(self.norm(features))  # (P, classes)
        return logits


class MlpProbeHead(nn.Module):
    """BatchNorm and two linear layers with a ReLU between; the last one starts at zero. An option of probes."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.linear_in = nn.Linear(width, width)
        self.linear = nn.Linear(width, classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """features: (P, width). Returns logits (P, classes)."""
        logits: Tensor = self.linear(self.linear_in(self.norm(features)).relu())  # (P, classes)
        return logits


def class_head(kind: Literal["linear", "mlp"], width: int, classes: int, seed: int) -> nn.Module:
    """The head of a probe, its weights drawn from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ProbeHead(width, classes) if kind == "linear" else MlpProbeHead(width, classes)
