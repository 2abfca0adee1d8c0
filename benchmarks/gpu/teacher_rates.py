"""Images per second of a teacher on a device: of the whole features stage, of the bare forward pass, and of decoding."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.packed import Packed
from benchmarks.gpu.pictures import partition_of, store_of
from benchmarks.gpu.timing import synchronise, times
from pipeline.preprocessing.features import FeatureWriter
from pipeline.preprocessing.target import Target
from pipeline.teachers.images import load_input
from pipeline.teachers.loaded import LoadedTeacher

PARTITIONS = 4
"""Of a run of the stage: one is published while the next is computed."""


def cores() -> int:
    return len(os.sched_getaffinity(0))


def stage_rate(teacher: LoadedTeacher, packed: Packed, folder: Path, images: int) -> float:
    """Images/s of the features stage: decoded, computed, encoded, written, checked, published. The teacher is there, and
    one partition was done before."""
    store, each = store_of(teacher.config), -(-images // PARTITIONS)
    partitions = [partition_of(packed, f"p{number}", each) for number in range(PARTITIONS)]
    with FeatureWriter(teacher, "teacher") as writer:
        first = partition_of(packed, "first", 2 * teacher.config.images_per_batch)
        writer.write(packed.recordings, Target(store, first, "member", folder)).result()
        began = time.monotonic()
        written = [
            writer.write(packed.recordings, Target(store, partition, "member", folder))
            for partition in partitions
        ]
        for one in written:
            one.result()
        return PARTITIONS * each / (time.monotonic() - began)


def bare_rate(teacher: LoadedTeacher, seconds: float) -> float:
    """Images/s of the network over a batch that is on the device, and whose features are dropped."""
    height, width = teacher.config.image_size
    batch = torch.rand(teacher.config.images_per_batch, 3, height, width, device=teacher.device)
    found = times(lambda: forward(teacher, batch), teacher.device, seconds=seconds)
    return 1e3 * len(batch) / found.median


@torch.inference_mode()
def forward(teacher: LoadedTeacher, images: Tensor) -> Tensor:
    """Patch grids (B, C, rows, cols) on the device, as `LoadedTeacher.features` computes them."""
    low = teacher.config.precision == "bfloat16"
    with torch.autocast(teacher.device.type, dtype=torch.bfloat16, enabled=low):
        return teacher.read((images.to(teacher.device) - teacher.mean) / teacher.std)


def decode_rate(teacher: LoadedTeacher, packed: Packed, seconds: float) -> float:
    """Images/s from files in the page cache to the teacher's input, on all cores at once; on a GPU where that decodes."""
    config, images = teacher.config, packed.images

    def load(number: int) -> Tensor:
        return load_input(
            packed.recordings,
            images[number % len(images)],
            config.image_size,
            config.antialias,
            config.decode,
            teacher.device,
        )

    with ThreadPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return _rate(lambda count: list(pool.map(load, range(count))), 2 * cores(), seconds, teacher.device)


def _rate(work: Callable[[int], object], count: int, seconds: float, device: torch.device) -> float:
    """How many a second `work` does, after a first time, for about so many seconds."""
    work(count)
    done, began = 0, time.monotonic()
    while time.monotonic() - began < seconds:
        work(count)
        done += count
    synchronise(device)
    return done / (time.monotonic() - began)


def gigaflops_of(teacher: LoadedTeacher) -> float:
    """Of the matrix products of one image, two for a multiplication and an addition."""
    height, width = teacher.config.image_size
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        forward(teacher, torch.zeros(1, 3, height, width, device=teacher.device))
    return counter.get_total_flops() / 1e9
