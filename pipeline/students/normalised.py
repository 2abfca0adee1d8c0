"""LayerNorm without its scale and shift, forward and backward: the spatial and the channel mix build on it.

Scale and shift are the same for all rows. Both mixes apply them where there is less to multiply, to sums over cells
or to the weights that come next, so that neither they nor their gradients cost a pass over the rows.
"""

from __future__ import annotations

import torch
from torch import Tensor


def normalised(rows: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Each row less its mean, over its deviation. rows: (P, C). Returns (P, C), mean (P, 1), 1 / deviation (P, 1)."""
    ones = rows.new_ones(rows.shape[1])  # (C,); on a CPU the kernel is twice as fast with a scale as without
    zeros = torch.zeros_like(ones)  # (C,)
    return torch.ops.aten.native_layer_norm(rows, [rows.shape[1]], ones, zeros, eps)


def normalised_backward(grad_normalised: Tensor, rows: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """The gradient of `rows`. grad_normalised: (P, C). The rest: what `normalised` took and gave, mean and deviation in the
    `statistics_type`. Returns (P, C), new."""
    shape, wanted = [rows.shape[1]], [True, False, False]
    out: Tensor = torch.ops.aten.native_layer_norm_backward(
        grad_normalised, rows, shape, mean, deviation, None, None, wanted
    )[0]
    return out


def statistics_type(dtype: torch.dtype, kind: str) -> torch.dtype:
    """In which type torch's LayerNorm gives and wants mean and deviation of rows of `dtype` on a kind of device.

    On a CPU it is the rows' own, on a GPU the one that its kernels sum in: they refuse any other. (aten's
    native/cuda/layer_norm_kernel.cu, whose `T_ACC` of both 16-bit types is float32.)
    """
    return dtype if kind == "cpu" else torch.promote_types(dtype, torch.float32)
