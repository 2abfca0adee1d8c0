"""A student for evaluation alone, with norms and scales worked into the linear maps beside them: the same to rounding.

    embedding       its three batch norms into the maps of the point and of its neighbours
    channel mix     batch norm, or the affine part of a layer norm, into the first map; LayerScale into the second
    spatial mix     LayerScale into the second convolution

What stays: a layer norm's own division by the deviation of each row, and the norm of the spatial mix. That one acts
before the mean over each cell, and the cells where no point lies must stay zero: its shift would reach them through
the convolution.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from pipeline.students.embedding import Embedding
from pipeline.students.waffleiron import ChannelMix, SpatialMix, WaffleIron


@torch.no_grad()
def folded(student: WaffleIron) -> WaffleIron:
    """A copy of a student, in evaluation mode, that gives the same features in fewer passes over the rows.

    It is for evaluation alone: its state is not that of a student, and training it would train something else.
    """
    copy = deepcopy(student).eval().requires_grad_(False)
    _fold_embedding(copy.embedding)
    for mix in (*copy.spatial_mix, *copy.channel_mix):
        if isinstance(mix, ChannelMix):
            _fold_channel_mix(mix)
        elif isinstance(mix, SpatialMix):
            _fold_scale(mix.conv_out, mix.scale)
    return copy


def _fold_embedding(embedding: Embedding) -> None:
    scale, shift = _affine(embedding.norm)  # (in,)
    _fold_before(embedding.point, scale, shift)
    # A difference of normalised points knows the norm's scale, and not its shift.
    second, second_shift = _affine(embedding.neighbour_norm)  # (in,)
    into = nn.Linear(embedding.neighbour_in.in_features, embedding.neighbour_in.out_features)
    into.to(embedding.neighbour_in.weight)
    into.weight.copy_(embedding.neighbour_in.weight)
    into.bias.zero_()
    _fold_before(into, second, second_shift)
    into.weight.mul_(scale)
    third, third_shift = _affine(embedding.neighbour_hidden_norm)  # (width,)
    into.weight.mul_(third.unsqueeze(1))
    into.bias.mul_(third).add_(third_shift)
    embedding.neighbour_in = into.requires_grad_(False)
    for name in ("norm", "neighbour_norm", "neighbour_hidden_norm"):
        setattr(embedding, name, nn.Identity())


def _fold_channel_mix(mix: ChannelMix) -> None:
    scale, shift = _affine(mix.norm)  # (C,)
    _fold_before(mix.linear_in, scale, shift)
    if isinstance(
        mix.norm, nn.LayerNorm
    ):  # what divides each row by its deviation stays, with an affine part of nothing
        mix.norm.weight.fill_(1.0)
        mix.norm.bias.zero_()
    else:
        mix.norm = nn.Identity()
    _fold_scale(mix.linear_out, mix.scale)


def _fold_before(linear: nn.Linear, scale: Tensor, shift: Tensor) -> None:
    """linear(x * scale + shift) as linear(x). scale, shift: (in,)."""
    linear.bias.add_(linear.weight @ shift)
    linear.weight.mul_(scale)


def _fold_scale(module: nn.Linear | nn.Conv2d, scale: nn.Parameter) -> None:
    """scale * module(x) as 1 * module(x). scale: (out,)."""
    module.weight.mul_(scale.view(-1, *[1] * (module.weight.ndim - 1)))
    if module.bias is not None:
        module.bias.mul_(scale)
    scale.fill_(1.0)


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Scale and shift, (C,) each, of what a norm does to rows in evaluation beside what it must see each row for."""
    if isinstance(norm, nn.LayerNorm):
        return norm.weight.clone(), norm.bias.clone()
    if isinstance(norm, nn.BatchNorm1d) and norm.running_mean is not None and norm.running_var is not None:
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        return scale, norm.bias - scale * norm.running_mean
    raise TypeError(f"a student's norm is a BatchNorm with running statistics or a LayerNorm, not {norm}")
