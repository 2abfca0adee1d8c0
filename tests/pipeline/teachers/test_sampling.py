"""Reading the patch grid at the points equals enlarging it to the image and picking pixels."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.teachers.sampling import grid_coordinates, sample_grid, sample_grids

torch.set_num_threads(1)

ORIGINAL, IMAGE, ROWS, COLS = (1600, 900), (224, 448), 16, 32
SIZES = {"original": ORIGINAL, "image": IMAGE, "rows": ROWS, "cols": COLS}


def pixels(count: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Random pixels of the original image, its four corners first."""
    width, height = ORIGINAL
    found = np.random.default_rng(seed).uniform((0, 0), (width - 1, height - 1), (count, 2))
    found[:4] = [[0, 0], [width - 1, 0], [0, height - 1], [width - 0.01, height - 0.01]]
    return found.astype(np.float32)


def enlarged(features: Tensor) -> Tensor:
    """(rows, cols, C) to (H, W, C) as the authors enlarge it: bilinear, corners aligned."""
    image = F.interpolate(features.permute(2, 0, 1)[None], size=IMAGE, mode="bilinear", align_corners=True)
    return image[0].permute(1, 2, 0)


def published_pixels(pixel: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(row, column) in the teacher's image: floor, multiply by new size / old size, floor again."""
    whole = np.floor(pixel[:, ::-1]).astype(np.int64)
    image = np.floor(np.multiply(whole, [IMAGE[0] / ORIGINAL[1], IMAGE[1] / ORIGINAL[0]])).astype(np.int64)
    return image[:, 0], image[:, 1]


# torch places the pixels of a float32 image in float32, which costs it some 1e-5 here
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_published_sampling_equals_enlarging_and_picking(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    features, pixel = torch.randn(ROWS, COLS, 12, dtype=dtype), pixels(3000)
    expected = enlarged(features)[published_pixels(pixel)]
    found = sample_grid(features, torch.from_numpy(grid_coordinates(pixel, **SIZES)))
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_types_are_sampled_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    features = torch.randn(ROWS, COLS, 12).to(dtype)
    coordinates = torch.from_numpy(grid_coordinates(pixels(100), **SIZES))
    found = sample_grid(features, coordinates)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, sample_grid(features.float(), coordinates), rtol=0, atol=0)


def test_several_images_at_once() -> None:
    torch.manual_seed(0)
    features = torch.randn(3, ROWS, COLS, 5)
    coordinates = torch.from_numpy(grid_coordinates(pixels(60), **SIZES))
    image = torch.randint(0, 3, (60,))
    found = sample_grids(features, coordinates, image)
    for i in range(3):
        expected = sample_grid(features[i], coordinates[image == i])
        torch.testing.assert_close(found[image == i], expected, rtol=0, atol=0)


def test_patches_and_corners_are_met_exactly() -> None:
    features = torch.arange(ROWS * COLS, dtype=torch.float32).reshape(ROWS, COLS, 1)
    every = torch.cartesian_prod(torch.arange(ROWS), torch.arange(COLS)).flip(1)  # (column, row)
    torch.testing.assert_close(sample_grid(features, every.double()), features.reshape(-1, 1), rtol=0, atol=0)
    corners = grid_coordinates(pixels(4), **SIZES)
    np.testing.assert_array_equal(corners, [[0, 0], [31, 0], [0, 15], [31, 15]])


def test_the_product_is_rounded_as_published() -> None:
    """The published ratio is formed first: at some sizes a pixel falls just short of the whole number."""
    assert 180 * 448 / 1280 == 63.0
    assert 180 * (448 / 1280) < 63.0
    pixel = np.array([[180.5, 0.0]], np.float32)
    coordinates = grid_coordinates(pixel, original=(1280, 10), image=(10, 448), rows=10, cols=448)
    np.testing.assert_array_equal(coordinates, [[62.0, 0.0]])


def test_a_pixel_rounded_up_to_the_border_stays_in_the_image() -> None:
    border = np.array([[1599.99999, 899.99999]]).astype(np.float32)
    assert border.tolist() == [[1600.0, 900.0]]
    np.testing.assert_array_equal(grid_coordinates(border, **SIZES), [[31, 15]])
    np.testing.assert_array_equal(grid_coordinates(border, **SIZES, mode="subpixel"), [[31, 15]])


def test_subpixel_meets_the_same_map_at_pixel_centres() -> None:
    """At the centre of an image pixel, both modes read that pixel; between centres, subpixel is linear."""
    torch.manual_seed(0)
    features = torch.randn(ROWS, COLS, 6, dtype=torch.float64)
    row, column = np.array([0, 17, 100, 223]), np.array([0, 30, 447, 5])
    ratio = np.array([ORIGINAL[0] / IMAGE[1], ORIGINAL[1] / IMAGE[0]])

    def sample(u: npt.NDArray[np.float64], v: npt.NDArray[np.float64]) -> Tensor:
        pixel = np.stack([u, v], axis=1) * ratio
        return sample_grid(features, torch.from_numpy(grid_coordinates(pixel, **SIZES, mode="subpixel")))

    image = enlarged(features)
    torch.testing.assert_close(sample(column + 0.5, row + 0.5), image[row, column], rtol=0, atol=1e-12)
    right = np.minimum(column + 1, IMAGE[1] - 1)
    between = 0.75 * image[row, column] + 0.25 * image[row, right]
    torch.testing.assert_close(sample(column + 0.75, row + 0.5)[:2], between[:2], rtol=0, atol=1e-12)


def test_modes_stay_within_one_image_pixel() -> None:
    pixel = pixels(1000)
    step = np.array([(COLS - 1) / (IMAGE[1] - 1), (ROWS - 1) / (IMAGE[0] - 1)])
    published, subpixel = (grid_coordinates(pixel, **SIZES, mode=mode) for mode in ("published", "subpixel"))
    assert (np.abs(published - subpixel) <= step).all()


def test_a_grid_of_one_row() -> None:
    coordinates = grid_coordinates(
        np.array([[3.0, 1.0]], np.float32), original=(8, 2), image=(1, 4), rows=1, cols=2
    )
    np.testing.assert_allclose(coordinates, [[1 / 3, 0]])
    found = sample_grid(torch.tensor([[[0.0], [3.0]]]), torch.from_numpy(coordinates))
    torch.testing.assert_close(found, torch.tensor([[1.0]]))


def test_no_points() -> None:
    coordinates = grid_coordinates(np.empty((0, 2), np.float32), **SIZES)
    assert sample_grid(torch.randn(ROWS, COLS, 3), torch.from_numpy(coordinates)).shape == (0, 3)


def test_pixels_outside_and_unknown_modes_are_refused() -> None:
    outside = np.array([[10.0, 10.0], [-0.5, 10.0], [10.0, 900.5], [np.nan, 1.0]], np.float32)
    with pytest.raises(ValueError, match="3 of 4 pixels lie outside the image of 1600 x 900"):
        grid_coordinates(outside, **SIZES)
    with pytest.raises(ValueError, match="'published' or 'subpixel'"):
        grid_coordinates(outside[:1], **SIZES, mode="nearest")  # type: ignore[arg-type]
