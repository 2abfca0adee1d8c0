"""How the benchmark counts what a GPU does in a step, and how a step's parts fit together, on a CPU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.append(str(REPOSITORY))  # `benchmarks` is no package that is installed

from benchmarks.gpu.pace import covered  # noqa: E402


@pytest.mark.parametrize(
    ("spans", "whole"),
    [
        ([], 0.0),
        ([(0, 1), (2, 4)], 3.0),
        ([(2, 4), (0, 3)], 4.0),
        ([(0, 10), (1, 2), (3, 4), (9, 12)], 12.0),
        ([(5, 5), (5, 6)], 1.0),
    ],
)
def test_what_overlaps_counts_once(spans: list[tuple[float, float]], whole: float) -> None:
    assert covered(spans) == whole
