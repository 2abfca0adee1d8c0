"""The features stage beside what bounds it, the bare forward pass and decoding; and what decoding on the GPU changes.

The pictures are real ones of nuScenes, over and over. A stage writes to the disk that holds this process's scratch folder.
"""

from __future__ import annotations

import gc
import shutil
from dataclasses import dataclass, field
from functools import partial

import torch

from benchmarks.gpu.arithmetic import ARITHMETICS
from benchmarks.gpu.cells import Cells
from benchmarks.gpu.lines import Row
from benchmarks.gpu.packed import Packed
from benchmarks.gpu.pictures import MODELS, SIZES, teacher_of, with_choices
from benchmarks.gpu.quick import settle
from benchmarks.gpu.teacher_rates import bare_rate, cores, decode_rate, forward, gigaflops_of, stage_rate
from benchmarks.gpu.timing import product_rate, times
from pipeline.teachers.images import load_input
from pipeline.teachers.loaded import LoadedTeacher

ORDER = (("S", SIZES[0]), ("L", SIZES[0]), ("B", SIZES[0]), ("L", SIZES[1]), ("S", SIZES[1]), ("B", SIZES[1]))
"""By worth: the smallest and the largest first."""
WAYS = (("bfloat16", 32), ("float32", 8), ("bfloat16", 8))
"""Precision and images in a batch; the second is what a config says of itself."""
NEEDS = {"S": 4.0, "B": 6.0, "L": 10.0}
"""Seconds of a teacher's first cell, most of them to make it."""


@dataclass
class Held:
    """One teacher at a time, and the peak of matrix products in this process."""

    cells: Cells
    _key: tuple[str, tuple[int, int]] | None = None
    _teacher: LoadedTeacher | None = None
    _peaks: dict[str, float] = field(default_factory=dict)
    _decoded: dict[tuple[tuple[int, int], str], float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """That a rate is measured for."""
        return 0.2 if self.cells.quick else 0.5

    def teacher(self, model: str, size: tuple[int, int]) -> LoadedTeacher:
        if self._key != (model, size) or self._teacher is None:
            self._teacher = None
            gc.collect()
            self._teacher, self._key = teacher_of(MODELS[model], size, self.cells.device), (model, size)
        return self._teacher

    def peak(self, precision: str) -> float:
        """TFLOP/s of a large product."""
        if precision not in self._peaks:
            side = 8192 if self.cells.on_gpu else 512
            self._peaks[precision] = product_rate(self.cells.device, getattr(torch, precision), side)
        return self._peaks[precision]

    def decoded(self, teacher: LoadedTeacher) -> float:
        """Images/s of decoding for a teacher; what network it is does not matter."""
        key = (teacher.config.image_size, teacher.config.decode)
        if key not in self._decoded:
            self._decoded[key] = decode_rate(teacher, Packed(self.cells.packed), self.seconds)
        return self._decoded[key]


def run(cells: Cells) -> None:
    """The stage for each network and size, decoding on the GPU behind the first of them."""
    settle(cells)
    if cells.on_gpu:
        torch.set_num_threads(cores())
    held = Held(cells)
    order, ways = ((("S", (56, 112)),), WAYS[1:2]) if cells.quick else (ORDER, WAYS)
    for number, (model, size) in enumerate(order):
        for precision, batch in ways:
            what = f"ViT-{model}, {size[0]} x {size[1]}, {precision}, {batch} in a batch"
            cells.run(what, partial(_stage, held, model, size, precision, batch, "exact"), needs=NEEDS[model])
        if number == 0:
            _on_the_gpu(cells, held, model, size)


def _on_the_gpu(cells: Cells, held: Held, model: str, size: tuple[int, int]) -> None:
    names = ("decode: gpu, pixels and features", "decode: gpu, the stage", "float32 convolutions in TF32")
    if not cells.on_gpu:
        for name in names:
            cells.leave_out(name, "it needs a GPU")
        return
    cells.run(names[0], partial(_decoded_there, held, size), needs=4)
    cells.run(names[1], partial(_stage, held, model, size, "bfloat16", 32, "gpu"), needs=4)
    cells.run(names[2], partial(_convolutions, held, model, size))


def _stage(held: Held, model: str, size: tuple[int, int], precision: str, batch: int, decode: str) -> Row:
    cells, packed = held.cells, Packed(held.cells.packed)
    teacher = with_choices(
        held.teacher(model, size), precision=precision, images_per_batch=batch, decode=decode
    )
    with ARITHMETICS["float32"].matrix_units():
        bare, decoding = bare_rate(teacher, held.seconds), held.decoded(teacher)
        ceiling = ceiling_of(bare, decoding, together=cells.on_gpu)
        images = 12 if cells.quick else max(4 * batch, min(2_000, int(2 * ceiling)))
        folder = cells.scratch / "features"
        try:
            rate = stage_rate(teacher, packed, folder, images)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    flops, peak = gigaflops_of(teacher), held.peak(precision)
    return {
        "model": model,
        "size": list(size),
        "precision": precision,
        "images_per_batch": batch,
        "decode": decode,
        "cores": cores(),
        "images": images,
        **rates(rate, bare, decoding, ceiling, flops, peak),
    }


def ceiling_of(bare: float, decoding: float, *, together: bool) -> float:
    """Images/s that a stage cannot pass: of the slower of its two parts, or of both one after the other."""
    return min(bare, decoding) if together else 1 / (1 / bare + 1 / decoding)


def rates(rate: float, bare: float, decoding: float, ceiling: float, gigaflops: float, peak: float) -> Row:
    """rate, bare, decoding, ceiling: images/s. gigaflops: of an image. peak: TFLOP/s of a large product."""
    return {
        "images_per_s": round(rate, 2),
        "bare_per_s": round(bare, 2),
        "decode_per_s": round(decoding, 2),
        "share_of_ceiling": round(rate / ceiling, 4),
        "bound_by": "the forward pass" if bare < decoding else "decoding",
        "gigaflop_an_image": round(gigaflops, 2),
        "tflop_per_s": round(gigaflops * rate / 1e3, 3),
        "peak_tflop_per_s": round(peak, 2),
        "share_of_peak": round(gigaflops * rate / 1e3 / peak, 4),
        "bare_share_of_peak": round(gigaflops * bare / 1e3 / peak, 4),
    }


def _decoded_there(held: Held, size: tuple[int, int]) -> Row:
    """Pixels in 255ths, and cosines of features, of all pictures decoded on the GPU against Pillow's; with and without
    antialias. Trained weights where the second folder is there."""
    packed, device = Packed(held.cells.packed), held.cells.device
    teacher = teacher_of(MODELS["S"], size, device, packed.weights)
    row: Row = {"weights": "trained" if packed.weights else "untrained", "pictures": len(packed.images)}
    for antialias in (False, True):
        exact, there = (
            torch.stack(
                [
                    load_input(packed.recordings, image, size, antialias, way, device).to(device)
                    for image in packed.images
                ]
            )
            for way in ("exact", "gpu")
        )
        apart = 255 * (exact - there).abs()
        cosine = torch.cosine_similarity(forward(teacher, exact), forward(teacher, there), dim=1)
        name = "antialias" if antialias else "plain"
        row[name] = {
            "pixels_mean": float(apart.mean()),
            "pixels_largest": float(apart.max()),
            "cosine": float(cosine.double().mean()),
            "cosine_of_worst_1_percent": float(cosine.flatten().float().quantile(0.01)),
            "cosine_lowest": float(cosine.min()),
        }
    return row


def _convolutions(held: Held, model: str, size: tuple[int, int]) -> Row:
    """torch lets convolutions in float32 go through TF32 unless told otherwise: how far that moves features, and what it
    saves."""
    teacher = with_choices(held.teacher(model, size), precision="float32", images_per_batch=8)
    batch = torch.rand(8, 3, *size, device=held.cells.device)
    found, milliseconds = [], []
    for allowed in (False, True):
        before = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = allowed
        try:
            found.append(forward(teacher, batch).double())
            milliseconds.append(times(lambda: forward(teacher, batch), held.cells.device, seconds=0.3).median)
        finally:
            torch.backends.cudnn.allow_tf32 = before
    exact, short = found
    cosine = torch.cosine_similarity(exact, short, dim=1)
    return {
        "moved": float((exact - short).norm() / exact.norm()),
        "cosine_lowest": float(cosine.min()),
        "ms": round(milliseconds[0], 4),
        "ms_tf32": round(milliseconds[1], 4),
    }
