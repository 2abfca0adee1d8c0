"""Backends against the dense reference in float64, on one device: outputs, gradients and buffers of many small batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.gpu.arithmetic import ARITHMETICS, Arithmetic
from benchmarks.gpu.cells import Wrong
from benchmarks.gpu.lines import Row
from benchmarks.gpu.odd_clouds import CASES, FEW, SHAPES, Shapes, scattered
from benchmarks.gpu.small_students import make_student, results_of, wanting
from pipeline.students.backends import Backend
from pipeline.students.packed import Cloud
from pipeline.students.sparse_mix import Activation
from pipeline.students.stochastic_depth import masks
from pipeline.students.waffleiron import Norm

DEPTH = 3
LARGE = ((31, 29), (31, 9), (29, 9))
TRITON_FLOAT64 = 1e-9
"""What the kernels may be off in float64: they take LayerNorm's epsilon of 1e-5 as a float32, off by up to 2^-25 of itself,
which moves a row of deviation 0.01 by some 1e-9."""
MOST = 2.0
"""A backend may lose so many times what the reference loses in the same arithmetic."""

Found = dict[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """One batch, and the student that takes it.

    Attributes:
        large: of so many points that a single gradient's distance means something in any arithmetic.
        drop: whether residuals are dropped.
    """

    name: str
    clouds: Sequence[Cloud]
    width: int
    norm: Norm
    activation: Activation
    shapes: Shapes = SHAPES
    training: bool = True
    large: bool = False
    drop: bool = False


def batches(quick: bool) -> list[Batch]:
    """Odd clouds at width 5, in both kinds of layer by turns; large ones, unequal and with empty ones between, at 96 and 256."""
    kinds: tuple[tuple[Norm, Activation], ...] = (("layer", "relu"), ("batch", "gelu"))
    found = [
        Batch(name, make(), 5, *kinds[number % 2], training=name in CASES)
        for number, (name, make) in enumerate([*CASES.items(), *FEW.items()])
    ]
    sizes = (99, 0, 41) if quick else (999, 0, 401, 1, 77)
    clouds = [scattered(size, seed, LARGE) for seed, size in enumerate(sizes)]
    for width in (96,) if quick else (96, 256):
        for norm, activation in kinds:
            large = Batch(
                f"large, {width}", clouds, width, norm, activation, LARGE, large=True, drop=norm == "layer"
            )
            found.append(large)
    return found


def batches_of_one_kind() -> list[Batch]:
    """For what must be compiled for each kind of student anew: all at one width, of one kind of layer, nothing dropped."""
    clouds = [scattered(size, seed, LARGE) for seed, size in enumerate((999, 0, 401))]
    large = Batch("large, 96", clouds, 96, "layer", "relu", LARGE, large=True)
    return [large, *(Batch(name, make(), 96, "layer", "relu") for name, make in CASES.items())]


@dataclass
class Agreement:
    """All batches on a device; what the reference gives in float64 is computed once."""

    device: torch.device
    batches: list[Batch]
    _exact: dict[int, Found] = field(default_factory=dict)
    _lost: dict[tuple[int, str], tuple[float, float]] = field(default_factory=dict)

    def row(self, backend: Backend, name: str) -> Row:
        """How far a backend is from float64 in one arithmetic, in the batch where it is farthest.

        Raises:
            Wrong: beyond the bounds, with the same figures.
        """
        arithmetic = ARITHMETICS[name]
        out_bound, grad_bound = arithmetic.output_bound(DEPTH), arithmetic.gradient_bound(DEPTH)
        if backend == "triton" and name == "float64":
            out_bound = grad_bound = TRITON_FLOAT64
        row: Row = {"backend": backend, "arithmetic": name, "batches": len(self.batches)}
        row |= {"output": 0.0, "output_bound": out_bound, "gradient": 0.0, "gradient_bound": grad_bound}
        wrong = []
        for number, batch in enumerate(self.batches):
            found = self._found(batch, backend, arithmetic)
            output, gradient, tensor, apart = self._apart(number, batch, found, name)
            row["output"], row["gradient"] = (
                _larger(row["output"], output),
                _larger(row["gradient"], gradient),
            )
            if not (output <= out_bound and gradient <= grad_bound):  # a NaN is within no bound
                wrong.append(f"{batch.name}: output {output:.1e}, gradients {gradient:.1e}")
            if not apart <= 2 * grad_bound:
                wrong.append(f"{batch.name}: {tensor} {apart:.1e}")
            if batch.large and name not in ("float64", "float32"):
                ours, theirs = (output, gradient), self._of_reference(number, batch, arithmetic)
                ratio = _larger(*(a / b for a, b in zip(ours, theirs, strict=True)))
                row["of_reference"] = round(_larger(row.get("of_reference", 0.0), ratio), 3)
        if not row.get("of_reference", 0.0) <= MOST:
            wrong.append(f"it loses {row['of_reference']} times what the reference loses in this arithmetic")
        if wrong:
            raise Wrong("; ".join(wrong[:4]) + (f"; {len(wrong) - 4} more" if len(wrong) > 4 else ""), **row)
        return row

    def _found(self, batch: Batch, backend: Backend, arithmetic: Arithmetic) -> Found:
        torch.manual_seed(0)
        student = make_student(backend, batch.norm, batch.activation, batch.width, DEPTH, shapes=batch.shapes)
        student = student.to(self.device, arithmetic.dtype).train(batch.training)
        clouds = wanting(batch.clouds, arithmetic.dtype, self.device)
        drop = None
        if batch.drop:
            drop = masks(0, 0, list(range(clouds.count)), DEPTH, 0.3).to(self.device, arithmetic.dtype)
        with arithmetic.on(self.device):
            out = student(clouds, drop)
        with arithmetic.matrix_units():
            return results_of(student, clouds, out)

    def _expected(self, number: int, batch: Batch) -> Found:
        if number not in self._exact:
            self._exact[number] = self._found(batch, "reference", ARITHMETICS["float64"])
        return self._exact[number]

    def _of_reference(self, number: int, batch: Batch, arithmetic: Arithmetic) -> tuple[float, float]:
        """What the reference itself loses: of the output, and of all gradients."""
        key = (number, arithmetic.name)
        if key not in self._lost:
            found = self._found(batch, "reference", arithmetic)
            self._lost[key] = self._apart(number, batch, found, arithmetic.name)[:2]
        return self._lost[key]

    def _apart(self, number: int, batch: Batch, found: Found, name: str) -> tuple[float, float, str, float]:
        """Of the output and of all gradients together the distance from float64, as shares of their norms; the tensor
        that is farthest off, and how far.

        A single tensor counts in float64 and float32, and in other arithmetics where the batch is large: in a small one a
        single switch may turn a small tensor round. It is held against its own norm, or a hundredth of that of all.
        """
        exact = self._expected(number, batch)
        names = [key for key in exact if "gradient" in key]
        whole = _norm([exact[key] for key in names])
        gradient = _norm([found[key].double() - exact[key] for key in names]) / max(whole, 1e-30)
        output = _norm([found["output"].double() - exact["output"]]) / max(_norm([exact["output"]]), 1e-30)
        judged = batch.large or name in ("float64", "float32")
        tensor, apart = "", 0.0
        for key in [key for key in exact if judged and key != "output"]:
            against = max(_norm([exact[key]]), 0.01 * whole if key in names else 1.0)
            this = _norm([found[key].double() - exact[key].double()]) / max(against, 1e-30)
            if not this <= apart:
                tensor, apart = key, this
        return output, gradient, tensor, apart


def _larger(one_value: float, other: float) -> float:
    """The larger one, and NaN if either is: Python's `max` keeps whatever comes first."""
    return one_value if one_value != one_value or one_value > other else other


def _norm(tensors: Sequence[Tensor]) -> float:
    """Of all numbers together."""
    return float(torch.stack([tensor.double().norm() for tensor in tensors]).norm()) if tensors else 0.0
