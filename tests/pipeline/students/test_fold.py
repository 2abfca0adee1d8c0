"""A folded student gives the features of the student, to rounding, whatever it is made of."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.geometry.grid import Grid
from pipeline.students.fold import folded
from pipeline.students.packed import Cloud, PackedClouds, pack
from pipeline.students.waffleiron import WaffleIron

torch.set_num_threads(1)

GRID = Grid.with_cells((-3.0, -2.0, -1.0), (3.0, 2.0, 1.0), 0.5)


def clouds() -> PackedClouds:
    rng = np.random.default_rng(0)
    made = []
    for points in (31, 7):
        xyz = rng.uniform(np.array(GRID.low) + 2e-4, np.array(GRID.high) - 2e-4, (points, 3))
        features = np.column_stack([rng.normal(size=points), xyz, np.linalg.norm(xyz, axis=1)])
        near = rng.integers(0, points, (points, 4))
        made.append(Cloud(features.astype(np.float32), near, GRID.cells(xyz)))
    packed = pack(made)
    return dataclasses.replace(packed, features=packed.features.double())


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize(("norm", "activation"), [("batch", "relu"), ("layer", "gelu")])
def test_folded_features_are_the_same(norm: str, activation: str, backend: str) -> None:
    torch.manual_seed(0)
    student = WaffleIron(
        width=8, depth=4, plane_shapes=GRID.shapes, norm=norm, activation=activation, backend=backend
    ).double()
    for name, tensor in student.state_dict().items():
        if "norm" in name and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)  # nothing is left at a value that folds by luck
    student.train()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    short = folded(student)
    assert student.training
    assert not short.training
    for name, value in student.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} of the student itself changed"
    batch = clouds()
    torch.testing.assert_close(short(batch), student.eval()(batch), rtol=1e-12, atol=1e-12)

    batch_norms = [name for name, module in short.named_modules() if isinstance(module, nn.BatchNorm1d)]
    left = [f"spatial_mix.{d}.norm" for d in range(4)] if norm == "batch" else []
    assert batch_norms == left
    assert all((mix.scale == 1).all() for mix in (*short.spatial_mix, *short.channel_mix))
    assert not any(parameter.requires_grad for parameter in short.parameters())
