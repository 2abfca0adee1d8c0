"""A sample of all cameras: every point once, with a camera that sees it, its own grid's features, and true neighbours."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from read_view import read_view
from scipy.spatial.distance import cdist

from pipeline.common.random import generator
from pipeline.config.model import Augment, Points
from pipeline.plan.parts import Run
from pipeline.plan.plan import Plan
from pipeline.streaming.all_cameras import make_union_sample, one_camera_each
from pipeline.streaming.view_batches import PretrainBatch, PretrainSteps
from pipeline.streaming.view_source import ViewPoints, ViewSource
from pipeline.teachers.sampling import grid_coordinates, sample_grid
from stages.cli import main

INTENSITY = (18.742355, 22.04632)
STILL = Augment(rotate=False, flip=False, scale=0.0)


@pytest.fixture(scope="module")
def all_cameras(
    tmp_path_factory: pytest.TempPathFactory, make_workspace: Callable[[Path], Any]
) -> tuple[Plan, Run]:
    """A full cache, and a run that takes all cameras of each scan, without augmentation."""
    workspace = make_workspace(tmp_path_factory.mktemp("union"))

    def change(config: dict[str, Any]) -> None:
        student = config["students"]["wi_tiny"]
        student.update(cameras="all", augment={"rotate": False, "flip": False, "scale": 0.0})
        student["pretrain"].update(batch=2)

    workspace.edit(change)
    with contextlib.chdir(workspace.folder):
        for command in ("index", "scans", "views", "features"):
            main([command, "--config", "config/tiny.yaml"])
    plan = workspace.plan()
    return plan, plan.runs["wi_tiny"]


@pytest.fixture(scope="module")
def source(all_cameras: tuple[Plan, Run]) -> ViewSource:
    plan, run = all_cameras
    return ViewSource(plan.experiment.cache, run.readings, plan.experiment.teachers_of(run.student))


def steps_of(all_cameras: tuple[Plan, Run], source: ViewSource) -> PretrainSteps:
    plan, run = all_cameras
    return PretrainSteps(
        source, source.scans()[0], run, plan.experiment.teachers_of(run.student), {"nuscenes": INTENSITY}
    )


@pytest.fixture(scope="module")
def batch(all_cameras: tuple[Plan, Run], source: ViewSource) -> PretrainBatch:
    return steps_of(all_cameras, source)[0]


def views_of(source: ViewSource, batch: PretrainBatch, number: int) -> list[ViewPoints]:
    draw = batch.draws[number]
    return [read_view(source, draw.scan.reading, view, draw.variant) for view in draw.scan.views]


def test_every_point_that_a_camera_sees_is_there_once(
    all_cameras: tuple[Plan, Run], source: ViewSource, batch: PretrainBatch
) -> None:
    points = all_cameras[1].student.points
    low, high = np.array(points.field_of_view).T
    for number in range(2):
        views = views_of(source, batch, number)
        seen: dict[int, np.ndarray] = {
            int(point): place for view in views for point, place in zip(view.point, view.xyz, strict=True)
        }
        inside = [xyz for xyz in seen.values() if ((xyz > low) & (xyz < high)).all()]
        first, last = batch.clouds.offsets[number : number + 2].tolist()
        mine = batch.clouds.features[first:last, 1:4].numpy()
        assert len(seen) < sum(len(view.point) for view in views), "some points are seen by two cameras"
        assert sorted(map(tuple, mine.tolist())) == sorted(tuple(map(float, xyz)) for xyz in inside)


def test_each_point_learns_from_a_camera_that_sees_it_at_its_pixel_there(
    all_cameras: tuple[Plan, Run], source: ViewSource, batch: PretrainBatch
) -> None:
    plan, run = all_cameras
    (teacher,) = plan.experiment.teachers_of(run.student)
    assert len(batch.view_sizes) == sum(len(draw.scan.views) for draw in batch.draws) == 12
    assert int(batch.view_sizes.sum()) == len(batch.clouds.features)
    view_of_row = batch.view_of_row()
    found = batch.targets[0].sample(view_of_row)
    views = [view for number in range(2) for view in views_of(source, batch, number)]
    for number, view in enumerate(views):
        at = {tuple(xyz): pixel for xyz, pixel in zip(view.xyz.tolist(), view.pixel, strict=True)}
        rows = torch.nonzero(view_of_row == number).flatten()
        pixel = np.array([at[tuple(xyz)] for xyz in batch.clouds.features[rows, 1:4].tolist()])
        grid = torch.from_numpy(view.grids[0].values)
        coordinates = grid_coordinates(
            pixel, original=view.original, image=teacher.image_size, rows=grid.shape[0], cols=grid.shape[1]
        )
        torch.testing.assert_close(found[rows], sample_grid(grid, torch.from_numpy(coordinates)).float())


def test_neighbours_are_the_nearest_of_the_union(all_cameras: tuple[Plan, Run], batch: PretrainBatch) -> None:
    count = all_cameras[1].student.points.neighbours
    first, last = batch.clouds.offsets[:2].tolist()
    xyz = batch.clouds.features[first:last, 1:4].double().numpy()
    apart = cdist(xyz, xyz)
    np.fill_diagonal(apart, np.inf)
    nearest = np.sort(apart, axis=1)[:, :count]
    mine = np.take_along_axis(apart, batch.clouds.neighbours[first:last].numpy() - first, axis=1)
    np.testing.assert_allclose(mine, nearest, rtol=1e-6)


def test_a_batch_is_a_pure_function_of_its_step(
    all_cameras: tuple[Plan, Run], source: ViewSource, batch: PretrainBatch
) -> None:
    again = steps_of(all_cameras, source)[0]
    torch.testing.assert_close(again.clouds.features, batch.clouds.features, rtol=0, atol=0)
    torch.testing.assert_close(again.targets[0].values, batch.targets[0].values, rtol=0, atol=0)


def test_a_point_of_two_cameras_goes_to_either(source: ViewSource, batch: PretrainBatch) -> None:
    views = views_of(source, batch, 0)
    shared = set(views[0].point.tolist()) & set(views[1].point.tolist())
    assert shared, "neighbouring cameras overlap"
    point = np.concatenate([view.point for view in views])
    cameras: dict[int, set[int]] = {number: set() for number in shared}
    for key in range(30):
        camera, place = one_camera_each(views, generator(key))
        assert (np.diff(camera) >= 0).all(), "camera by camera"
        assert len(np.unique(point[place])) == len(place) == len(np.unique(point))
        for number, its in zip(point[place].tolist(), camera.tolist(), strict=True):
            if number in shared:
                cameras[number].add(its)
    assert max(map(len, cameras.values())) >= 2


def test_the_limit_and_the_crop_hold_for_the_union(source: ViewSource, batch: PretrainBatch) -> None:
    views = [replace(view, grids=()) for view in views_of(source, batch, 0)]
    points = Points(neighbours=4, max_points=200, field_of_view=((-16, 16), (-16, 16), (-8, 8)))
    sample = make_union_sample(
        views, points=points, augmentation=STILL, intensity=INTENSITY, teachers=(), sampling="published", rng=generator(1)
    )  # fmt: skip
    assert 0 < len(sample.cloud.features) == sum(sample.sizes) <= 200
    assert np.abs(sample.cloud.features[:, 1:3]).max() < 16


def test_a_student_learns_from_all_cameras(finished: Any) -> None:
    finished.edit(
        lambda config: config["students"]["wi_tiny"].update(
            cameras="all", pretrain={"epochs": 1, "batch": 1, "warmup": 0}
        )
    )
    said = finished.griddle("pretrain", "--config", "config/tiny.yaml").stderr
    assert "step 2/2  loss" in said
