"""Neither a pixel's colour nor a point's intensity tells what it belongs to.

Judges are fitted on some towns and asked about others. Scores are the mean over labels of the share recognised, so
that guessing gives one over the number of labels, 0.1.
"""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial import cKDTree

from pipeline.common.random import generator
from pipeline.datasets.town.appearance import Scene, photograph
from pipeline.datasets.town.camera import Pinhole
from pipeline.datasets.town.drive import plan_drive
from pipeline.datasets.town.frames import from_angles, looking_along
from pipeline.datasets.town.lidar import Lidar, scan
from pipeline.datasets.town.light import make_light
from pipeline.datasets.town.raycast import cast
from pipeline.datasets.town.town import build_town

FIT, ASK = range(5), range(5, 8)
PER_LABEL = 200
CAMERA = Pinhole(54, 96, 76.0, 76.0, 48.0, 29.0)

Judge = Callable[
    [np.ndarray, np.ndarray, np.ndarray], np.ndarray
]  # known values, their labels, asked -> labels


@pytest.fixture(scope="module")
def evidence() -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """For each town: colours (N, 3) and their labels, intensities (M, 1) and theirs."""
    lidar = Lidar(elevations=tuple(np.linspace(-30, 10, 24)), azimuths=180)
    found = []
    for seed in (*FIT, *ASK):
        town = build_town("camouflage", seed, length=16.0)
        scene = Scene(town, make_light(town, "camouflage", seed))
        ego = plan_drive(town, "camouflage", seed).pose(1.0)
        colours, labels = [], []
        for yaw in (0.2, 1.3):
            direction, right = (
                np.array([np.cos(yaw), np.sin(yaw), 0]),
                np.array([np.sin(yaw), -np.cos(yaw), 0]),
            )
            pose = ego @ looking_along(direction, np.array([1.5, 0, 1.5]), right)
            hit = cast(town.primitives, CAMERA.rays(pose)).primitive
            image = photograph(scene, CAMERA, pose, generator("camouflage", seed))
            colours.append(image[hit >= 0])
            labels.append(town.primitives.label[hit[hit >= 0]])
        echo = scan(town, lidar, ego @ from_angles((0.9, 0, 1.84), -np.pi / 2), generator("camouflage", seed))
        found.append(
            (
                np.concatenate(colours).astype(float),
                np.concatenate(labels),
                echo.intensity[:, None],
                echo.label,
            )
        )
    return found


def balanced(values: list[np.ndarray], labels: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Equally many of every label, drawn from all towns."""
    value, label = np.concatenate(values), np.concatenate(labels)
    random = generator("camouflage", "draw")
    chosen = np.concatenate([random.choice(np.flatnonzero(label == k), PER_LABEL) for k in np.unique(label)])
    return value[chosen], label[chosen]


def nearest_mean(known: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    names = np.unique(labels)
    means = np.stack([known[labels == name].mean(0) for name in names])
    return names[((asked[:, None] - means) ** 2).sum(-1).argmin(1)]


def neighbours(known: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    jitter = 0.5 * generator("camouflage", "ties").standard_normal(
        known.shape
    )  # whole numbers would all be ties
    _, near = cKDTree(known + jitter).query(asked, k=51)
    votes = np.stack([(labels[near] == name).sum(1) for name in np.unique(labels)], axis=1)
    return np.unique(labels)[votes.argmax(1)]


@pytest.mark.parametrize("judge", [nearest_mean, neighbours])
@pytest.mark.parametrize(("column", "bound"), [(0, 0.25), (2, 0.18)], ids=["colour", "intensity"])
def test_gives_nothing_away(evidence, judge: Judge, column: int, bound: float) -> None:
    fit, ask = (
        balanced([evidence[k][column] for k in part], [evidence[k][column + 1] for k in part])
        for part in (FIT, ASK)
    )
    answer = judge(*fit, ask[0])
    score = np.mean([(answer[ask[1] == name] == name).mean() for name in np.unique(ask[1])])
    assert score < bound


def test_every_label_varies_in_colour_and_intensity(evidence) -> None:
    for column, least in ((0, 8.0), (2, 4.0)):
        for name in np.unique(evidence[0][1]):
            values = np.concatenate([town[column][town[column + 1] == name] for town in evidence])
            assert len(values) < 400 or values.std(0).min() > least
