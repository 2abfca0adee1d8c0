"""The principal components of a teacher's features over a whole dataset, out of core; one image drawn in the first three.

    python examples/pca.py work/demo/cache pca.png
    python examples/pca.py CACHE pca.png --teacher vit_small --dataset nuscenes --image samples/CAM_FRONT/....jpg

Each shard is read once and leaves one matrix of channels × channels; dask adds these up as they come. Memory: about 1.1 GB
for each of dask's threads (full shards of float16; DASK_NUM_WORKERS says how many), however large the dataset is.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext

import dask.array as da
import numpy as np
from dask.diagnostics import ProgressBar
from PIL import Image

import griddle


def moments(grids: np.ndarray) -> np.ndarray:
    """(1, C + 1, C + 1) float64 of patch grids (n, rows, cols, C): their number, sums and sums of products.

    With a one before every feature, all three are one matrix of products.
    """
    channels = grids.shape[-1]
    total = np.zeros((1, channels + 1, channels + 1))
    for grid in grids:
        patches = np.ones((grid.shape[0] * grid.shape[1], channels + 1))
        patches[:, 1:] = grid.reshape(-1, channels)
        total[0] += patches.T @ patches
    return total


def principal_components(grids: da.Array, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (C,), the first components (count, C), and the variance (C,) along every one, falling."""
    side = grids.shape[-1] + 1
    of_shards = grids.map_blocks(
        moments, chunks=((1,) * grids.numblocks[0], (side,), (side,)), drop_axis=3, dtype=np.float64
    )
    total = of_shards.sum(axis=0, split_every=4).compute()
    number, sums, products = total[0, 0], total[0, 1:], total[1:, 1:]
    mean = sums / number
    variance, directions = np.linalg.eigh(products / number - np.outer(mean, mean))
    return mean, directions[:, ::-1].T[:count], np.maximum(variance[::-1], 0)


def picture(scores: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Scores (rows, cols, 3) as red, green and blue; each from its 2nd to its 98th percentile."""
    low, high = np.percentile(scores, [2, 98], axis=(0, 1))
    colours = np.clip((scores - low) / np.maximum(high - low, 1e-9), 0, 1)
    return Image.fromarray((255 * colours).astype(np.uint8)).resize(size, Image.Resampling.NEAREST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cache")
    parser.add_argument("picture", help="PNG to write")
    parser.add_argument("--teacher", help="its id or the first part of it, where the cache has several")
    parser.add_argument("--dataset", help="where the cache has several")
    parser.add_argument("--image", help="its path in the dataset; default: the first")
    asked = parser.parse_args()

    features = griddle.open_cache(asked.cache).features(asked.teacher, asked.dataset)
    grids = features.patch_grids()
    print(
        f"{features.name}: {grids.shape[0]} images, {grids.nbytes / 1e9:.3f} GB in {grids.numblocks[0]} shard(s)"
    )
    with ProgressBar() if sys.stdout.isatty() else nullcontext():
        mean, components, variance = principal_components(grids, count=3)
    shares = variance / variance.sum()
    for number, share in enumerate(shares[:10], start=1):
        print(f"component {number:2}: {share:6.2%} of the variance, {shares[:number].sum():6.2%} so far")

    image = asked.image or features.images[0]
    scores = (features.patch_grid(image) - mean) @ components.T
    height, width = features.image_size
    picture(scores, (2 * width, 2 * height)).save(asked.picture)
    print(f"{image} → {asked.picture}")


if __name__ == "__main__":
    main()
