"""The kernels for NVIDIA GPUs: run here in triton's interpreter against the reference.

`tests/benchmarks/test_gpu_kernels.py` compiles them."""

import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.gpu.odd_clouds import CASES as ODD
from benchmarks.gpu.odd_clouds import FEW, SHAPES, cloud_at, scattered
from benchmarks.gpu.small_students import assert_same, batch, make_student, results
from pipeline.students.packed import Cloud, pack
from pipeline.students.sparse_mix import Activation
from pipeline.students.sparse_plane import sparse_plane
from pipeline.students.waffleiron import Norm, SpatialMix, rows_on_plane

pytest.importorskip("triton")  # `conftest.py` chose its interpreter
torch.set_num_threads(1)

pytestmark = pytest.mark.usefixtures("interpreter_on_any_numpy")

WIDTH = 5
HEIGHT_AND_WIDTH = SHAPES[1]

CASES: dict[str, Callable[[], list[Cloud]]] = {
    "unequal and empty": lambda: [scattered(5, 0), scattered(0, 1), scattered(2, 2)],
    "corners": lambda: [cloud_at(np.array([[0, 0, 0], [0, 2, 0], [0, 15, 0], [0, 17, 0]]))],
    "all in one cell": ODD["all in one cell"],
    **FEW,
}


def mixed(
    case: str, backend: str, norm: Norm, activation: Activation, dtype: torch.dtype = torch.float64
) -> dict[str, Tensor]:
    """One spatial mix of a case on the second plane: output and gradients."""
    from pipeline.students.triton_mix import TRITON

    clouds = pack(CASES[case]())
    torch.manual_seed(0)
    mix = SpatialMix(WIDTH, norm, activation, None).to(dtype).eval()
    features, direction = torch.randn(2, len(clouds.cells), WIDTH, dtype=dtype)
    features.requires_grad_()
    mask = torch.linspace(0.5, 2.0, clouds.count, dtype=dtype)[clouds.cloud_of_row()]  # (P,)
    lay = rows_on_plane if backend == "reference" else sparse_plane
    plane = lay(clouds.cells[:, 1], clouds.cloud_of_row(), (clouds.count, *HEIGHT_AND_WIDTH), dtype)
    out = mix(features, plane, mask, TRITON if backend == "triton" else None)
    names = ["features", *(name for name, _ in mix.named_parameters())]
    grads = torch.autograd.grad((out * direction).sum(), [features, *mix.parameters()])
    return {"output": out} | {f"gradient of {name}": g for name, g in zip(names, grads, strict=True)}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("norm", "activation"), [("layer", "relu"), ("batch", "gelu")])
def test_the_kernels_give_the_reference(case: str, norm: Norm, activation: Activation) -> None:
    assert_same(mixed(case, "triton", norm, activation), mixed(case, "reference", norm, activation))


def test_channels_and_cells_in_several_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.students import triton_mix

    monkeypatch.setattr(triton_mix, "WIDEST", 4)
    monkeypatch.setattr(triton_mix, "CELLS_OF_A_PART", 3)
    case = "unequal and empty"
    assert_same(mixed(case, "triton", "layer", "gelu"), mixed(case, "reference", "layer", "gelu"))


def test_float32_twice_the_same_bits() -> None:
    first, second = (mixed("unequal and empty", "triton", "layer", "relu", torch.float32) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_whole_student() -> None:
    clouds = batch([3, 2])
    found, expected = (results(make_student(backend, depth=1), clouds) for backend in ("triton", "reference"))
    assert_same(found, expected)


NOT_SPECIALISED = """
from pipeline.students import triton_kernels as kernels
for name in ("spread", "collect", "tap_gradients"):
    print(*sorted(p.name for p in getattr(kernels, name).params if p.do_not_specialize))
"""


def test_no_batch_is_compiled_for_by_itself() -> None:
    """Asked of the kernels themselves, in a process without the interpreter."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", NOT_SPECIALISED], capture_output=True, text=True, check=False, env=environment
    )
    assert done.stdout.splitlines() == ["DILATED OCCUPIED"] * 3, done.stderr
