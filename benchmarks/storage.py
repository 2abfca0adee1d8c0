"""What each storage costs: bytes of an image, and how near the stored features are to the computed ones.

    export GRIDDLE_SAMPLES=/path/to/samples          # a folder that holds nuscenes/
    python benchmarks/storage.py                     # under a minute; the teacher is untrained

Untrained ViTs have no massive channels; in the second half three channels are raised by 50 standard deviations.
"""

from __future__ import annotations

import os
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image

from cache_schemas.features import STORAGES
from cache_schemas.fidelity import Fidelity
from cache_schemas.storage import decode, encode
from pipeline.config.model import Teacher
from pipeline.teachers.images import to_input
from pipeline.teachers.loaded import load_teacher

MASSIVE = (7, 100, 250)
IMAGES = 6


@click.command()
@click.option("--model", default="dinov2_vits14", show_default=True)
def main(model: str) -> None:
    """Compare the storages."""
    samples = os.environ.get("GRIDDLE_SAMPLES")
    if samples is None:
        raise click.UsageError("set GRIDDLE_SAMPLES")
    teacher = load_teacher(Teacher(model=model, weights="untrained"), torch.device("cpu"))
    paths = sorted(Path(samples, "nuscenes", "samples").glob("CAM*/*.jpg"))[:IMAGES]
    inputs = [to_input(np.array(Image.open(path).convert("RGB")), (224, 448), False) for path in paths]
    grids = [teacher.features(image[None])[0] for image in inputs]  # (rows, cols, C) each
    for raised in (0, 50):
        for storage in (*STORAGES, "int8, one scale a row"):
            sums, size = Fidelity(teacher.channels), 0
            for grid in grids:
                values = grid.copy()
                values[..., MASSIVE] += raised * grid.std()
                stored, size = _stored(values, storage)
                sums.add(values, stored)
            found = sums.report()
            click.echo(
                f"raised by {raised:2}  {storage:<22} {size:>9,} bytes  cosine {found['cosine']:.9f}  "
                f"without the largest {found['cosine_without_largest']:.9f}"
            )


def _stored(values: np.ndarray, storage: str) -> tuple[np.ndarray, int]:
    """What comes back, and the bytes that it takes."""
    if storage not in STORAGES:  # what is not offered, to see why
        step = np.abs(values).max(axis=-1, keepdims=True) / 127
        return (np.rint(values / step) * step).astype(np.float32), values.size + 2 * step.size
    arrays = encode(values, storage)
    return decode(arrays["features"], arrays.get("scales")), sum(array.nbytes for array in arrays.values())


if __name__ == "__main__":
    main()
