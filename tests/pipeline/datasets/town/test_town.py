"""Towns: reproducible, complete, and with a free lane for the ego car."""

import numpy as np
import pytest

from pipeline.common.random import generator
from pipeline.datasets.town.drive import plan_drive, scan_times
from pipeline.datasets.town.frames import from_angles
from pipeline.datasets.town.lidar import Lidar, scan
from pipeline.datasets.town.primitives import Label
from pipeline.datasets.town.town import build_town

GROUND = (Label.ROAD, Label.SIDEWALK, Label.TERRAIN)


@pytest.mark.parametrize("seed", range(8))
def test_nothing_stands_in_the_way_of_the_drive(seed: int) -> None:
    town = build_town("test", seed)
    drive = plan_drive(town, "test", seed)
    things = ~np.isin(town.primitives.label, GROUND) & (town.primitives.corners()[..., 2].min(1) < 2.2)
    corners = town.primitives.corners()[things][..., :2]
    for time in np.linspace(-0.5, town.length / drive.speed + 0.5, 40):
        local = (
            drive.pose(float(time))
            .inverse()
            .apply(np.dstack([corners, np.zeros(corners.shape[:2])]))[..., :2]
        )
        low, high = local.min(1), local.max(1)
        # The car: 4.5 m long from 1 m behind the rear axle, 1.9 m wide.
        touching = (low[:, 0] < 3.5) & (high[:, 0] > -1.0) & (low[:, 1] < 0.95) & (high[:, 1] > -0.95)
        assert not touching.any(), [Label(k).name for k in town.primitives.label[things][touching]]


def test_same_seed_same_town_other_seed_other_town() -> None:
    first, again, other = (build_town("test", seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.primitives.centre, again.primitives.centre)
    np.testing.assert_array_equal(first.looks.colour, again.looks.colour)
    assert first.primitives.paints == again.primitives.paints
    assert first.primitives.centre.shape != other.primitives.centre.shape


def test_towns_hold_every_label_and_hundreds_of_parts() -> None:
    towns = [build_town("test", seed) for seed in range(4)]
    assert all(len(town.primitives) > 200 for town in towns)
    assert {int(k) for town in towns for k in np.unique(town.primitives.label)} == {int(k) for k in Label}
    assert all((town.primitives.half > 0).all() for town in towns)


def test_scans_lie_about_eight_metres_apart() -> None:
    town = build_town("test", 0)
    drive = plan_drive(town, "test", 0)
    times = scan_times(drive, 6, 8.0, generator("test"))
    places = np.array([drive.pose(time).translation for time in times])
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    assert (steps > 6).all()
    assert (steps < 10).all()


def test_lidar_points_lie_on_their_beams_within_noise() -> None:
    town = build_town("test", 0)
    lidar = Lidar(elevations=tuple(np.linspace(-30, 10, 16)), azimuths=180)
    pose = plan_drive(town, "test", 0).pose(1.0) @ from_angles((0.9, 0, 1.84), -np.pi / 2)
    found = scan(town, lidar, pose, generator("test"))
    again = scan(town, lidar, pose, generator("test"))
    np.testing.assert_array_equal(found.points, again.points)
    distance = np.linalg.norm(found.points, axis=1)
    elevation = np.degrees(np.arcsin(found.points[:, 2] / distance))
    np.testing.assert_allclose(elevation, np.array(lidar.elevations)[found.ring], atol=0.01)
    assert distance.max() < lidar.reach + 1
    assert found.points.dtype == np.float32
    assert (found.intensity == np.round(found.intensity)).all()
    assert 0 <= found.intensity.min() <= found.intensity.max() <= 255
    road = found.label == Label.ROAD
    height = pose.apply(found.points[road].astype(float))[:, 2]
    assert np.abs(np.median(height)) < 0.02
    assert height.std() < 0.05
