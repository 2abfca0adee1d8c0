"""A student's step whose batch never changes: no size is asked of the device, so that a CUDA graph can hold all of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.gpu.arithmetic import Arithmetic
from benchmarks.gpu.lines import Row
from benchmarks.gpu.student_step import our_step
from benchmarks.gpu.timing import synchronise, times
from pipeline.students import waffleiron
from pipeline.students.backends import Backend
from pipeline.students.packed import PackedClouds
from pipeline.students.sparse_plane import SparsePlane, sparse_plane
from pipeline.students.waffleiron import WaffleIron


@dataclass(frozen=True)
class FixedClouds(PackedClouds):
    """Clouds that have their rows' clouds with them."""

    cloud: Tensor | None = None

    def cloud_of_row(self) -> Tensor:
        assert self.cloud is not None
        return self.cloud


def fixed(clouds: PackedClouds) -> FixedClouds:
    """The same clouds, on their device."""
    return FixedClouds(
        clouds.features, clouds.neighbours, clouds.cells, clouds.offsets, clouds.cloud_of_row()
    )


@contextmanager
def planes_laid(student: WaffleIron, clouds: PackedClouds) -> Iterator[None]:
    """Inside, the student finds the tables of its planes laid, and does not check its batch."""
    tables: list[SparsePlane] = [
        sparse_plane(clouds.cells[:, i], clouds.cloud_of_row(), (clouds.count, *shape), torch.float32)
        for i, shape in enumerate(student.plane_shapes)
    ]
    asked = iter(range(10**9))
    with (
        patch.object(waffleiron, "sparse_plane", lambda *_: tables[next(asked) % len(tables)]),
        patch.object(waffleiron, "check_batch", lambda *_: None),
    ):
        yield


def graphed(
    student: WaffleIron, backend: Backend, clouds: PackedClouds, arithmetic: Arithmetic, device: torch.device
) -> Row:
    """Milliseconds of a step as it is, with its tables laid before, and replayed from a CUDA graph; and how far the
    replayed gradients are from the others. clouds: on the device, a GPU."""
    still = fixed(clouds)
    step = our_step(student, backend, still, arithmetic, device)
    row: Row = {"as_it_is_ms": round(_ms(our_step(student, backend, clouds, arithmetic, device), device), 4)}
    with planes_laid(student, still):
        row["tables_laid_ms"] = round(_ms(step, device), 4)
        step()
        before = _gradients(student).clone()
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(
            stream
        ):  # a graph is captured beside the default stream, after a warm-up there
            for _ in range(3):
                step()
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        row["graph_ms"] = round(_ms(graph.replay, device), 4)
        synchronise(device)
        after = _gradients(student)
    row["gradients_apart"] = float((after - before).norm() / before.norm())
    row["times_as_fast"] = round(row["as_it_is_ms"] / row["graph_ms"], 3)
    return row


def _ms(step: object, device: torch.device) -> float:
    return times(step, device, seconds=0.4).median  # type: ignore[arg-type]


def _gradients(student: WaffleIron) -> Tensor:
    grads = [parameter.grad for parameter in student.parameters()]
    return torch.cat([grad.detach().flatten() for grad in grads if grad is not None])
