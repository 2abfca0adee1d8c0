"""The sides that `benchmarks/student.py` compares: the authors' layers, ours, and the matrix products alone; and how
time and memory are taken."""

from __future__ import annotations

import contextlib
import ctypes
import io
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from camera_clouds import GRID
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from pipeline.students.backends import Choice
from pipeline.students.packed import PackedClouds
from pipeline.students.waffleiron import WaffleIron

LAYERS = 3
"""One on each plane."""

Step = Callable[[], tuple[Tensor, Tensor]]
"""Forward and backward of three layers; gives the output (P, C) and the gradient of the input (P, C)."""

THEIR_NAMES = {
    "conv_in": "ffn.0",
    "conv_out": "ffn.2",
    "linear_in": "mlp.0",
    "linear_out": "mlp.2",
    "scale": "scale.weight",
}


def keep_freed_memory() -> None:
    """Let the C library keep what was freed. Otherwise it fetches large tensors from the system anew each time, which
    costs the dense side more than anything that is compared here."""
    libc = ctypes.CDLL(None)
    for option, value in ((-3, 1 << 30), (-1, (1 << 31) - 1)):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
        if not libc.mallopt(option, value):
            raise click.ClickException("this C library does not keep freed memory: add --allocator default")


def our_layers(width: int, backend: Choice = "auto", checkpointing: bool = False) -> WaffleIron:
    """Three layers of ours, LayerNorm and ReLU; the weights do not depend on the backend."""
    torch.manual_seed(0)
    return WaffleIron(
        width=width,
        depth=LAYERS,
        plane_shapes=GRID.shapes,
        backend=backend,
        checkpointing=checkpointing,
    )


def our_step(student: WaffleIron, clouds: PackedClouds, precision: torch.dtype = torch.float32) -> Step:
    features, direction = _rows(clouds, student.width)

    def step() -> tuple[Tensor, Tensor]:
        student.zero_grad(set_to_none=True)
        rows = features.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
            out = student.mix(rows, clouds)
        out.backward(direction)
        assert rows.grad is not None
        return out.detach(), rows.grad

    return step


def their_step(
    checkout: Path, student: WaffleIron, clouds: PackedClouds, precision: torch.dtype = torch.float32
) -> Step:
    """The published backbone with a student's weights, its clouds padded to the longest as published."""
    backbone = _their_backbone(checkout)(student.width, LAYERS, GRID.shapes, 0.0, "layernorm")
    theirs, weights = backbone.state_dict(), {}
    for name, value in student.state_dict().items():
        if not name.startswith("embedding"):
            for our, their in THEIR_NAMES.items():
                name = name.replace(our, their)
            weights[name] = value.reshape(theirs[name].shape)
    backbone.load_state_dict(weights)
    features, direction = (_padded(rows, clouds) for rows in _rows(clouds, student.width))
    cells = _padded(clouds.cells, clouds)  # (B, 3, N)
    occupied = _padded(torch.ones(len(clouds.cells), 1), clouds)[:, 0]  # (B, N)

    def step() -> tuple[Tensor, Tensor]:
        backbone.zero_grad(set_to_none=True)
        tokens = features.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
            out = backbone(tokens, cells, occupied)
        out.backward(direction)
        assert tokens.grad is not None
        return _unpadded(out.detach(), clouds), _unpadded(tokens.grad, clouds)

    return step


def floor_step(
    width: int, clouds: PackedClouds, precision: torch.dtype = torch.float32
) -> Callable[[], None]:
    """Nothing but the matrix products of three layers: two forward, four backward in each."""
    features, direction = (rows.to(precision) for rows in _rows(clouds, width))
    weight = torch.randn(width, width, dtype=precision)

    def step() -> None:
        for _ in range(2 * LAYERS):
            features @ weight.t()
            direction @ weight
            direction.t() @ features

    return step


def in_turn(
    sides: Sequence[Callable[[], Any]], pairs: int, clock: Callable[[], float]
) -> npt.NDArray[np.float64]:
    """Seconds (pairs, sides), each side once to warm up, then all of them in turn, `pairs` times."""
    for side in sides:
        side()
    seconds = np.empty((pairs, len(sides)))
    for row in seconds:
        for place, side in enumerate(sides):
            start = clock()
            side()
            row[place] = clock() - start
    return seconds


def peak_megabytes(step: Callable[[], Any]) -> float:
    """Most memory that one step's tensors hold at once, by the allocator's events; without weights and input."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    changes = [
        (event.start_ns(), event.nbytes())
        for event in recorded.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    return float(np.cumsum([size for _, size in sorted(changes)]).max()) / 1e6


def own_times(step: Callable[[], Any], steps: int = 5) -> dict[str, float]:
    """Milliseconds a layer that each operation took by itself, largest first."""
    step()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for _ in range(steps):
            step()
    each = {event.key: event.self_cpu_time_total / 1e3 / steps / LAYERS for event in recorded.key_averages()}
    return dict(sorted(each.items(), key=lambda item: -item[1]))


def spread(ratio: npt.NDArray[np.float64]) -> str:
    """Median of a ratio, and between which two it lay."""
    return f"{np.median(ratio):5.2f} ({ratio.min():.2f} to {ratio.max():.2f})"


def _rows(clouds: PackedClouds, width: int) -> tuple[Tensor, Tensor]:
    """Features and a gradient (P, C), random."""
    generator = torch.Generator().manual_seed(1)
    shape = (len(clouds.features), width)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def _their_backbone(checkout: Path) -> Any:
    if not (checkout / "waffleiron" / "backbone.py").is_file():
        raise click.ClickException(f"{checkout} is no checkout of github.com/valeoai/WaffleIron")
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    with contextlib.redirect_stdout(io.StringIO()):  # it greets
        from waffleiron.backbone import WaffleIron as Theirs
    return Theirs


def _padded(rows: Tensor, clouds: PackedClouds) -> Tensor:
    """rows (P, C) as (B, C, N), clouds padded with zeros to the longest."""
    parts = [rows[start:stop] for start, stop in itertools.pairwise(clouds.offsets.tolist())]
    return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True).transpose(1, 2).contiguous()


def _unpadded(values: Tensor, clouds: PackedClouds) -> Tensor:
    """values (B, C, N) as (P, C)."""
    return torch.cat([part[:, :size].t() for part, size in zip(values, clouds.sizes().tolist(), strict=True)])
