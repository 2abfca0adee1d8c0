"""What the device is, and the rates that it reaches: every other figure is held against these."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

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
        if name == "float16" and not cells.on_gpu:
            continue
        cells.run(
            f"product {name}",
            lambda dtype=dtype, tf32=tf32: {
                "tflop_per_s": round(product_rate(cells.device, dtype, side, tf32=tf32), 3)
            },
        )


def _device(device: torch.device) -> Row:
    row: Row = {"python": platform.python_version(), "versions": {name: _version(name) for name in PACKAGES}}
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


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
