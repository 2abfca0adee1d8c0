"""What it costs to make a teacher's input of an image file, in each way, and how far its pixels are from the exact ones.

    python benchmarks/decode.py                              # half a minute; images of nuScenes in $GRIDDLE_SAMPLES
    python benchmarks/decode.py --images FOLDER --image-size 448 896

The ways are taken in turn, on one thread; times are medians of CPU time, the files being in the page cache.
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.datasets.records import ImageRecord
from pipeline.teachers.images import DECODES, load_input

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WAYS = [way for way in DECODES if way != "gpu" or DEVICE.type == "cuda"]


@click.command()
@click.option("--images", "folder", default=None, help="Default: those of nuScenes in $GRIDDLE_SAMPLES.")
@click.option("--image-size", default=(224, 448), show_default=True, type=(int, int))
@click.option("--rounds", default=9, show_default=True)
def main(folder: str | None, image_size: tuple[int, int], rounds: int) -> None:
    """Compare the ways of `teachers.NAME.decode`, with and without antialias."""
    torch.set_num_threads(1)
    samples = os.environ.get("GRIDDLE_SAMPLES")
    if folder is None and samples is None:
        raise click.UsageError("give --images FOLDER, or set GRIDDLE_SAMPLES")
    root = Path(folder or f"{samples}/nuscenes/samples")
    records = [_record(root, path) for path in sorted(root.rglob("*")) if path.suffix in (".jpg", ".png")][
        :12
    ]
    if not records:
        raise click.UsageError(f"--images: no .jpg or .png below {root}")
    click.echo(
        f"{len(records)} images to {image_size[0]} x {image_size[1]}; differences are of values in [0, 1]"
    )
    for antialias in (False, True):
        loads = {way: partial(_load_all, root, records, image_size, antialias, way) for way in WAYS}
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(rounds):
            for way, load in loads.items():
                began = time.thread_time()
                load()
                seconds[way].append((time.thread_time() - began) / len(records))
        for way in WAYS:
            apart = (loads[way]() - loads["exact"]()).abs()  # (images, 3, H, W)
            click.echo(
                f"{'antialias' if antialias else 'plain':<10} {way:<6} {1e3 * np.median(seconds[way]):6.2f} ms an image   "
                f"mean {float(apart.mean()):.5f}, largest {float(apart.max()):.4f}"
            )


def _load_all(
    root: Path, records: list[ImageRecord], size: tuple[int, int], antialias: bool, way: str
) -> Tensor:
    return torch.stack([load_input(root, record, size, antialias, way, DEVICE).cpu() for record in records])


def _record(root: Path, path: Path) -> ImageRecord:
    with Image.open(path) as opened:
        width, height = opened.size
    return ImageRecord("any", str(path.relative_to(root)), path.stat().st_size, height, width, (), ())


if __name__ == "__main__":
    main()
