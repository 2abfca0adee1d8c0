"""The student's step beside the authors' own code, at the sizes of a training: time, memory, shares.

Clouds are what cameras see of a real keyframe, made denser to 5,000, 10,000 and 20,000 points, eight in a batch; students
have 48 layers. What is worth most comes first: a short time gives that. Theirs takes the largest batch that fits, and is
compared a cloud.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

import torch

from benchmarks.gpu.arithmetic import ARITHMETICS, Arithmetic
from benchmarks.gpu.cells import Cells
from benchmarks.gpu.clouds import part_of, real_clouds
from benchmarks.gpu.lines import Row
from benchmarks.gpu.quick import fast_backends, settle
from benchmarks.gpu.student_step import Step, Theirs, optimiser_step, our_step, our_student, products_ms
from benchmarks.gpu.timing import peak_gigabytes, synchronise, times
from pipeline.students.backends import Backend
from pipeline.students.packed import PackedClouds
from pipeline.students.sparse_plane import sparse_plane
from pipeline.students.waffleiron import WaffleIron

ORDER = (
    *(("bfloat16", width, points) for width, points in ((768, 5_000), (256, 5_000), (768, 20_000))),
    *((name, 768, 5_000) for name in ("tf32", "float32", "float16")),
    *(("bfloat16", width, points) for width, points in ((256, 20_000), (768, 10_000), (256, 10_000))),
    *((name, 256, 5_000) for name in ("float16", "tf32", "float32")),
    *(
        (name, width, points)
        for points in (20_000, 10_000)
        for width in (768, 256)
        for name in ("tf32", "float16")
    ),
    *(("float32", width, points) for points in (20_000, 10_000) for width in (256, 768)),
)
"""Arithmetic, width and points of a cloud, by worth: ScaLR's width first, and the arithmetic that a GPU is for."""
COMPILED = (("bfloat16", 768, 5_000), ("bfloat16", 256, 5_000))
COMPILING = 75.0
"""Seconds that compiling the two mixes may take."""
BATCHES = (8, 6, 5, 4, 3, 2, 1)
"""Clouds that are tried, where eight do not fit."""


@dataclass
class Sides:
    """The networks of one width: made once, held one width at a time."""

    cells: Cells
    depth: int
    count: int
    width: int = 0
    _ours: WaffleIron | None = None
    _theirs: Theirs | None = None
    _products: dict[tuple[int, str], float] = field(default_factory=dict)

    def ours(self, width: int) -> WaffleIron:
        self._at(width)
        self._ours = self._ours or our_student(width, self.depth, self.cells.device)
        return self._ours

    def theirs(self, width: int) -> Theirs:
        self._at(width)
        assert self.cells.waffleiron is not None
        self._theirs = self._theirs or Theirs(self.cells.waffleiron, width, self.depth, self.cells.device)
        return self._theirs

    def products(self, width: int, points: int, arithmetic: Arithmetic) -> float:
        """Milliseconds of a step's matrix products; measured once."""
        self._at(width)
        key = (points, arithmetic.name)
        if key not in self._products:
            self._products[key] = products_ms(width, points, self.depth, arithmetic, self.cells.device)
        return self._products[key]

    def clouds(self, count: int, points: int) -> PackedClouds:
        """On the CPU."""
        if self.cells.quick:
            return part_of(real_clouds(self.cells.packed, count, 3_000), points)
        return real_clouds(self.cells.packed, count, points)

    def _at(self, width: int) -> None:
        if self.width != width:
            self.width, self._ours, self._theirs, self._products = width, None, None, {}
            gc.collect()


def run(cells: Cells) -> None:
    """All sizes in the order of worth, each with all sides; then the optimiser, the parts, and what is compiled."""
    settle(cells)
    order: Sequence[tuple[str, int, int]] = ORDER
    sides = Sides(cells, depth=48, count=8)
    if cells.quick:
        order = tuple(("bfloat16" if name == "float16" else name, 16, 150) for name in ("float16", "float32"))
        sides = Sides(cells, depth=3, count=2)
    backends = fast_backends(cells)
    if cells.waffleiron is None:
        cells.leave_out("authors", "no checkout of the authors' code was given: --waffleiron")
    for name, width, points in order:
        at = f"{width} channels, {points} points, {name}"
        for backend in backends:
            cells.run(f"{backend}, {at}", partial(_ours, sides, backend, width, points, name), needs=4)
        if cells.waffleiron is not None:
            cells.run(f"authors, {at}", partial(_theirs, sides, width, points, name), needs=6)
        if (name, width, points) == order[min(2, len(order) - 1)]:
            _once(cells, sides, backends[0], *order[0][1:])
    for name, width, points in COMPILED if not cells.quick else ():
        at = f"compiled, {width} channels, {points} points, {name}"
        cells.run(at, partial(_ours, sides, "compiled", width, points, name), needs=COMPILING)
    if cells.quick:
        cells.leave_out("compiled", "compiling takes a minute; --quick does not")


def _once(cells: Cells, sides: Sides, backend: Backend, width: int, points: int) -> None:
    cells.run(f"optimiser, {width} channels", partial(_optimiser, sides, width))
    parts = partial(_parts, sides, backend, width, points)
    cells.run(f"parts, {width} channels, {points} points, {backend}", parts, needs=4)


def _ours(sides: Sides, backend: Backend, width: int, points: int, name: str) -> Row:
    clouds = sides.clouds(sides.count, points)
    on_device = clouds.to(sides.cells.device)
    step = our_step(sides.ours(width), backend, on_device, ARITHMETICS[name], sides.cells.device)
    return _measured(sides, step, backend, width, points, name, sides.count) | _floor(
        sides, clouds, width, name
    )


def _theirs(sides: Sides, width: int, points: int, name: str) -> Row:
    """The largest batch that fits; that none does is a result, too."""
    theirs = sides.theirs(width)
    full: list[int] = []
    for count in [batch for batch in BATCHES if batch <= sides.count]:
        step = theirs.step(sides.clouds(count, points), ARITHMETICS[name])
        try:
            return {**_measured(sides, step, "authors", width, points, name, count), "did_not_fit": full}
        except torch.cuda.OutOfMemoryError:
            full.append(count)
        del step
        gc.collect()
        torch.cuda.empty_cache()
    raise torch.cuda.OutOfMemoryError(f"of their code not even one cloud of {points} points fits")


def _measured(sides: Sides, step: Step, side: str, width: int, points: int, name: str, count: int) -> Row:
    device = sides.cells.device
    found = times(step, device, seconds=0.1 if sides.cells.quick else 0.6, warmup=2)
    peak = peak_gigabytes(step, device)
    products = sides.products(width, count * points, ARITHMETICS[name])
    return {
        "side": side,
        "width": width,
        "points": points,
        "clouds": count,
        "depth": sides.depth,
        "arithmetic": name,
        **found.row(),
        "host_ms": round(_host_ms(step, device), 3),
        "peak_gb": None if peak is None else round(peak, 2),
        **shares(found.median, count, products),
    }


def shares(milliseconds: float, clouds: int, products: float) -> Row:
    """Of a step of so many clouds; products: milliseconds that its matrix products alone take."""
    return {
        "ms_a_cloud": round(milliseconds / clouds, 4),
        "products_ms": round(products, 4),
        "share_of_products": round(products / milliseconds, 4),
    }


def _host_ms(step: Step, device: torch.device) -> float:
    """Milliseconds until a step is handed to the device: near those that it takes there, the host is what holds it up."""
    synchronise(device)
    began = time.perf_counter()
    step()
    took = 1e3 * (time.perf_counter() - began)
    synchronise(device)
    return took


def _floor(sides: Sides, clouds: PackedClouds, width: int, name: str) -> Row:
    """What `benchmarks.gpu.floors` says of this very batch on this card; nothing where it is not there, or does not know
    the card."""
    try:
        floors, sheets, counts = (
            import_module(f"benchmarks.gpu.{module}") for module in ("floors", "datasheets", "counts")
        )
    except ImportError:
        return {}
    if not sides.cells.on_gpu:
        return {}
    card = next((one for key, one in sheets.CARDS.items() if key in torch.cuda.get_device_name()), None)
    precision = sheets.PRECISIONS.get("TF32" if name == "tf32" else name)
    if card is None or precision is None:
        return {}
    on = [_laid(counts.Laid, clouds, plane, shape) for plane, shape in enumerate(_shapes(sides, width))]
    given: tuple[Any, ...] = (card, on, width, precision, sides.depth)
    return {
        "card": card.name,
        "floor_ms": round(1e3 * floors.student_floor(*given), 4),
        "estimate_ms": round(1e3 * floors.student_estimate(*given), 4),
        "authors_estimate_ms": round(1e3 * floors.authors_estimate(*given), 4),
    }


def _shapes(sides: Sides, width: int) -> Sequence[tuple[int, int]]:
    return sides.ours(width).plane_shapes


def _laid(
    laid: Callable[..., Any], clouds: PackedClouds, plane: int, shape: tuple[int, int]
) -> tuple[Any, int]:
    """How a batch lies on a plane, and the cells of that plane."""
    found = sparse_plane(clouds.cells[:, plane], clouds.cloud_of_row(), (clouds.count, *shape), torch.float32)
    dilated, occupied = found.back.shape[1] - 1, found.table.shape[1]
    return laid(len(clouds.features), occupied, dilated), clouds.count * shape[0] * shape[1]


def _optimiser(sides: Sides, width: int) -> Row:
    student = sides.ours(width)
    found = times(optimiser_step(student), sides.cells.device, seconds=0.3)
    student.zero_grad(set_to_none=True)
    return {"side": "optimiser", "width": width, "depth": sides.depth, **found.row()}


def _parts(sides: Sides, backend: Backend, width: int, points: int) -> Row:
    """Where a step's time goes: forward of the embedding, tables of the planes, and forward of the whole."""
    device, student = sides.cells.device, sides.ours(width)
    clouds = sides.clouds(sides.count, points).to(device)
    student.backend = backend
    cloud = clouds.cloud_of_row()
    arithmetic = ARITHMETICS["bfloat16"]

    def embedding(back: bool) -> None:
        with arithmetic.on(device):
            out = student.embedding(clouds.features, clouds.neighbours)
        if back:
            out.backward(torch.ones_like(out))

    def tables() -> None:
        for plane, shape in enumerate(student.plane_shapes):
            sparse_plane(clouds.cells[:, plane], cloud, (clouds.count, *shape), torch.float32)

    def forward() -> None:
        with arithmetic.on(device), torch.no_grad():
            student(clouds)

    calls: dict[str, Step] = {
        "embedding_ms": partial(embedding, False),
        "embedding_and_back_ms": partial(embedding, True),
        "tables_ms": tables,
        "forward_ms": forward,
    }
    row = {name: round(times(call, device, seconds=0.2).median, 4) for name, call in calls.items()}
    student.zero_grad(set_to_none=True)
    return {
        "side": "parts",
        "backend": backend,
        "width": width,
        "points": points,
        "arithmetic": "bfloat16",
        **row,
    }
