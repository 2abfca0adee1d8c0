"""The mixes under torch.compile: one graph for batches of all sizes, whatever the layer.

A batch changes the numbers of rows and of cells at every step. They are marked as changing from the first call on, so
that no batch is compiled for by itself; what remains fixed is the width, the types and whether gradients are wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.students.sparse_plane import SparsePlane

TABLES_OF_COLUMNS = ("table", "back")
"""Tensors of a SparsePlane whose second dimension changes with the batch; of the others it is the first."""

_COMPILED: dict[type[nn.Module], Callable[..., Tensor]] = {}


def compiled(mix: nn.Module) -> Callable[..., Tensor]:
    """A mix's forward, compiled; mixes of one class share what was compiled."""
    kind = type(mix)
    if kind not in _COMPILED:
        _COMPILED[kind] = torch.compile(kind.forward)
    forward = _COMPILED[kind]

    def run(features: Tensor, *rest: Any) -> Tensor:
        changing = _changing(features, *rest)
        # torch.compile treats 0 and 1 as special and would compile for them alone.
        if any(tensor.shape[place] < 2 for tensor, place in changing):
            return mix(features, *rest)
        for tensor, place in changing:
            torch._dynamo.maybe_mark_dynamic(tensor, place)
        return forward(mix, features, *rest)

    return run


def _changing(*inputs: Any) -> list[tuple[Tensor, int]]:
    """Tensors among a mix's inputs and the dimension of each that changes with the batch."""
    changing = []
    for value in inputs:
        if isinstance(value, Tensor):
            changing.append((value, 0))
        elif isinstance(value, SparsePlane):
            changing += [
                (getattr(value, field.name), int(field.name in TABLES_OF_COLUMNS)) for field in fields(value)
            ]
    return changing
