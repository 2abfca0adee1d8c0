"""Ways to compute one and the same student: which there are, and which runs where.

    reference   plain, with dense planes; the truth that the others are held to
    torch       on the occupied cells alone, with torch's own operations
    compiled    the same under torch.compile, one graph for batches of all sizes
    triton      the spatial mix by kernels of our own, for NVIDIA GPUs

Parameters are the same, and results to rounding. `auto` follows what was measured on a device;
`benchmarks/student.py --table backends` measures.
"""

from __future__ import annotations

import functools
import os
import shutil
from typing import Literal, get_args

from cache_schemas.errors import BadInput
from pipeline.students.sparse_mix import Steps

Backend = Literal["reference", "torch", "compiled", "triton"]
Choice = Literal["auto"] | Backend
CHOICES: tuple[Choice, ...] = ("auto", *get_args(Backend))
MEASURED: dict[str, Backend] = {"cpu": "torch"}
"""What `auto` is by kind of device. A device that is not here was not measured, and takes `torch`. On a CPU `compiled`
is 1.05 to 1.2 times as fast, after minutes of compiling that a short run does not earn back."""


@functools.cache
def backend_for(wanted: Choice, kind: str) -> Backend:
    """The backend that runs on a kind of device, `cpu` or `cuda`.

    Raises:
        BadInput: if it cannot run there.
    """
    if wanted == "auto":
        return MEASURED.get(kind, "torch")
    if wanted == "compiled" and kind == "cpu":
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            raise BadInput(
                f"network.backend is `compiled`, which on a CPU needs a C++ compiler, and {compiler} was not found; "
                f"install it, or write `backend: torch`"
            )
    if wanted == "triton" and not triton_runs_on(kind):
        raise BadInput(
            f"network.backend is `triton`, which needs an NVIDIA GPU and the package triton, and the student is on "
            f"{kind}; write `backend: torch`, or `backend: auto`"
        )
    return wanted


def triton_runs_on(kind: str) -> bool:
    """Whether kernels of triton run on a kind of device; on a CPU they do so in triton's interpreter alone."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return kind == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"


def steps_of(backend: Backend) -> Steps | None:
    """What does a spatial mix's work where that is not torch; triton is loaded where it is wanted alone."""
    if backend != "triton":
        return None
    from pipeline.students.triton_mix import TRITON

    return TRITON
