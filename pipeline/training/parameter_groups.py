"""Which rate and weight decay each tensor gets in finetuning: layer decay as ScaLR's released finetune.py has it.

A student of L layers has layer numbers 0 (embedding), 1 to L (its layers, each a spatial and a channel mix) and L + 1
(head); layer i learns at decay ** (L + 1 - i) times the rate of the head. Tensors of one dimension get no weight
decay. LayerScales are an exception: the authors store them as (C, 1, 1), so that theirs are decayed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Group:
    """Tensors that share one rate and one weight decay.

    Attributes:
        scale: of the head's rate.
        names: of the tensors.
    """

    layer: int
    scale: float
    weight_decay: float
    names: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]


def layer_of(name: str, depth: int) -> int:
    """The layer number of one of a student's tensors, or of its head's.

    name: `backbone.embedding...`, `backbone.spatial_mix.D...`, `backbone.channel_mix.D...`, or anything else: the head.
    """
    parts = name.split(".")
    if parts[0] == "backbone" and parts[1] == "embedding":
        return 0
    if parts[0] == "backbone" and parts[1] in ("spatial_mix", "channel_mix"):
        return int(parts[2]) + 1
    return depth + 1


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies to a tensor."""
    return parameter.ndim > 1 or name.split(".")[-1] == "scale"


def layer_groups(
    named: Iterable[tuple[str, nn.Parameter]], *, depth: int, layer_decay: float, weight_decay: float
) -> list[Group]:
    """The groups of all tensors that learn, in the order in which their first tensors come."""
    by_rate: dict[tuple[int, bool], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in named:
        if parameter.requires_grad:
            key = layer_of(name, depth), is_decayed(name, parameter)
            by_rate.setdefault(key, []).append((name, parameter))
    return [
        Group(
            layer,
            layer_decay ** (depth + 1 - layer),
            weight_decay if decayed else 0.0,
            tuple(name for name, _ in tensors),
            tuple(parameter for _, parameter in tensors),
        )
        for (layer, decayed), tensors in by_rate.items()
    ]


def for_optimiser(groups: Iterable[Group], lr: float) -> list[dict[str, Any]]:
    """As torch's optimisers take them; `base` is each group's own peak rate."""
    return [
        {
            "params": list(group.parameters),
            "weight_decay": group.weight_decay,
            "lr": group.scale * lr,
            "base": group.scale * lr,
        }
        for group in groups
    ]
