"""The embedding a block at a time never holds what it would hold all at once."""

import numpy as np
import pytest
import torch
from torch.autograd.profiler_util import MEMORY_EVENT_NAME
from torch.profiler import ProfilerActivity, profile

from pipeline.students import neighbour_max
from pipeline.students.embedding import Embedding

torch.set_num_threads(1)

POINTS, NEIGHBOURS, WIDTH = 600, 16, 128


def peak_rows(blocks: bool, padding_aware: bool) -> float:
    """Most memory alive at once in forward and backward, in tensors of (POINTS, WIDTH) float32."""
    torch.manual_seed(0)
    embedding = Embedding(5, WIDTH, blocks=blocks, padding_aware=padding_aware).train()
    features = torch.randn(POINTS, 5)
    neighbours = torch.randint(POINTS, (POINTS, NEIGHBOURS))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as seen:
        embedding(features, neighbours, padding=700).sum().backward()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == MEMORY_EVENT_NAME]
    changes = sorted((event.start_ns(), event.nbytes()) for event in events)
    peak = np.cumsum([size for _, size in changes]).max()
    return float(peak) / (4 * POINTS * WIDTH)


@pytest.mark.parametrize("padding_aware", [False, True])
def test_nothing_of_all_neighbours_and_channels_is_alive(
    padding_aware: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(neighbour_max.BLOCK_ELEMENTS, "cpu", 1 << 14)
    monkeypatch.setattr(neighbour_max, "HIDDEN_ELEMENTS", 1 << 14)
    at_once, in_blocks = peak_rows(False, padding_aware), peak_rows(True, padding_aware)
    assert at_once > 3 * NEIGHBOURS, at_once  # the measure sees them: hidden before and after, and a gradient
    # Eight, most of them of the merge: not one of (16 P, C).
    assert in_blocks < 0.6 * NEIGHBOURS, in_blocks


def test_one_row_has_no_batch_statistics() -> None:
    embedding = Embedding(5, 8, blocks=True)
    with pytest.raises(ValueError, match="more than 1 "):
        embedding.train()(torch.randn(1, 5), torch.zeros(1, 1, dtype=torch.int64))
    assert embedding.eval()(torch.randn(1, 5), torch.zeros(1, 1, dtype=torch.int64)).shape == (1, 8)


@pytest.mark.parametrize("blocks", [False, True])
def test_statistics_of_many_rows_keep_their_digits(blocks: bool) -> None:
    """In float32, where each point's neighbours lie on one side of it."""
    torch.manual_seed(0)
    points = 4000
    embedding = Embedding(5, 8, blocks=blocks).train()
    features = torch.linspace(0, 40, points).unsqueeze(1) + torch.randn(points, 5)
    neighbours = (torch.arange(points).unsqueeze(1) + 50 * torch.arange(1, NEIGHBOURS + 1)).clamp(
        max=points - 1
    )
    single = embedding(features, neighbours)
    exact = Embedding(5, 8, blocks=False).train()
    exact.load_state_dict(embedding.state_dict())
    double = exact.double()(features.double(), neighbours)
    assert (single - double).abs().max() < 2e-6 * double.abs().max()
