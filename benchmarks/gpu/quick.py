"""What a run on a CPU does otherwise: it shows that all of it runs, beside whatever else the machine does."""

from __future__ import annotations

import torch

from benchmarks.gpu.cells import Cells


def settle(cells: Cells) -> None:
    """One thread on a CPU: several wait for each other where cores are shared. Nothing on a GPU."""
    if not cells.on_gpu:
        torch.set_num_threads(1)
