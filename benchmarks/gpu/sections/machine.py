"""What the device is, and the rates that it reaches: every other figure is held against these."""

from __future__ import annotations

import os
import platform
import shutil
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarks.gpu.cells import Cells
from benchmarks.gpu.lines import Row
from benchmarks.gpu.timing import copy_rate, product_rate

PACKAGES = ("torch", "torchvision", "triton", "timm", "numpy", "zarr", "pydantic")


def run(cells: Cells) -> None:
    """Name, memory, versions; TB/s of a copy; TFLOP/s of a large product in each arithmetic."""
    cells.run("device", lambda: _device(cells.device))
    megabytes, side = (2048, 8192) if cells.on_gpu else (64, 512)
    cells.run("copy", lambda: {"tb_per_s": round(copy_rate(cells.device, megabytes), 3)})
    for name, dtype, tf32 in (
        ("bfloat16", torch.bfloat16, False),
        ("float16", torch.float16, False),
        ("tf32", torch.float32, True),
        ("float32", torch.float32, False),
    ):
        if name in ("float16", "tf32") and not cells.on_gpu:
            cells.leave_out(f"product {name}", "a CPU has none, or a slow one")
            continue
        cells.run(
            f"product {name}",
            lambda dtype=dtype, tf32=tf32: {
                "tflop_per_s": round(product_rate(cells.device, dtype, side, tf32=tf32), 3)
            },
        )


def _device(device: torch.device) -> Row:
    row: Row = {
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        **_compiler(),
    }
    if device.type != "cuda":
        return {**row, "name": "cpu", "capability": torch.backends.cpu.get_cpu_capability()}
    found = torch.cuda.get_device_properties(device)
    return {
        **row,
        "name": found.name,
        "capability": f"{found.major}.{found.minor}",
        "gigabytes": round(found.total_memory / 1e9, 1),
        "multiprocessors": found.multi_processor_count,
        "cuda": torch.version.cuda,
    }


def _compiler() -> Row:
    """What triton needs to start its kernels, also under torch.compile: a C compiler, and Python's headers."""
    found = [
        path for name in (os.environ.get("CC"), "gcc", "clang", "cc") if name and (path := shutil.which(name))
    ]
    header = Path(sysconfig.get_path("include")) / "Python.h"
    return {"c_compiler": found[0] if found else None, "python_headers": header.is_file()}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
