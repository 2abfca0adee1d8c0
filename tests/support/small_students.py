"""Small clouds on small planes, and students that mix them, for the tests of the student's backends."""

import dataclasses

import numpy as np
import torch
from torch import Tensor

from pipeline.students.backends import Choice
from pipeline.students.packed import Cloud, PackedClouds, pack
from pipeline.students.sparse_mix import Activation
from pipeline.students.waffleiron import Norm, WaffleIron

SHAPES = ((6, 5), (6, 3), (5, 3))
WIDTH, DEPTH, NEIGHBOURS = 7, 4, 5


def cloud_at(cells: np.ndarray, seed: int = 0) -> Cloud:
    """A cloud whose points lie in the given cells (N, 3), with random features and neighbours."""
    rng, points = np.random.default_rng(seed), len(cells)
    return Cloud(
        features=rng.normal(size=(points, 5)).astype(np.float32),
        neighbours=rng.integers(0, max(points, 1), (points, NEIGHBOURS)),
        cells=cells,
    )


def scattered(points: int, seed: int) -> Cloud:
    """Points anywhere on the planes, some cells shared."""
    rng = np.random.default_rng(seed)
    return cloud_at(np.stack([rng.integers(0, h * w, points) for h, w in SHAPES], axis=1), seed)


def batch(sizes: list[int], dtype: torch.dtype = torch.float64) -> PackedClouds:
    """Clouds of so many scattered points, whose features want a gradient."""
    clouds = pack([scattered(size, seed) for seed, size in enumerate(sizes)])
    return dataclasses.replace(clouds, features=clouds.features.to(dtype, copy=True).requires_grad_())


def make_student(
    backend: Choice,
    norm: Norm = "layer",
    activation: Activation = "relu",
    width: int = WIDTH,
    depth: int = DEPTH,
    checkpointing: bool = False,
) -> WaffleIron:
    """A student in float64 with nothing left at a special value; the same numbers for every backend."""
    torch.manual_seed(0)
    student = WaffleIron(
        width=width,
        depth=depth,
        plane_shapes=SHAPES,
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
    out = student(clouds, drop)
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    parameters = dict(student.named_parameters())
    grads = torch.autograd.grad((out * direction).sum(), [clouds.features, *parameters.values()])
    found = {"output": out, "gradient of features": grads[0]}
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
