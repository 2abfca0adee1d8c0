"""Reading a teacher's patch grid at the pixels of points, without ever upsampling it.

The authors enlarge the patch grid bilinearly to the size of the teacher's input image, with corners aligned,
and pick the pixel of each point. The four patches around a point and their weights give the same numbers
(ScaLR, section 3.2).

Three frames: the original image, (W0, H0) pixels, where the view store keeps what a point falls on; the
teacher's input image, (H, W); the patch grid, (rows, cols). Coordinates are (u, v) = (column, row).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

Sampling = Literal["published", "subpixel"]


def grid_coordinates(
    pixel: npt.NDArray[np.floating[Any]],
    *,
    original: tuple[int, int],
    image: tuple[int, int],
    rows: int,
    cols: int,
    mode: Sampling = "published",
) -> npt.NDArray[np.float64]:
    """Where pixels of the original image lie in the patch grid.

    pixel: (n, 2) continuous (u, v) in the original image; pixel i covers [i, i + 1), its centre is i + 0.5.
    original: (W0, H0). image: (H, W) of the teacher's input. rows, cols: of its patch grid.
    Returns (n, 2) float64 (column, row), within [0, cols - 1] and [0, rows - 1]; whole numbers are patches.

    'published': p = floor(u), then q = floor(p * (W / W0)), then q * (cols - 1) / (W - 1); rows alike. The
    ratio is formed first and the product is taken in float64, as in the authors' code: where p * W / W0 is
    a whole number, rounding can carry q to the pixel before it, and it must do so here too.

    'subpixel': the same aligned-corners map, in which the centre of image pixel q, at q + 0.5, lies at
    q * (cols - 1) / (W - 1), read between the pixel centres: (u * W / W0 - 0.5) * (cols - 1) / (W - 1),
    held within the grid for the outer half pixels. Nothing is rounded down.
    """
    size = np.array([original], dtype=np.float64).T  # (2, 1) W0, H0
    target = np.array([image[::-1]], dtype=np.float64).T  # (2, 1) W, H
    grid = np.array([(cols, rows)], dtype=np.float64).T  # (2, 1)
    at = np.array(pixel.T, dtype=np.float64, order="C")  # (2, n), worked on in place
    _check(at, size)
    ratio = target / size  # (2, 1)
    if mode == "published":
        np.floor(at, out=at)
        # a pixel just left of the right border may have been stored, in float32, as the border itself
        np.minimum(at, size - 1, out=at)
        at *= ratio
        np.floor(at, out=at)
    elif mode == "subpixel":
        at *= ratio
        at -= 0.5
        np.clip(at, 0.0, target - 1, out=at)
    else:
        raise ValueError(f"sampling must be 'published' or 'subpixel', not {mode!r}")
    # the product first: the last pixel then lies on the last patch exactly
    at *= grid - 1
    at /= np.maximum(target - 1, 1)
    return at.T  # (n, 2)


def sample_grid(features: Tensor, coordinates: Tensor) -> Tensor:
    """Bilinear reading of one patch grid.

    features: (rows, cols, C), any float type. coordinates: (n, 2) as `grid_coordinates` gives them.
    Returns (n, C) float32 (float64 for float64).
    """
    image = torch.zeros(len(coordinates), dtype=torch.int64, device=coordinates.device)  # (n,)
    return sample_grids(features.unsqueeze(0), coordinates, image)


def sample_grids(features: Tensor, coordinates: Tensor, image: Tensor) -> Tensor:
    """Bilinear reading of several patch grids of one size, for the packed rows of a batch.

    features: (I, rows, cols, C), any float type. coordinates: (n, 2) float (column, row).
    image: (n,) int64, which grid each coordinate is in. Returns (n, C) float32 (float64 for float64).
    """
    _, rows, cols, channels = features.shape
    dtype = torch.promote_types(features.dtype, torch.float32)
    patches, weights = _corners(coordinates, rows, cols)  # (n, 4), (n, 4)
    patches = patches + (image * (rows * cols)).unsqueeze(1)  # (n, 4)
    table = features.reshape(-1, channels).to(dtype)  # (I rows cols, C)
    return F.embedding_bag(patches, table, per_sample_weights=weights.to(dtype), mode="sum")  # (n, C)


def _corners(coordinates: Tensor, rows: int, cols: int) -> tuple[Tensor, Tensor]:
    """The four patches around each coordinate, numbered row by row, and their bilinear weights.

    coordinates: (n, 2) (column, row). Returns (n, 4) int64 and (n, 4) in the type of the coordinates.
    """
    col, right = _two(coordinates[:, :1], cols)  # (n, 2), (n, 1)
    row, down = _two(coordinates[:, 1:], rows)  # (n, 2), (n, 1)
    patches = row.unsqueeze(2) * cols + col.unsqueeze(1)  # (n, 2, 2)
    across = torch.cat((1 - right, right), 1)  # (n, 2)
    along = torch.cat((1 - down, down), 1)  # (n, 2)
    return patches.flatten(1), (along.unsqueeze(2) * across.unsqueeze(1)).flatten(1)


def _two(coordinate: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The two of `count` columns or rows around each coordinate (n, 1), (n, 2) int64, and the second one's share (n, 1).

    Bounds are plain numbers: as tensors they would be copied to a GPU, which waits for all that it was given before.
    """
    low = coordinate.floor().long().clamp(max=count - 1)  # (n, 1)
    return torch.cat((low, (low + 1).clamp(max=count - 1)), 1), coordinate - low


def _check(pixel: npt.NDArray[np.float64], size: npt.NDArray[np.float64]) -> None:
    """Raise ValueError for pixels (2, n) outside the original image; its right and lower border count as inside."""
    inside = (pixel >= 0) & (pixel <= size)  # false for NaN, too
    if not inside.all():
        outside = int((~inside.all(axis=0)).sum())
        width, height = size[:, 0].astype(int)
        raise ValueError(f"{outside} of {pixel.shape[1]} pixels lie outside the image of {width} x {height}")
