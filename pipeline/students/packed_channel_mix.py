"""WaffleIron's channel mix in few passes over the rows: two matrix products and little else.

    normalised rows          (P, C)    the norm's scale and shift lie in the first product's weights
    hidden = act(first)      (P, C)
    features + second        (P, C)    LayerScale lies in the second product's weights

Kept for the backward are the normalised rows and the hidden values, in the type of the products; the features
themselves are not.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pipeline.students.normalised import normalised, normalised_backward, statistics_type
from pipeline.students.sparse_mix import Activation, plus


def packed_channel_mix(
    features: Tensor,
    norm: nn.LayerNorm,
    linear_in: nn.Linear,
    linear_out: nn.Linear,
    scale: Tensor,
    activation: Activation,
    mask: Tensor | None,
) -> Tensor:
    """features + mask * scale * linear_out(act(linear_in(norm(features)))).

    features: (P, C). scale: (C,). mask: (P,) or None for 1. Returns (P, C) in the features' type. The products are
    done in the type of autocast where that is on.
    """
    device_type, dtype = features.device.type, features.dtype
    if torch.is_autocast_enabled(device_type) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device_type)
    weight_in = linear_in.weight * norm.weight  # (C, C)
    bias_in = torch.addmv(linear_in.bias, linear_in.weight, norm.bias)  # (C,)
    weight_out, bias_out = linear_out.weight * scale.unsqueeze(1), linear_out.bias * scale
    parameters = (tensor.to(dtype) for tensor in (weight_in, bias_in, weight_out, bias_out))
    out: Tensor = _TwoProducts.apply(features, *parameters, mask, activation, norm.eps)
    return out


class _TwoProducts(torch.autograd.Function):
    """`packed_channel_mix` with parameters that hold the norm's and LayerScale's, in the type of the products."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight_in: Tensor,
        bias_in: Tensor,
        weight_out: Tensor,
        bias_out: Tensor,
        mask: Tensor | None,
        activation: Activation,
        eps: float,
    ) -> Tensor:
        rows, _, deviation = normalised(features, eps)  # (P, C), (P, 1)
        rows = rows.to(weight_in.dtype)
        before = torch.addmm(bias_in, rows, weight_in.t())  # (P, C)
        hidden = F.relu_(before) if activation == "relu" else F.gelu(before)  # (P, C)
        out = torch.addmm(bias_out, hidden, weight_out.t())  # (P, C)
        if mask is not None:
            out = out * mask.unsqueeze(1)
        # A ReLU's slope can be read off what it gave; GELU's hidden values are computed a second time.
        ctx.save_for_backward(rows, deviation, before, weight_in, weight_out, mask)
        ctx.activation = activation
        return plus(out, features) if out.dtype == features.dtype else features + out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        rows, deviation, before, weight_in, weight_out, mask = ctx.saved_tensors
        hidden = before if ctx.activation == "relu" else F.gelu(before)  # (P, C)
        grad_second = (grad_out if mask is None else grad_out * mask.unsqueeze(1)).to(rows.dtype)  # (P, C)
        grad_weight_out, grad_bias_out = grad_second.t() @ hidden, grad_second.sum(0)  # (C, C), (C,)
        grad_before = grad_second @ weight_out  # (P, C)
        if ctx.activation == "relu":
            torch.ops.aten.threshold_backward.grad_input(grad_before, before, 0, grad_input=grad_before)
        else:
            grad_before = torch.ops.aten.gelu_backward(grad_before, before)
        grad_weight_in, grad_bias_in = grad_before.t() @ rows, grad_before.sum(0)  # (C, C), (C,)
        grad_rows = grad_before @ weight_in  # (P, C)
        # The kept rows are normalised: their mean is 0, their deviation 1. The division by the deviation comes after.
        exact = statistics_type(rows.dtype, rows.device.type)
        zeros, ones = torch.zeros_like(deviation, dtype=exact), torch.ones_like(deviation, dtype=exact)
        grad_features = normalised_backward(grad_rows, rows, zeros, ones).to(grad_out.dtype)  # (P, C)
        torch.addcmul(grad_out, grad_features, deviation, out=grad_features)
        return grad_features, grad_weight_in, grad_bias_in, grad_weight_out, grad_bias_out, None, None, None
