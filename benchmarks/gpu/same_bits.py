"""Whether two runs of a training give the same bits on a device, and what it costs to make sure that they do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from benchmarks.gpu.arithmetic import Arithmetic
from benchmarks.gpu.cells import Wrong
from benchmarks.gpu.lines import Row
from benchmarks.gpu.timing import times
from pipeline.losses.distillation import distillation_loss
from pipeline.students.backends import Backend
from pipeline.students.heads import LinearHead
from pipeline.students.packed import PackedClouds
from pipeline.students.waffleiron import WaffleIron

STEPS, RUNS, CHANNELS = 2, 3, 384
Bits = dict[str, Tensor]


def ask_for_the_same_products() -> None:
    """Before the first product of a process: cuBLAS keeps its sums in one order only with a workspace of fixed size."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


class Training:
    """A small training from the start, the same each time: student, head, loss, AdamW."""

    def __init__(
        self,
        backend: Backend,
        arithmetic: Arithmetic,
        clouds: PackedClouds,
        device: torch.device,
        width: int,
        depth: int,
        shapes: tuple[tuple[int, int], ...],
    ) -> None:
        torch.manual_seed(0)
        backbone = WaffleIron(width=width, depth=depth, plane_shapes=shapes, backend=backend)
        self.model = nn.ModuleList([backbone, LinearHead(width, CHANNELS)]).to(device)
        self._optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self._wanted = torch.randn(len(clouds.features), CHANNELS).to(device)
        self._clouds, self._arithmetic, self._device = clouds, arithmetic, device
        self._scaler = torch.amp.GradScaler(device.type, enabled=arithmetic.short == torch.float16)

    def step(self) -> None:
        backbone, head = self.model
        self._optimiser.zero_grad(set_to_none=True)
        with self._arithmetic.on(self._device):
            loss = distillation_loss(head(backbone(self._clouds)), [self._wanted])
        with self._arithmetic.matrix_units():
            self._scaler.scale(loss).backward()
        self._scaler.step(self._optimiser)
        self._scaler.update()

    def bits(self) -> Bits:
        """Weights, running statistics and the last gradients, after `STEPS` steps."""
        for _ in range(STEPS):
            self.step()
        found = {name: value.clone() for name, value in self.model.state_dict().items()}
        grads = ((name, value.grad) for name, value in self.model.named_parameters())
        return found | {f"gradient of {name}": grad.clone() for name, grad in grads if grad is not None}


def same_bits(
    backend: Backend,
    arithmetic: Arithmetic,
    clouds: PackedClouds,
    device: torch.device,
    width: int,
    depth: int,
    shapes: tuple[tuple[int, int], ...],
) -> Row:
    """Whether three runs agree bit for bit, as they are and with torch's deterministic algorithms, and both times.

    Raises:
        Wrong: if they differ even with those, or torch has none for what a training does.
    """

    def training() -> Training:
        return Training(backend, arithmetic, clouds, device, width, depth, shapes)

    row: Row = {"backend": backend, "arithmetic": arithmetic.name, "width": width, "depth": depth}
    differing = _differing(training)
    row |= {"same_bits": not differing, "differ": len(differing), "first": differing[:4]}
    row["ms"] = round(times(training().step, device, seconds=0.3).median, 3)
    with _deterministic():
        try:
            still = _differing(training)
        except RuntimeError as error:  # torch refuses what it has no deterministic way for
            raise Wrong(f"with deterministic algorithms: {str(error).splitlines()[0]}", **row) from error
        row["ms_deterministic"] = round(times(training().step, device, seconds=0.3).median, 3)
    row["cost"] = round(row["ms_deterministic"] / row["ms"], 3)
    if still:
        raise Wrong(f"bits differ with deterministic algorithms: {', '.join(still[:4])}", **row)
    return row


def _differing(training: Callable[[], Training]) -> list[str]:
    """Tensors that are not the same in all runs."""
    runs: list[Bits] = [training().bits() for _ in range(RUNS)]
    return [name for name, value in runs[0].items() if any(not _equal(value, run[name]) for run in runs[1:])]


def _equal(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one, other) or bool(((one == other) | (one.isnan() & other.isnan())).all())


@contextmanager
def _deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
