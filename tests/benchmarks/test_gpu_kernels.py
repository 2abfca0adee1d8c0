"""Kernels for NVIDIA GPUs, compiled to machine code without one; in a process of its own, without triton's interpreter."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import torch

pytest.importorskip("triton")  # `conftest.py` chose its interpreter

from benchmarks.gpu.kernels import CAPABILITIES, KERNELS, Use, cases, table
from pipeline.students import triton_kernels

HELPERS = {"activated", "slope"}
"""Called by kernels, never launched."""
FORMS = {
    "cell_sums": {"plain", "layer norm"},
    "normalised_rows_backward": {"plain"},
    "add_to_rows": {"plain"},
    "spread": {"no activation", "relu", "gelu"},
    "collect": {"no activation", "relu, bias", "gelu, bias"},
    "tap_gradients": {"no activation", "relu", "gelu"},
}


def compile_tables(*options: str) -> list[str]:
    """Rows of the table that the command prints."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu.kernels", *options],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, *lines = done.stdout.splitlines()
    assert re.fullmatch(r"Compiled by triton \d+\.\d+\.\d+\.", first)
    return [line for line in lines if line.startswith("|")][2:]


def test_every_kernel_is_a_case_in_every_form() -> None:
    in_module = {name for name, value in vars(triton_kernels).items() if hasattr(value, "arg_names")}
    assert in_module - HELPERS == set(KERNELS)
    found: dict[str, set[str]] = {}
    for case in cases(widths=[96], types=[torch.float32]):
        found.setdefault(case.kernel, set()).add(case.form)
    assert found == FORMS


def test_sixteen_bits_are_launched_as_float32() -> None:
    single = cases(widths=[256], types=[torch.float32])
    for dtype in (torch.bfloat16, torch.float16):
        assert cases(widths=[256], types=[dtype]) == single
    assert {case.number for case in cases(widths=[256], types=[torch.float64])} == {"float64"}


def test_what_the_compiler_is_told() -> None:
    """All tensors are aligned; the channels where they are a multiple of 16; the numbers of cells never."""
    for width, aligned in ((96, True), (20, False)):
        for case in cases(widths=[width], types=[torch.float32]):
            names = {name for name, kind in case.types if kind.startswith("*")}
            assert set(case.aligned) == names | ({"C"} if aligned else set())
            assert case.block == (128 if width == 96 else 32)


def test_the_table_says_where_capabilities_differ() -> None:
    (case,) = cases(widths=[96], types=[torch.float32])[:1]
    lines = list(table({(case, 80): Use(32, 16, 0), (case, 90): Use(40, 16, 8)}))
    assert lines[-1] == "| `cell_sums` | plain | float32 | 128 | 32 | 40 | 16 | 0 / 8 |"


def test_a_kernel_compiles_for_a_gpu_and_does_not_spill() -> None:
    (plain, norm) = compile_tables(
        *("--capability", "90", "--kernel", "cell_sums", "--width", "768", "--no-float64")
    )
    assert plain.startswith("| `cell_sums` | plain | float32 | 1024 |")
    assert plain.endswith("| 0 | 0 |")
    assert norm.endswith("| 0 |")


@pytest.mark.slow
def test_all_kernels_compile_for_all_gpus_and_do_not_spill() -> None:
    lines = compile_tables()
    assert len(lines) == len(cases())
    for line in lines:
        cells = line.strip("| ").split(" | ")
        assert len(cells) == 6 + len(CAPABILITIES)
        assert cells[-1] == "0", line
