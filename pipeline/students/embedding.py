"""WaffleIron's embedding: one feature per point from the point itself and its nearest neighbours
(Puy et al., "Using a Waffle Iron for Automotive Point Cloud Semantic Segmentation", ICCV 2023, section 3.3).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Embedding(nn.Module):
    """Normalise; embed the point; embed its neighbours' differences and take their maximum; merge.

    Every norm is a BatchNorm, whatever the norm of the layers that follow. In training its statistics are
    those of the real points. (The authors pad the clouds of a batch with zeros, which enter theirs: in
    training the two agree for clouds of equal size, in evaluation always.)
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(in_channels)
        self.point = nn.Linear(in_channels, width)
        self.neighbour_norm = nn.BatchNorm1d(in_channels)
        self.neighbour_in = nn.Linear(in_channels, width, bias=False)
        self.neighbour_hidden_norm = nn.BatchNorm1d(width)
        self.neighbour_out = nn.Linear(width, width, bias=False)
        self.merge = nn.Linear(2 * width, width)

    def forward(self, features: Tensor, neighbours: Tensor) -> Tensor:
        """features: (P, in_channels). neighbours: (P, K) int64 packed rows. Returns (P, width)."""
        points, count = neighbours.shape
        x = self.norm(features)  # (P, in)
        # index_select and not x[neighbours]: its backward is several times faster on a CPU
        near = x.index_select(0, neighbours.flatten()).view(points, count, -1)  # (P, K, in)
        difference = (near - x.unsqueeze(1)).flatten(0, 1)  # (P K, in)
        hidden = self.neighbour_in(self.neighbour_norm(difference))  # (P K, width)
        hidden = self.neighbour_out(self.neighbour_hidden_norm(hidden).relu())  # (P K, width)
        around = hidden.view(points, count, -1).max(dim=1).values  # (P, width)
        merged: Tensor = self.merge(torch.cat((self.point(x), around), dim=1))  # (P, width)
        return merged
