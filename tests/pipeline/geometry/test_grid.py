"""Points fall into the published cells, up to the border of the field of view."""

import numpy as np
import pytest

from pipeline.geometry.grid import Grid, Plane


def test_default_is_the_published_grid() -> None:
    assert Grid() == Grid.with_cells((-64.0, -64.0, -8.0), (64.0, 64.0, 8.0), 0.5)
    assert Grid().shapes == ((256, 256), (256, 32), (256, 32))
    assert [plane.axes for plane in Grid().planes] == [(0, 1), (0, 2), (1, 2)]


def test_other_fields_of_view() -> None:
    wide = Grid.with_cells((-128.0, -128.0, -8.0), (128.0, 128.0, 8.0))
    assert wide.shapes == ((512, 512), (512, 32), (512, 32))
    uneven = Grid.with_cells((0.0, -20.0, -3.0), (40.0, 20.0, 1.0), 0.25)
    assert uneven.shapes == ((160, 160), (160, 16), (160, 16))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cells_by_the_written_formula(dtype: type) -> None:
    grid = Grid((-3.0, -2.0, -1.0), (5.0, 2.0, 2.0), (Plane(2, (7, 5)), Plane(1, (3, 4)), Plane(0, (9, 2))))
    points = np.random.default_rng(0).uniform((-3, -2, -1), (5, 2, 2), (500, 3)).astype(dtype)
    points = points[grid.inside(points)]
    expected = [
        [
            int((float(p[a]) - grid.low[a]) / ((grid.high[a] - grid.low[a]) / height)) * width
            + int((float(p[b]) - grid.low[b]) / ((grid.high[b] - grid.low[b]) / width))
            for (a, b), (height, width) in zip(((0, 1), (0, 2), (1, 2)), grid.shapes, strict=True)
        ]
        for p in points
    ]
    found = grid.cells(points)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)


def test_cells_at_the_borders() -> None:
    edge = 64.0 - 2e-4
    points = np.array([[-edge, -edge, -7.9998], [edge, edge, 7.9998], [0.0, 0.0, 0.0]], dtype=np.float32)
    np.testing.assert_array_equal(
        Grid().cells(points),
        [[0, 0, 0], [256 * 256 - 1, 256 * 32 - 1, 256 * 32 - 1], [128 * 257, 128 * 32 + 16, 128 * 32 + 16]],
    )


def test_the_border_itself_is_outside() -> None:
    grid = Grid()
    on_low, on_high = np.float64(-64.0) + 1e-4, np.float64(64.0) - 1e-4
    xs = np.array([on_low, np.nextafter(on_low, 0.0), on_high, np.nextafter(on_high, 0.0), 64.0, np.nan])
    points = np.stack([xs, np.zeros_like(xs), np.zeros_like(xs)], axis=1)
    assert grid.inside(points).tolist() == [False, True, False, True, False, False]
    # float32 points are compared in float32
    assert grid.inside(points.astype(np.float32)).tolist() == [False] * 6


def test_points_outside_are_refused_with_their_number() -> None:
    with pytest.raises(ValueError, match="2 of 3 points lie outside the field of view"):
        Grid().cells(np.array([[0.0, 0.0, 0.0], [64.0, 0.0, 0.0], [0.0, 0.0, -9.0]]))


def test_impossible_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="empty along y"):
        Grid((-1.0, 1.0, -1.0), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="do not fill the field of view along z"):
        Grid.with_cells((-64.0, -64.0, -8.0), (64.0, 64.0, 8.2), 0.5)
    with pytest.raises(ValueError, match="axis 0, 1 or 2"):
        Plane(3, (4, 4))
    with pytest.raises(ValueError, match="at least one cell"):
        Plane(0, (4, 0))
    with pytest.raises(ValueError, match="at least one plane"):
        Grid(planes=())
