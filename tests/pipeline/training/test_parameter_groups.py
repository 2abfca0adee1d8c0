"""Layer decay: rates, weight decay and layer numbers, name by name."""

from __future__ import annotations

import torch

from pipeline.students.heads import ProbeHead
from pipeline.students.waffleiron import WaffleIron
from pipeline.training.parameter_groups import for_optimiser, layer_groups

DEPTH, DECAY, WEIGHT_DECAY = 4, 0.9, 0.01


def names_and_parameters() -> list[tuple[str, torch.nn.Parameter]]:
    backbone = WaffleIron(width=8, depth=DEPTH, plane_shapes=[(4, 4)] * 3, norm="batch")
    head = ProbeHead(8, 5)
    model = torch.nn.ModuleDict({"backbone": backbone, "head": head})
    return list(model.named_parameters())


def test_every_tensor_is_in_one_group_with_the_published_rate_and_decay() -> None:
    named = names_and_parameters()
    groups = layer_groups(named, depth=DEPTH, layer_decay=DECAY, weight_decay=WEIGHT_DECAY)
    found = {name: (group.scale, group.weight_decay) for group in groups for name in group.names}
    assert sorted(found) == sorted(name for name, _ in named)
    # facts.md 1.7: the embedding gamma ** (L + 1), block b gamma ** (L - b), the head 1; one-dimensional tensors decay not.
    expected = {
        "backbone.embedding.norm.weight": (DECAY**5, 0.0),
        "backbone.embedding.point.weight": (DECAY**5, WEIGHT_DECAY),
        "backbone.embedding.point.bias": (DECAY**5, 0.0),
        "backbone.embedding.neighbour_norm.bias": (DECAY**5, 0.0),
        "backbone.embedding.neighbour_out.weight": (DECAY**5, WEIGHT_DECAY),
        "backbone.embedding.merge.weight": (DECAY**5, WEIGHT_DECAY),
        "backbone.spatial_mix.0.conv_in.weight": (DECAY**4, WEIGHT_DECAY),
        "backbone.spatial_mix.0.conv_in.bias": (DECAY**4, 0.0),
        "backbone.spatial_mix.0.scale": (DECAY**4, WEIGHT_DECAY),
        "backbone.channel_mix.0.norm.weight": (DECAY**4, 0.0),
        "backbone.channel_mix.3.linear_in.weight": (DECAY, WEIGHT_DECAY),
        "backbone.channel_mix.3.scale": (DECAY, WEIGHT_DECAY),
        "head.norm.weight": (1.0, 0.0),
        "head.linear.weight": (1.0, WEIGHT_DECAY),
        "head.linear.bias": (1.0, 0.0),
    }
    assert {name: found[name] for name in expected} == expected
    assert len(groups) == 2 * (DEPTH + 2)


def test_the_optimiser_gets_each_groups_own_rate() -> None:
    groups = layer_groups(names_and_parameters(), depth=DEPTH, layer_decay=DECAY, weight_decay=WEIGHT_DECAY)
    optimiser = torch.optim.AdamW(for_optimiser(groups, 2e-3))
    rates = {group.layer: given["lr"] for group, given in zip(groups, optimiser.param_groups, strict=True)}
    assert rates == {layer: DECAY ** (5 - layer) * 2e-3 for layer in range(6)}
    assert {given["betas"] for given in optimiser.param_groups} == {(0.9, 0.999)}
    assert {given["eps"] for given in optimiser.param_groups} == {1e-8}


def test_a_frozen_tensor_is_in_no_group() -> None:
    named = names_and_parameters()
    for name, parameter in named:
        parameter.requires_grad = name.startswith("head")
    groups = layer_groups(named, depth=DEPTH, layer_decay=DECAY, weight_decay=WEIGHT_DECAY)
    assert {name.split(".")[0] for group in groups for name in group.names} == {"head"}
