"""Features by image and pixel: the published ones, against formulas written out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import griddle


def enlarged(grid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, C): bilinear with corners aligned, written out by hand."""
    (height, width), (rows, cols) = size, grid.shape[:2]
    out = np.empty((height, width, grid.shape[2]))
    for i in range(height):
        for j in range(width):
            y, x = i * (rows - 1) / (height - 1), j * (cols - 1) / (width - 1)
            r, c = min(int(y), rows - 2), min(int(x), cols - 2)
            fy, fx = y - r, x - c
            top = (1 - fx) * grid[r, c] + fx * grid[r, c + 1]
            out[i, j] = (1 - fy) * top + fy * ((1 - fx) * grid[r + 1, c] + fx * grid[r + 1, c + 1])
    return out


def test_the_features_of_pixels_are_the_published_ones(made: Any) -> None:
    cache = griddle.open_cache(made.path)
    image = made.images[4]
    reference = enlarged(made.grids[image], made.input)
    found = cache.pixel_features(image)
    assert (found.shape, found.dtype) == ((*made.input, made.shape[2]), np.float32)
    np.testing.assert_allclose(found, reference, atol=1e-5)
    np.testing.assert_array_equal(cache.patch_grid(image), made.grids[image])

    pixels = np.random.default_rng(1).uniform((0, 0), made.original, (500, 2))
    pixels[:4] = [[0, 0], [made.original[0], made.original[1]], [159.999, 0.001], [80, 45]]
    size = np.array(made.original)
    whole = np.minimum(np.floor(pixels), size - 1)
    column, row = np.floor(whole * (np.array(made.input[::-1]) / size)).astype(int).T
    at = cache.features_at(image, pixels)
    assert (at.shape, at.dtype) == ((500, made.shape[2]), np.float32)
    np.testing.assert_allclose(at, reference[row, column], atol=1e-5)
    np.testing.assert_array_equal(at, cache.features_at(image, pixels.tolist(), original=made.original))


def test_features_between_pixels(made: Any, tmp_path: Path) -> None:
    """Where features rise evenly over the grid, what is read between pixels is known exactly."""
    rows, cols = np.meshgrid(np.arange(made.shape[0]), np.arange(made.shape[1]), indexing="ij")
    ramp = np.stack([rows, cols, rows + cols, 0 * rows], axis=2)[None]
    image = made.images[0]
    pixels = np.random.default_rng(2).uniform((5, 5), (150, 80), (200, 2))
    found = griddle.open_cache(made.only(ramp)).features_at(
        image, pixels, sampling="subpixel", original=made.original
    )
    u, v = pixels.T
    column = (u * made.input[1] / made.original[0] - 0.5) * (made.shape[1] - 1) / (made.input[1] - 1)
    row = (v * made.input[0] / made.original[1] - 0.5) * (made.shape[0] - 1) / (made.input[0] - 1)
    np.testing.assert_allclose(found, np.stack([row, column, row + column, 0 * row], axis=1), atol=1e-5)


def test_float16_is_widened_before_it_is_summed(made: Any) -> None:
    large = made.only(np.full((1, *made.shape), 60_000.0))
    grids = griddle.open_cache(large).features().patch_grids()
    assert float(grids.mean().compute()) == pytest.approx(float(torch.tensor(60_000.0).half()))
