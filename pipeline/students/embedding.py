"""WaffleIron's embedding: one feature per point from the point itself and its nearest neighbours
(Puy et al., "Using a Waffle Iron for Automotive Point Cloud Semantic Segmentation", ICCV 2023, section 3.3).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.students.neighbour_max import neighbour_max


class Embedding(nn.Module):
    """Normalise; embed the point; embed its neighbours' differences and take their maximum; merge.

    Every norm is a BatchNorm, whatever the norm of the layers that follow. In training its statistics are those
    of the real points. The authors pad the clouds of a batch with zeros up to the longest, and these zeros enter
    their statistics; with `padding_aware` they enter ours, too. Both are the same if all clouds have the same
    size, and in evaluation, which uses no batch statistics.

    blocks: treat the neighbours a block at a time, the same to rounding, instead of all at once.
    """

    def __init__(
        self, in_channels: int, width: int, blocks: bool = False, padding_aware: bool = False
    ) -> None:
        super().__init__()
        self.blocks, self.padding_aware = blocks, padding_aware
        self.norm = nn.BatchNorm1d(in_channels)
        self.point = nn.Linear(in_channels, width)
        self.neighbour_norm = nn.BatchNorm1d(in_channels)
        self.neighbour_in = nn.Linear(in_channels, width, bias=False)
        self.neighbour_hidden_norm = nn.BatchNorm1d(width)
        self.neighbour_out = nn.Linear(width, width, bias=False)
        self.merge = nn.Linear(2 * width, width)

    def forward(self, features: Tensor, neighbours: Tensor, padding: int = 0) -> Tensor:
        """features: (P, in_channels). neighbours: (P, K) int64 packed rows. Returns (P, width).

        padding: zero rows that fill the clouds of the batch up to the longest; looked at by `padding_aware` alone.
        """
        padding = padding if self.padding_aware else 0
        if self.blocks:
            x = self._normalised(features, padding)  # (P, in)
            around = self._around_in_blocks(x, neighbours, padding)  # (P, width)
        else:
            x, around = self._all_at_once(features, neighbours, padding)
        merged: Tensor = self.merge(torch.cat((self.point(x), around), dim=1))  # (P, width)
        return merged

    def _all_at_once(self, features: Tensor, neighbours: Tensor, padding: int) -> tuple[Tensor, Tensor]:
        """Each point, normalised, (P, in), and what lies around it, (P, width); the padding is there, row by row."""
        points, count = neighbours.shape
        if padding:
            zeros = features.new_zeros(padding, features.shape[1])
            itself = torch.arange(points, points + padding, device=neighbours.device)  # (padding,)
            features = torch.cat((features, zeros))
            neighbours = torch.cat((neighbours, itself.unsqueeze(1).expand(-1, count)))
        x = _of_rows(self.norm, features)  # (P + padding, in)
        # index_select and not x[neighbours]: its backward is several times faster on a CPU
        near = x.index_select(0, neighbours.flatten()).view(len(x), count, x.shape[1])  # (P + padding, K, in)
        difference = (near - x.unsqueeze(1)).flatten(0, 1)
        hidden = self.neighbour_in(_of_rows(self.neighbour_norm, difference))  # ((P + padding) K, width)
        hidden = self.neighbour_out(_of_rows(self.neighbour_hidden_norm, hidden).relu())
        return x[:points], hidden.view(len(x), count, hidden.shape[1])[:points].max(dim=1).values

    def _normalised(self, features: Tensor, padding: int) -> Tensor:
        """norm(features), (P, in), as if `padding` zero rows were among them."""
        if not padding or not self.norm.training:
            return _of_rows(self.norm, features)
        mean, covariance = _moments(features.t(), True, padding)  # (in,), (in, in)
        scale, shift = _scale_and_shift(self.norm, mean, covariance.diagonal(), len(features) + padding)
        return (features * scale + shift).to(features.dtype)

    def _around_in_blocks(self, x: Tensor, neighbours: Tensor, padding: int) -> Tensor:
        """What lies around each point, (P, width), with nothing of (P K, width) alive. Channels come first: see
        `neighbour_max`."""
        points, count = neighbours.shape
        columns = x.t().contiguous()  # (in, P)
        near = columns.index_select(1, neighbours.t().flatten()).view(
            len(columns), count, points
        )  # (in, K, P)
        difference = near - columns.unsqueeze(1)  # (in, K, P)
        weight, bias = self._norm_linear_norm(difference.flatten(1), padding * count)  # (width, in), (width,)
        return neighbour_max(difference, weight, bias, self.neighbour_out.weight)

    def _norm_linear_norm(self, columns: Tensor, padding: int) -> tuple[Tensor, Tensor]:
        """neighbour_hidden_norm(neighbour_in(neighbour_norm(columns.t()))) as one linear map.

        All three are linear but for their statistics, and those of what comes out follow from the mean and the
        covariance of what goes in; in float64, which costs little for so few channels. Running statistics move
        as the norms move them. columns: (in, n), and `padding` of zeros that count in the statistics: a padded
        point lies where its neighbours do. Returns weight (width, in) and bias (width,).
        """
        count = columns.shape[1] + padding
        wanted = self.neighbour_norm.training or self.neighbour_hidden_norm.training
        mean, covariance = _moments(columns, wanted, padding)  # (in,), (in, in)
        scale, shift = _scale_and_shift(self.neighbour_norm, mean, covariance.diagonal(), count)  # (in,)
        linear = self.neighbour_in.weight.double()  # (width, in)
        weight, bias = linear * scale, linear @ shift  # (width, in), (width,)

        mean, variance = weight @ mean + bias, (weight @ covariance * weight).sum(1)  # (width,)
        scale, shift = _scale_and_shift(self.neighbour_hidden_norm, mean, variance, count)  # (width,)
        weight, bias = weight * scale.unsqueeze(1), bias * scale + shift
        return weight.to(columns.dtype), bias.to(columns.dtype)


def _of_rows(norm: nn.Module, rows: Tensor) -> Tensor:
    """norm(rows), (n, C), with channels first: of rows torch sums a float32 batch statistic so carelessly on a CPU that
    of 60,000 rows three digits are lost."""
    out: Tensor = norm(rows.t().unsqueeze(0)).squeeze(0).t()  # (n, C)
    return out


def _moments(columns: Tensor, wanted: bool, padding: int) -> tuple[Tensor, Tensor]:
    """Mean (in,) and covariance (in, in) of the columns (in, n) and of `padding` zeros, float64; zeros where they
    are not wanted."""
    if not wanted:
        zeros = columns.new_zeros(len(columns), dtype=torch.float64)  # (in,)
        return zeros, zeros.diag()
    exact = columns.double()  # (in, n)
    count = exact.shape[1] + padding
    mean = exact.sum(1) / count  # (in,)
    centred = exact - mean.unsqueeze(1)  # (in, n)
    return mean, (centred @ centred.t() + padding * mean.outer(mean)) / count


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
        if count < 2:
            raise ValueError(f"a batch norm in training needs more than {count} row: give it more points")
        with torch.no_grad():
            unbiased = variance * (count / (count - 1))  # (C,), as torch keeps it
            running_mean.lerp_(mean.to(running_mean.dtype), norm.momentum)
            running_var.lerp_(unbiased.to(running_var.dtype), norm.momentum)
            batches.add_(1)
    else:
        mean, variance = running_mean.double(), running_var.double()
    scale = norm.weight.double() / (variance + norm.eps).sqrt()  # (C,)
    return scale, norm.bias.double() - mean * scale
