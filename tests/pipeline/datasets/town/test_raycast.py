"""The ray caster against a slow and simple one, and its windows against no windows."""

import dataclasses

import numpy as np
import pytest

from pipeline.datasets.town.camera import Pinhole
from pipeline.datasets.town.drive import plan_drive
from pipeline.datasets.town.frames import Pose, from_angles, looking_along
from pipeline.datasets.town.lidar import Lidar
from pipeline.datasets.town.primitives import Builder, Label, Paint, Primitives, Shape
from pipeline.datasets.town.raycast import RayGrid, cast
from pipeline.datasets.town.surface import surface_at
from pipeline.datasets.town.town import build_town

PAINT = Paint("plain", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
CAMERA = Pinhole(36, 64, 50.0, 50.0, 32.0, 18.0)


def forward(at: tuple[float, float, float], yaw: float = 0.0) -> Pose:
    """A camera at `at` that looks level along `yaw`."""
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    return looking_along(np.array([np.cos(yaw), np.sin(yaw), 0.0]), np.array(at), right)


def one(shape: Shape) -> Primitives:
    builder = Builder()
    builder.add(shape, Label.CAR, PAINT, at=(8.0, 1.0), z=-0.8, size=(2.0, 3.0, 1.5), yaw=0.4)
    return builder.build()


def inside(world: Primitives, points: np.ndarray) -> np.ndarray:
    """Whether points (..., 3) lie in the only primitive, straight from the definitions of the shapes."""
    away = points - world.centre[0]
    c, s = np.cos(world.yaw[0]), np.sin(world.yaw[0])
    local = np.stack(
        [c * away[..., 0] + s * away[..., 1], c * away[..., 1] - s * away[..., 0], away[..., 2]], -1
    )
    unit = local / world.half[0]
    if world.shape[0] == Shape.BOX:
        return (np.abs(unit) <= 1).all(-1)
    if world.shape[0] == Shape.CYLINDER:
        return (unit[..., 0] ** 2 + unit[..., 1] ** 2 <= 1) & (np.abs(unit[..., 2]) <= 1)
    return (unit**2).sum(-1) <= 1


@pytest.mark.parametrize("shape", list(Shape))
def test_first_entry_is_found_where_marching_finds_it(shape: Shape) -> None:
    world = one(shape)
    rays = CAMERA.rays(forward((0.0, 0.0, 0.0)))
    steps = np.arange(4.0, 12.0, 0.01)
    along = rays.directions.reshape(3, -1).T[:, None, :] * steps[None, :, None]
    marched = inside(world, along)
    hits = cast(world, rays)
    found = np.isfinite(hits.distance.ravel())
    grazing = marched.sum(1) < 10  # the march may step over a sliver
    assert (found == marched.any(1))[~grazing | ~found].all()
    first = steps[marched.argmax(1)]
    sure = found & ~grazing
    assert sure.sum() > 50
    assert np.abs(first - hits.distance.ravel())[sure].max() < 0.021


@pytest.mark.parametrize("shape", list(Shape))
def test_normals_face_the_ray_and_are_unit(shape: Shape) -> None:
    world = one(shape)
    rays = CAMERA.rays(forward((0.0, 0.0, 1.5)))
    hits = cast(world, rays)
    seen = hits.primitive >= 0
    directions = rays.directions[:, seen]
    surface = surface_at(world, rays.origin, directions, hits.distance[seen], hits.primitive[seen])
    np.testing.assert_allclose((surface.normal**2).sum(0), 1, atol=1e-4)
    assert ((surface.normal * directions).sum(0) < 1e-3).all()
    # A step outwards leaves the shape, a step inwards enters it.
    assert not inside(world, (surface.point + 0.01 * surface.normal).T).any()
    assert inside(world, (surface.point - 0.01 * surface.normal).T).mean() > 0.98


@pytest.fixture(scope="module")
def town():
    return build_town("test", 1, length=16.0)


def whole(rays: RayGrid) -> RayGrid:
    """The same rays without windows: every primitive is tested against all."""
    rows, cols = rays.directions.shape[1:]

    def everything(corners: np.ndarray) -> np.ndarray:
        one = np.ones(len(corners), int)
        return np.column_stack([np.arange(len(corners)), 0 * one, rows * one, 0 * one, cols * one])

    return dataclasses.replace(rays, windows=everything)


@pytest.mark.parametrize("yaw", [0.0, 1.0, np.pi])
def test_camera_windows_lose_nothing(town, yaw: float) -> None:
    rays = CAMERA.rays(plan_drive(town, "test").pose(0.5) @ forward((1.7, 0.0, 1.5), yaw))
    windowed, plain = cast(town.primitives, rays), cast(town.primitives, whole(rays))
    np.testing.assert_array_equal(windowed.primitive, plain.primitive)
    np.testing.assert_array_equal(windowed.distance, plain.distance)


@pytest.mark.parametrize(("start", "sweep"), [(180.0, -360.0), (0.0, 360.0), (60.0, -120.0)])
def test_lidar_windows_lose_nothing(town, start: float, sweep: float) -> None:
    lidar = Lidar(elevations=tuple(np.linspace(-30, 10, 8)), azimuths=90, start=start, sweep=sweep)
    mount = from_angles((0.9, 0.0, 1.84), -1.57, 0.01, 0.01)
    rays = lidar.rays(plan_drive(town, "test").pose(0.5) @ mount, phase=0.3)
    windowed, plain = cast(town.primitives, rays), cast(town.primitives, whole(rays))
    np.testing.assert_array_equal(windowed.primitive, plain.primitive)
    np.testing.assert_array_equal(windowed.distance, plain.distance)
