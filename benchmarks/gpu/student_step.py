"""One step of a student and of the authors' own code, forward and backward, on any device; and its matrix products alone.

A step is the embedding and all layers: head, loss and optimiser are the same on both sides, and measured apart.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from camera_clouds import GRID, NEIGHBOURS
from published import network, padded, waffleiron_of
from torch import Tensor, nn

from benchmarks.gpu.arithmetic import Arithmetic
from benchmarks.gpu.timing import times
from pipeline.students.backends import Backend
from pipeline.students.packed import PackedClouds
from pipeline.students.waffleiron import WaffleIron

Step = Callable[[], None]


def our_student(width: int, depth: int, device: torch.device) -> WaffleIron:
    """A student with layer norm and ReLU in training. Which backend computes it, `our_step` says."""
    torch.manual_seed(0)
    with device:
        return WaffleIron(width=width, depth=depth, plane_shapes=GRID.shapes, backend="torch").train()


def our_step(
    student: WaffleIron, backend: Backend, clouds: PackedClouds, arithmetic: Arithmetic, device: torch.device
) -> Step:
    """clouds: on the device. Only backends that have the same embedding can take turns: all but `reference`."""
    if backend == "reference":
        raise ValueError("the reference has an embedding of its own")
    direction = torch.randn(len(clouds.features), student.width, device=device)

    def step() -> None:
        student.backend = backend
        student.zero_grad(set_to_none=True)
        with arithmetic.on(device):
            out = student(clouds)  # (P, C)
        with arithmetic.matrix_units():
            out.backward(direction.to(out.dtype))

    return step


class Theirs:
    """The published network of a checkout, embedding and layers, in training."""

    def __init__(self, checkout: Path, width: int, depth: int, device: torch.device) -> None:
        package = waffleiron_of(checkout)
        torch.manual_seed(0)
        with device:
            self._network = network(
                package,
                width=width,
                depth=depth,
                out=1,
                shapes=GRID.shapes,
                norm="layer",
                head="linear",
                hidden=0,
                activation="relu",
            ).train()
        self._width, self._device = width, device

    def step(self, clouds: PackedClouds, arithmetic: Arithmetic) -> Step:
        """clouds: on the CPU, of one size, so that nothing is padded."""
        given = [tensor.to(self._device) for tensor in padded(clouds, clouds.features)]
        features, cells, occupied, neighbours = given
        direction = torch.randn(clouds.count, self._width, features.shape[2], device=self._device)

        def step() -> None:
            self._network.zero_grad(set_to_none=True)
            with arithmetic.on(self._device):
                tokens: Tensor = self._network.embed(features, neighbours)  # (B, C, N)
                out: Tensor = self._network.waffleiron(tokens, cells, occupied)  # (B, C, N)
            with arithmetic.matrix_units():
                out.backward(direction.to(out.dtype))

        return step


def products_ms(width: int, points: int, depth: int, arithmetic: Arithmetic, device: torch.device) -> float:
    """Milliseconds of the matrix products that no exact method can leave out, and of nothing else.

    Of each layer six of (points, C) by (C, C): two maps, forward and by each of their factors. Of the embedding's second
    map one over all neighbours; its gradients need one neighbour of each point and channel alone, and are not counted.
    """
    dtype = arithmetic.short or arithmetic.dtype
    rows, grad = torch.randn(2, points, width, device=device, dtype=dtype)
    weight = torch.randn(width, width, device=device, dtype=dtype)

    def layer() -> None:
        for _ in range(2):
            rows @ weight.t()
            grad @ weight
            grad.t() @ rows

    with arithmetic.matrix_units():
        one = times(layer, device, seconds=0.1).median
        forward = times(lambda: rows @ weight.t(), device, seconds=0.1).median
    return depth * one + NEIGHBOURS * forward


def optimiser_step(student: nn.Module) -> Step:
    """AdamW over a student whose gradients are there."""
    for parameter in student.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser = torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=0.03)
    return lambda: optimiser.step()
