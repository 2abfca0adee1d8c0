"""WaffleIron's embedding: one feature per point from the point itself and its nearest neighbours
(Puy et al., "Using a Waffle Iron for Automotive Point Cloud Semantic Segmentation", ICCV 2023, section 3.3).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.students.neighbour_max import neighbour_max


class Embedding(nn.Module):
    """Normalise; embed the point; embed its neighbours' differences and take their maximum; merge.

    Every norm is a BatchNorm, whatever the norm of the layers that follow. In training its statistics are
    those of the real points. (The authors pad the clouds of a batch with zeros, which enter theirs: in
    training the two agree for clouds of equal size, in evaluation always.)

    blocks: treat the neighbours a block at a time, the same to rounding, instead of all at once.
    """

    def __init__(self, in_channels: int, width: int, blocks: bool = False) -> None:
        super().__init__()
        self.blocks = blocks
        self.norm = nn.BatchNorm1d(in_channels)
        self.point = nn.Linear(in_channels, width)
        self.neighbour_norm = nn.BatchNorm1d(in_channels)
        self.neighbour_in = nn.Linear(in_channels, width, bias=False)
        self.neighbour_hidden_norm = nn.BatchNorm1d(width)
        self.neighbour_out = nn.Linear(width, width, bias=False)
        self.merge = nn.Linear(2 * width, width)

    def forward(self, features: Tensor, neighbours: Tensor) -> Tensor:
        """features: (P, in_channels). neighbours: (P, K) int64 packed rows. Returns (P, width)."""
        x = self.norm(features)  # (P, in)
        around = self._around_in_blocks(x, neighbours) if self.blocks else self._around(x, neighbours)
        merged: Tensor = self.merge(torch.cat((self.point(x), around), dim=1))  # (P, width)
        return merged

    def _around(self, x: Tensor, neighbours: Tensor) -> Tensor:
        """What lies around each point. x: (P, in), normalised. neighbours: (P, K). Returns (P, width)."""
        points, count = neighbours.shape
        # index_select and not x[neighbours]: its backward is several times faster on a CPU
        near = x.index_select(0, neighbours.flatten()).view(points, count, -1)  # (P, K, in)
        difference = (near - x.unsqueeze(1)).flatten(0, 1)  # (P K, in)
        hidden = self.neighbour_in(self.neighbour_norm(difference))  # (P K, width)
        hidden = self.neighbour_out(self.neighbour_hidden_norm(hidden).relu())  # (P K, width)
        return hidden.view(points, count, -1).max(dim=1).values  # (P, width)

    def _around_in_blocks(self, x: Tensor, neighbours: Tensor) -> Tensor:
        """The same as `_around`, with nothing of (P K, width) alive. Channels come first: see `neighbour_max`."""
        points, count = neighbours.shape
        columns = x.t().contiguous()  # (in, P)
        near = columns.index_select(1, neighbours.t().flatten()).view(
            len(columns), count, points
        )  # (in, K, P)
        difference = near - columns.unsqueeze(1)  # (in, K, P)
        weight, bias = self._norm_linear_norm(difference.flatten(1))  # (width, in), (width,)
        return neighbour_max(difference, weight, bias, self.neighbour_out.weight)

    def _norm_linear_norm(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        """neighbour_hidden_norm(neighbour_in(neighbour_norm(columns.t()))) as one linear map.

        All three are linear but for their statistics, and those of what comes out follow from the mean and the
        covariance of what goes in; in float64, which costs little for so few channels. Running statistics move
        as the norms move them. columns: (in, n). Returns weight (width, in) and bias (width,).
        """
        count = columns.shape[1]
        wanted = self.neighbour_norm.training or self.neighbour_hidden_norm.training
        mean, covariance = _moments(columns, wanted)  # (in,), (in, in)
        scale, shift = _scale_and_shift(self.neighbour_norm, mean, covariance.diagonal(), count)  # (in,)
        linear = self.neighbour_in.weight.double()  # (width, in)
        weight, bias = linear * scale, linear @ shift  # (width, in), (width,)

        mean, variance = weight @ mean + bias, (weight @ covariance * weight).sum(1)  # (width,)
        scale, shift = _scale_and_shift(self.neighbour_hidden_norm, mean, variance, count)  # (width,)
        weight, bias = weight * scale.unsqueeze(1), bias * scale + shift
        return weight.to(columns.dtype), bias.to(columns.dtype)


def _moments(columns: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
    """Mean (in,) and covariance (in, in) of the columns (in, n), float64; zeros where they are not wanted."""
    if not wanted:
        zeros = columns.new_zeros(len(columns), dtype=torch.float64)  # (in,)
        return zeros, zeros.diag()
    exact = columns.double()  # (in, n)
    mean = exact.mean(1)  # (in,)
    centred = exact - mean.unsqueeze(1)  # (in, n)
    return mean, centred @ centred.t() / columns.shape[1]


def _scale_and_shift(norm: nn.Module, mean: Tensor, variance: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """What a BatchNorm does to `count` rows, as scale * x + shift; in training its running statistics move.

    mean, variance: (C,) float64, of the rows; ignored in evaluation. Returns two of (C,) float64.
    """
    if type(norm) is not nn.BatchNorm1d or norm.momentum is None:
        raise TypeError(f"neighbours in blocks need BatchNorm1d with a momentum, not {norm}")
    running_mean, running_var, batches = norm.running_mean, norm.running_var, norm.num_batches_tracked
    if running_mean is None or running_var is None or batches is None:
        raise TypeError(f"neighbours in blocks need running statistics, {norm} has none")
    if norm.training:
        with torch.no_grad():
            unbiased = variance * (count / (count - 1))  # (C,), as torch keeps it
            running_mean.lerp_(mean.to(running_mean.dtype), norm.momentum)
            running_var.lerp_(unbiased.to(running_var.dtype), norm.momentum)
            batches.add_(1)
    else:
        mean, variance = running_mean.double(), running_var.double()
    scale = norm.weight.double() / (variance + norm.eps).sqrt()  # (C,)
    return scale, norm.bias.double() - mean * scale
