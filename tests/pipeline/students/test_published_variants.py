"""Every student that was published can be written in a config, and is the network that its numbers say."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.config.model import Points, Student
from pipeline.geometry.grid import plane_grid_of
from pipeline.students.distilled import Distilled
from pipeline.students.heads import LinearHead, MlpHead
from pipeline.students.packed import Cloud, pack
from pipeline.students.stochastic_depth import masks

torch.set_num_threads(1)

PANDAR64 = {"field_of_view": [[-128, 128], [-128, 128], [-8, 8]]}
PANDARGT = {"field_of_view": [[-96, 96], [-96, 96], [-8, 8]]}


def student(network: dict[str, Any], points: dict[str, Any] | None = None) -> Student:
    return Student.model_validate(
        {"datasets": ["d"], "teacher": "t", "network": network, "points": points or {}}
    )


@pytest.mark.parametrize(
    ("network", "millions", "head"),
    [
        ({"width": 96, "norm": "batch"}, 1.04, LinearHead),
        ({"width": 256, "norm": "batch"}, 6.84, LinearHead),
        ({"width": 384, "norm": "batch"}, 15.12, LinearHead),
        ({}, 59.44, LinearHead),
        ({"activation": "gelu", "head": "mlp", "stochastic_depth": 0.2}, 59.44, MlpHead),
    ],
)
def test_width_norm_activation_and_head(network: dict[str, Any], millions: float, head: type) -> None:
    chosen = student(network)
    with torch.device("meta"):
        model = Distilled(chosen, channels=1024)
    assert sum(p.numel() for p in model.backbone.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    assert type(model.head) is head
    assert len(model.backbone.spatial_mix) == len(model.backbone.channel_mix) == 48
    norm = nn.BatchNorm1d if network.get("norm") == "batch" else nn.LayerNorm
    assert all(type(m.norm) is norm for m in (*model.backbone.spatial_mix, *model.backbone.channel_mix))
    assert type(model.backbone.embedding.norm) is nn.BatchNorm1d
    assert model.backbone.drop_path == network.get("stochastic_depth", 0.0)


@pytest.mark.parametrize(
    ("points", "shapes"),
    [
        ({}, ((256, 256), (256, 32), (256, 32))),
        (PANDAR64, ((512, 512), (512, 32), (512, 32))),
        (PANDARGT, ((384, 384), (384, 32), (384, 32))),
    ],
)
def test_fields_of_view(points: dict[str, Any], shapes: tuple[tuple[int, int], ...]) -> None:
    assert plane_grid_of(Points.model_validate(points)).shapes == shapes


@pytest.mark.parametrize("points", [PANDAR64, PANDARGT])
@pytest.mark.parametrize(
    "network",
    [
        {"norm": "batch", "head": "linear"},
        {"norm": "layer", "activation": "gelu", "head": "mlp", "head_width": 12, "stochastic_depth": 0.5},
    ],
)
def test_every_kind_trains_on_every_grid_and_backends_agree(
    network: dict[str, Any], points: dict[str, Any]
) -> None:
    rng = np.random.default_rng(0)
    chosen = student({**network, "width": 8, "depth": 3}, points)
    grid = plane_grid_of(chosen.points)
    clouds = []
    for count in (40, 40):
        xyz = rng.uniform(np.array(grid.low) + 1, np.array(grid.high) - 1, (count, 3)).astype(np.float32)
        xyz[:2] = np.array([grid.low, grid.high], np.float32) * np.float32(0.9999)
        features = np.column_stack([rng.normal(size=count), xyz / 50, rng.random(count)]).astype(np.float32)
        clouds.append(Cloud(features, rng.integers(0, count, (count, 4)), grid.cells(xyz)))
    batch = pack(clouds)
    batch = dataclasses.replace(batch, features=batch.features.double())
    rate = chosen.network.stochastic_depth
    drop = masks(0, 0, [1, 2], 3, rate) if rate else None
    outs, gradients = [], []
    for backend in ("reference", "torch"):
        torch.manual_seed(0)
        chosen = student({**network, "width": 8, "depth": 3, "backend": backend}, points)
        model = Distilled(chosen, channels=6).double().train()
        out = model(batch, drop)
        out.square().mean().backward()
        outs.append(out)
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(*outs, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)
    assert gradients[0].numel() == sum(p.numel() for p in model.parameters())
