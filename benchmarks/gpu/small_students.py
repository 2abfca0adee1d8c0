"""Students on small planes, and what comes out of them: output, gradients and buffers, on any device.

The tests of the student's backends take them, and so does `sections/correct.py` on a GPU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.gpu.odd_clouds import SHAPES, scattered
from pipeline.students.backends import Choice
from pipeline.students.packed import Cloud, PackedClouds, pack
from pipeline.students.sparse_mix import Activation
from pipeline.students.waffleiron import Norm, WaffleIron

WIDTH, DEPTH = 7, 4


def double(clouds: PackedClouds) -> PackedClouds:
    """The same clouds with float64 features that want a gradient."""
    return dataclasses.replace(clouds, features=clouds.features.double().requires_grad_())


def batch(sizes: list[int], dtype: torch.dtype = torch.float64) -> PackedClouds:
    """Clouds of so many scattered points, whose features want a gradient."""
    return wanting([scattered(size, seed) for seed, size in enumerate(sizes)], dtype)


def wanting(clouds: Sequence[Cloud], dtype: torch.dtype, device: torch.device | str = "cpu") -> PackedClouds:
    """Clouds packed, on a device, whose features want a gradient."""
    packed = pack(clouds).to(device, non_blocking=False)
    return dataclasses.replace(packed, features=packed.features.to(dtype, copy=True).requires_grad_())


def make_student(
    backend: Choice,
    norm: Norm = "layer",
    activation: Activation = "relu",
    width: int = WIDTH,
    depth: int = DEPTH,
    checkpointing: bool = False,
    shapes: Sequence[tuple[int, int]] = SHAPES,
) -> WaffleIron:
    """A student in float64 with nothing left at a special value; the same numbers for every backend."""
    torch.manual_seed(0)
    student = WaffleIron(
        width=width,
        depth=depth,
        plane_shapes=shapes,
        norm=norm,
        activation=activation,
        backend=backend,
        checkpointing=checkpointing,
    ).double()
    for name, tensor in student.state_dict().items():
        if "norm" in name and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    return student


def results(student: WaffleIron, clouds: PackedClouds, drop: Tensor | None = None) -> dict[str, Tensor]:
    """Output, all gradients of a random function of it, and all buffers after the call."""
    return results_of(student, clouds, student(clouds, drop))


def results_of(student: WaffleIron, clouds: PackedClouds, out: Tensor) -> dict[str, Tensor]:
    """As `results`, of an output that is there already."""
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    parameters = dict(student.named_parameters())
    grads = torch.autograd.grad(
        (out * direction.to(out.device)).sum(), [clouds.features, *parameters.values()]
    )
    found = {"output": out.detach(), "gradient of features": grads[0]}
    found |= {f"gradient of {name}": grad for name, grad in zip(parameters, grads[1:], strict=True)}
    return found | {name: buffer.clone() for name, buffer in student.named_buffers()}


def assert_same(
    found: dict[str, Tensor], expected: dict[str, Tensor], output: float = 1e-12, gradient: float = 1e-11
) -> None:
    """Tensors differ by at most these shares of their largest value."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape), name
        if not value.numel():
            continue
        difference = (found[name] - value).abs().max().item()
        limit = (gradient if "gradient" in name else output) * max(1.0, value.abs().max().item())
        assert difference <= limit, f"{name}: differs by {difference:.1e}, allowed {limit:.1e}"
