"""The counts of each kernel, against the addresses that it touches when triton's interpreter runs it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("triton")  # `conftest.py` chose its interpreter

from benchmarks.gpu import counts
from benchmarks.gpu.counts import Laid, kernels
from benchmarks.gpu.kernels import KERNELS
from pipeline.students import triton_kernels, triton_mix
from pipeline.students.sparse_plane import sparse_plane
from pipeline.students.waffleiron import SpatialMix

pytestmark = pytest.mark.usefixtures("interpreter_on_any_numpy")

WIDTH = 5
POINTS = 30


class Touched:
    """Stands in for the interpreter's access to memory: does the same, and keeps the bytes of what is touched."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.read: dict[int, int] = {}  # address, bytes
        self.written: dict[int, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def load(self, addresses: Any, mask: Any, other: Any, dtype: Any) -> Any:
        self.read |= dict.fromkeys(addresses[np.asarray(mask, bool)].tolist(), np.dtype(dtype).itemsize)
        return self.real.load(addresses, mask, other, dtype)

    def store(self, addresses: Any, values: Any, mask: Any) -> Any:
        self.written |= dict.fromkeys(addresses[np.asarray(mask, bool)].tolist(), values.dtype.itemsize)
        return self.real.store(addresses, values, mask)

    def taken(self) -> int:
        """Bytes touched since the last call, each place once for reading and once for writing."""
        total = sum(self.read.values()) + sum(self.written.values())
        self.read, self.written = {}, {}
        return total


@pytest.fixture
def touched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Kernel and bytes of each launch."""
    from triton.runtime import interpreter

    memory = Touched(interpreter._interpreter)
    monkeypatch.setattr(interpreter, "_interpreter", memory)
    found: list[tuple[str, int]] = []

    class Kernel:
        def __init__(self, name: str) -> None:
            self.name = name

        def __getitem__(self, grid: Any) -> Any:
            def launch(*values: Any, **constants: Any) -> None:
                getattr(triton_kernels, self.name)[grid](*values, **constants)
                found.append((self.name, memory.taken()))

            return launch

    stand_in = {name: Kernel(name) for name in KERNELS} | {"NONE": triton_kernels.NONE}
    monkeypatch.setattr(triton_mix, "kernels", SimpleNamespace(**stand_in))
    return found


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.float64, 8)])
def test_a_kernel_touches_what_is_counted(
    touched: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, size: int
) -> None:
    """Two clouds, the border's cells among them, and more cells than one part of the taps' gradients holds."""
    for module in (triton_mix, counts):
        monkeypatch.setattr(module, "CELLS_OF_A_PART", 10)
    generator = torch.Generator().manual_seed(0)
    cells = torch.randint(0, 4 * 5, (POINTS,), generator=generator)  # (P,)
    plane = sparse_plane(cells, (torch.arange(POINTS) > 17).long(), (2, 4, 5), dtype)
    laid = Laid(POINTS, plane.table.shape[1], plane.back.shape[1] - 1)
    assert counts.parts(laid) == 3
    mix = SpatialMix(WIDTH, "layer", "relu", None).to(dtype)
    rows = torch.randn(POINTS, WIDTH, dtype=dtype, requires_grad=True)
    mix(rows, plane, None, triton_mix.TRITON).sum().backward()

    counted = kernels(laid, WIDTH, size)
    assert [name for name, _ in touched] == [name.split(",")[0] for name in counted]
    for (name, found), count in zip(touched, counted.values(), strict=True):
        assert found == count.bytes, name


def test_more_work_takes_more() -> None:
    """Of each size alone."""
    small = kernels(Laid(100, 40, 90), 8, 4)
    for larger in (
        kernels(Laid(101, 40, 90), 8, 4),
        kernels(Laid(100, 41, 90), 8, 4),
        kernels(Laid(100, 40, 91), 8, 4),
        kernels(Laid(100, 40, 90), 9, 4),
        kernels(Laid(100, 40, 90), 8, 8),
    ):
        pairs = [(small[name], larger[name]) for name in small]
        assert all(a.bytes <= b.bytes and a.other <= b.other for a, b in pairs)
        assert any(a.bytes < b.bytes for a, b in pairs)
