"""A fixed affine on a teacher's channels: minus a mean, over a deviation, measured once and committed as a file.

Made for the demo's stand-in, an untrained ViT, whose raw features share one large direction that hides the rest. It is
a part of the teacher (its digest is in the teacher's id), never of the loss, and no user's data enters it. The file that
the demo uses was made over toy scenes that are in no config:

    griddle toy --root toy/calibration --train 4 --val 0 --seed 1000
    python -m pipeline.teachers.measure_standardisation --root toy/calibration --config config/demo.yaml \\
        --teacher stand_in --out config/stand_in_teacher.json
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.model import Teacher

if TYPE_CHECKING:
    import numpy as np


def measure(
    teacher: Teacher, reader_name: str, root: Path, version: str
) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean and deviation (C,) float32 of the teacher's features over all points that cameras see; and how many.

    Args:
        root: of recordings that the reader reads.
    """
    import numpy as np
    import torch

    from pipeline.datasets.reader import AbsentPartition
    from pipeline.datasets.readers import reader_named
    from pipeline.geometry.projection import see
    from pipeline.teachers.images import read_image, to_input
    from pipeline.teachers.loaded import load_teacher
    from pipeline.teachers.sampling import grid_coordinates, sample_grid

    reader = reader_named(reader_name)
    plain = teacher.model_copy(update={"standardise": None, "storage": "float32"})
    loaded = load_teacher(plain, torch.device("cpu"))
    rows, cols = loaded.grid
    total, squares, count = np.zeros(loaded.channels), np.zeros(loaded.channels), 0
    for partition in reader.partitions(root, version):
        if isinstance(partition, AbsentPartition):
            continue
        for scan in partition.scans:
            xyz, _ = reader.read_points(root, scan)
            inputs = torch.stack(
                [to_input(read_image(root, i), teacher.image_size, teacher.antialias) for i in scan.images]
            )
            for image, grid in zip(scan.images, loaded.features(inputs), strict=True):
                pixel = see(xyz, image, reader.traits.published_mask).pixel
                at = grid_coordinates(
                    pixel,
                    original=(image.width, image.height),
                    image=teacher.image_size,
                    rows=rows,
                    cols=cols,
                )
                values = sample_grid(torch.from_numpy(grid), torch.from_numpy(at)).double().numpy()
                total += values.sum(axis=0)
                squares += np.square(values).sum(axis=0)
                count += len(values)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return mean.astype(np.float32), deviation.astype(np.float32), count


def main() -> None:
    """Measure and write a file, with the command that made it."""
    import argparse
    import sys

    from cache_schemas.publish import write_json
    from pipeline.config.load import load_config
    from pipeline.config.standardisation import KIND, MEASURED_FOR

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reader", default="nuscenes")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--version", default="v1.0-trainval")
    parser.add_argument("--config", default="config/demo.yaml")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    teacher = load_config(given.config).teachers[given.teacher]
    mean, deviation, points = measure(teacher, given.reader, given.root, given.version)
    resolved = teacher.resolved()
    write_json(
        given.out,
        {
            "griddle": KIND,
            "command": "python -m pipeline.teachers.measure_standardisation " + " ".join(sys.argv[1:]),
            "teacher": {name: resolved[name] for name in MEASURED_FOR},
            "points": points,
            "mean": [float(f"{value:.7g}") for value in mean],
            "deviation": [float(f"{value:.7g}") for value in deviation],
        },
    )
    print(f"{given.out}: {len(mean)} channels over {points:,} points")


if __name__ == "__main__":
    main()
