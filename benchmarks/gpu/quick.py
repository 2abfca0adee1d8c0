"""What a run on a CPU does otherwise: it shows that all of it runs, beside whatever else the machine does."""

from __future__ import annotations

import torch

from benchmarks.gpu.cells import Cells
from pipeline.students.backends import Backend, triton_runs_on


def settle(cells: Cells) -> None:
    """One thread on a CPU: several wait for each other where cores are shared. Nothing on a GPU."""
    if not cells.on_gpu:
        torch.set_num_threads(1)


def fast_backends(cells: Cells) -> list[Backend]:
    """Those that need no minute of compiling, the fastest by the estimates first; says in words that triton's is left out.

    On a CPU its kernels run in triton's interpreter, which takes minutes for what is done here in a second: tests do that.
    """
    if cells.on_gpu and triton_runs_on("cuda"):
        return ["triton", "torch"]
    why = "the package triton is not there" if cells.on_gpu else "its kernels run on an NVIDIA GPU"
    cells.leave_out("triton", why)
    return ["torch"]
