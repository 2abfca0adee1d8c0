"""Reading a teacher's patch grid at the points: at its four corners, or by upsampling it to the image, as published.

    python benchmarks/sampling.py                        # about a minute, no data

Published (ScaLR, models/image_teacher.py and utils/distiller.py): the patch grid is enlarged bilinearly, corners
aligned, to the size of the teacher's input, and each point takes the feature of its pixel. Ours reads the four
patches around each point. Same grid, same points, one thread, in turn; times are CPU time, and a ratio is one of
neighbours in time. The largest difference is relative to the largest value. The published side gets its grid with
channels first and whole in memory, which torch enlarges many times faster than the layout that a ViT gives.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.teachers.sampling import grid_coordinates, sample_grid

ORIGINAL = (1600, 900)  # nuScenes' images, pixels
CASES = {
    "ViT-L/14 at 224 x 448": ((224, 448), (16, 32, 1024)),
    "ViT-S/14 at 224 x 448": ((224, 448), (16, 32, 384)),
}
TYPES = (torch.float32, torch.float64, torch.float16)


@click.command()
@click.option("--points", default=3000, show_default=True, help="Points in the image.")
@click.option("--pairs", default=7, show_default=True, help="Measurements of each side, in turn.")
def main(points: int, pairs: int) -> None:
    """Compare the CPU time of sampling one image's patch grid."""
    torch.set_num_threads(1)
    click.echo(f"{points} points of one image, {pairs} pairs, medians of CPU ms; ratio: min, median, max")
    click.echo(f"{'':<23} {'grid':<8} {'upsample':>9} {'corners':>8}  {'ratio':^20}  {'difference':>10}")
    for name, (image, shape) in CASES.items():
        for dtype in TYPES if name == next(iter(CASES)) else TYPES[:1]:
            _measure(name, image, shape, dtype, points, pairs)


def _measure(
    name: str,
    image: tuple[int, int],
    shape: tuple[int, int, int],
    dtype: torch.dtype,
    points: int,
    pairs: int,
) -> None:
    rng = np.random.default_rng(0)
    grid = torch.from_numpy(rng.normal(size=shape)).to(dtype)
    pixel = (rng.uniform(0, 1, (points, 2)) * ORIGINAL).astype(np.float32)
    rows, cols, _ = shape

    channels_first = grid.permute(2, 0, 1)[None].contiguous()

    def corners() -> Tensor:
        at = grid_coordinates(pixel, original=ORIGINAL, image=image, rows=rows, cols=cols)
        return sample_grid(grid, torch.from_numpy(at).to(torch.promote_types(dtype, torch.float32)))

    def upsample() -> Tensor:
        return upsample_and_gather(channels_first, pixel, image)

    published, mine = upsample().to(torch.float64), corners().to(torch.float64)
    difference = float((published - mine).abs().max() / published.abs().max())
    times = np.array([[_timed(upsample), _timed(corners)] for _ in range(pairs)])  # (pairs, 2)
    ratios = times[:, 0] / times[:, 1]
    left, right = np.median(times, axis=0) * 1e3
    click.echo(
        f"{name:<23} {str(dtype)[6:]:<8} {left:9.1f} {right:8.2f}  "
        f"{ratios.min():5.0f}  {np.median(ratios):5.0f}  {ratios.max():5.0f}    {difference:10.1e}"
    )


def upsample_and_gather(grid: Tensor, pixel: np.ndarray, image: tuple[int, int]) -> Tensor:
    """As published: (1, C, rows, cols) enlarged to (H, W), then a feature (C,) for each pixel (n, 2) of the original."""
    scale = np.array(image[::-1]) / np.array(ORIGINAL)
    column, row = torch.from_numpy(np.floor(np.floor(pixel.astype(np.float64)) * scale).astype(np.int64)).T
    large = F.interpolate(grid, size=image, mode="bilinear", align_corners=True)
    return large.permute(0, 2, 3, 1)[0, row, column]


def _timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
