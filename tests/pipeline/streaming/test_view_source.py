"""What a sample is made of, read from a real small cache, against the dataset's own files."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from read_view import read_view

from cache_schemas.errors import BadInput, DamagedCache
from cache_schemas.features import features_schema
from cache_schemas.manifest import Manifest
from cache_schemas.reading import PartitionReader, ZarrReader
from cache_schemas.scans import SCANS
from cache_schemas.writing import PartitionWriter
from pipeline.common.random import generator
from pipeline.config.model import Points
from pipeline.datasets.records import PartitionRecord, ScanRecord
from pipeline.geometry.projection import see
from pipeline.geometry.voxels import representatives
from pipeline.plan.parts import Reading, Run
from pipeline.plan.plan import Plan
from pipeline.preprocessing.target import Target
from pipeline.preprocessing.views import write_views
from pipeline.streaming import open_partitions as opened
from pipeline.streaming import readahead
from pipeline.streaming.view_batches import PretrainSteps, stream
from pipeline.streaming.view_source import ViewSource
from stages.cli import main


@dataclass(frozen=True)
class Cached:
    """A toy dataset whose three stores are full, and the one run that reads them."""

    root: Path
    plan: Plan
    run: Run

    @property
    def points(self) -> Points:
        return self.run.student.points

    def source(self, readings: list[Reading] | None = None) -> ViewSource:
        return ViewSource(
            self.plan.experiment.cache,
            readings or self.run.readings,
            self.plan.experiment.teachers_of(self.run.student),
        )

    def record(self, partition: str) -> PartitionRecord:
        index = self.plan.experiment.indices["nuscenes"]
        return index.load_partition(next(e for e in index.partitions if e.name == partition))

    def file_of(self, scan: ScanRecord) -> np.ndarray:
        return np.fromfile(self.root / scan.path, "<f4").reshape(-1, 5)


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory, make_workspace: Callable[[Path], Any]) -> Cached:
    workspace = make_workspace(tmp_path_factory.mktemp("cached"))
    # The toy's beams are far apart: only large voxels hold several points. Crops of a small field need spares.
    small = [[-20.0, 20.0], [-20.0, 20.0], [-4.0, 4.0]]
    workspace.edit(
        lambda config: config["students"]["wi_tiny"]["points"].update(voxel=0.6, field_of_view=small)
    )
    with contextlib.chdir(workspace.folder):
        for command in ("index", "scans", "views", "features"):
            main([command, "--config", "config/tiny.yaml"])
    plan = workspace.plan()
    return Cached(workspace.folder / "toy" / "tiny", plan, plan.runs["wi_tiny"])


def test_all_scans_are_listed_in_the_order_of_the_plan(cached: Cached) -> None:
    places, unusable = cached.source().scans()
    expected = [
        (number, scan.name)
        for number, reading in enumerate(cached.run.readings)
        for scan in cached.record(reading.partition).scans
    ]
    assert [(place.reading, place.name) for place in places] == expected
    assert unusable == []
    assert {place.dataset for place in places} == {"nuscenes"}
    for place in places:
        first = 6 * [name for number, name in expected if number == place.reading].index(place.name)
        assert place.views == tuple(range(first, first + 6))


def test_values_are_those_of_the_files(cached: Cached) -> None:
    source, points = cached.source(), cached.points
    for number, reading in enumerate(cached.run.readings):
        record = cached.record(reading.partition)
        grids = zarr.open_group(
            next((cached.plan.experiment.cache / reading.features[0][0]).glob(f"{reading.partition}.*.zarr")),
            mode="r",
        )
        for view, image in enumerate(record.images):
            scan = record.scans[view // 6]
            file = cached.file_of(scan)
            seen = see(file[:, :3], image, cached.plan.experiment.traits["nuscenes"].mask("published"))
            for variant in range(points.variants):
                read = read_view(source, number, view, variant)
                draw = generator(points.seed, "voxel", scan.name, variant)
                rows = representatives(file[:, :3], points.voxel, draw)
                rows = rows[np.isin(rows, seen.point)]
                np.testing.assert_array_equal(read.xyz, file[rows, :3])
                np.testing.assert_array_equal(read.intensity, file[rows, 3])
                np.testing.assert_array_equal(read.pixel, seen.pixel[np.searchsorted(seen.point, rows)])
                assert read.original == (image.width, image.height)
                at = grids.attrs["images"].index(image.path)
                np.testing.assert_array_equal(read.grids[0].values, grids["features"][at])


def test_neighbours_are_those_of_brute_force(cached: Cached) -> None:
    source, count, more = cached.source(), cached.points.neighbours, cached.points.spares
    with_spares = 0
    for view in range(12):
        read = read_view(source, 0, view, view % 2)
        points, some = len(read.xyz), read.spare_of.astype(np.int64)
        assert read.neighbours.shape == (points, count)
        assert read.spares.shape == (len(some), more)
        assert (np.diff(some) > 0).all()
        xyz = read.xyz.astype(np.float64)
        distance = np.linalg.norm(xyz[:, None] - xyz[None], axis=2)
        np.fill_diagonal(distance, np.inf)  # a point stands for neighbours that there are not
        nearest = np.full((points, count + more), np.inf)
        nearest[:, :points] = np.sort(distance, axis=1)[:, : count + more]
        found = np.take_along_axis(distance, read.neighbours.astype(np.int64), axis=1)
        np.testing.assert_allclose(found, nearest[:, :count], rtol=1e-9)
        found = np.take_along_axis(distance[some], read.spares.astype(np.int64), axis=1)
        np.testing.assert_allclose(found, nearest[some, count:], rtol=1e-9)
        with_spares += 0 < len(some) < points
    assert with_spares > 6


def test_batches_through_the_zarr_api_are_the_same(cached: Cached) -> None:
    """Our byte ranges, into place, against Zarr's own reading: every array of every batch, type and bits."""
    plan, run = cached.plan, cached.run
    batches = []
    for reader in (PartitionReader, ZarrReader):
        teachers = plan.experiment.teachers_of(run.student)
        source = ViewSource(plan.experiment.cache, run.readings, teachers, reader)
        places, _ = source.scans()
        steps = PretrainSteps(source, places, run, teachers, {"nuscenes": (18.0, 22.0)})
        batches.append([steps[step] for step in range(12)])
    for mine, theirs in zip(*batches, strict=True):
        assert mine.draws == theirs.draws
        for name in ("features", "neighbours", "cells", "offsets"):
            assert torch.equal(getattr(mine.clouds, name), getattr(theirs.clouds, name))
        (ours,), (zarrs,) = mine.targets, theirs.targets
        assert torch.equal(ours.coordinates, zarrs.coordinates)
        assert ours.values.dtype == zarrs.values.dtype == torch.float16
        assert torch.equal(ours.values, zarrs.values)


def test_a_worker_reads_patch_grids_into_shared_memory(cached: Cached) -> None:
    source = cached.source()
    teachers = cached.plan.experiment.teachers_of(cached.run.student)
    steps = PretrainSteps(source, source.scans()[0], cached.run, teachers, {"nuscenes": (18.0, 22.0)})
    here = [steps[step] for step in range(4)]
    assert not any(batch.targets[0].values.is_shared() for batch in here)
    there = list(stream(steps, 0, 4, workers=2, pin=False))
    assert all(batch.targets[0].values.is_shared() for batch in there)
    for mine, theirs in zip(here, there, strict=True):
        assert torch.equal(mine.targets[0].values, theirs.targets[0].values)
        assert torch.equal(mine.clouds.features, theirs.clouds.features)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_do_not_depend_on_workers_or_on_readahead(
    workers: int, cached: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steps(ahead: int) -> PretrainSteps:
        source = cached.source()
        teachers = cached.plan.experiment.teachers_of(cached.run.student)
        intensity = {"nuscenes": (18.0, 22.0)}
        return PretrainSteps(source, source.scans()[0], cached.run, teachers, intensity, ahead)

    plain = [steps(0)[step] for step in range(6)]
    monkeypatch.setattr(readahead, "WAITS", -1)  # all reading counts as waiting
    asked: list[str] = []
    monkeypatch.setattr(ViewSource, "advise", noted(ViewSource.advise, asked))
    announced = list(stream(steps(3), 0, 6, workers=workers, pin=False))
    assert bool(asked) == (workers == 0)  # workers ask in their own processes
    for mine, theirs in zip(plain, announced, strict=True):
        assert mine.draws == theirs.draws
        assert torch.equal(mine.clouds.features, theirs.clouds.features)
        assert torch.equal(mine.clouds.neighbours, theirs.clouds.neighbours)
        assert torch.equal(mine.targets[0].values, theirs.targets[0].values)


def noted(work: Callable[..., None], calls: list[str]) -> Callable[..., None]:
    def call(*arguments: Any) -> None:
        calls.append(str(arguments))
        work(*arguments)

    return call


def test_each_variant_is_another_draw_of_the_same_voxels(cached: Cached) -> None:
    source = cached.source()
    zero, one = (read_view(source, 0, 0, variant).xyz for variant in (0, 1))
    shared = len({tuple(row) for row in zero.tolist()} & {tuple(row) for row in one.tolist()})
    assert 0 < shared < max(len(zero), len(one))


def test_partitions_that_were_closed_are_opened_again(
    cached: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened, "OPEN_PARTITIONS", 1)
    small = cached.source()
    monkeypatch.undo()
    large = cached.source()
    for number in (0, 1, 0, 2, 1):
        mine, theirs = read_view(small, number, 3, 0), read_view(large, number, 3, 0)
        np.testing.assert_array_equal(mine.xyz, theirs.xyz)
        np.testing.assert_array_equal(mine.grids[0].values, theirs.grids[0].values)


def test_no_partition_is_opened_twice_and_none_keeps_what_opening_alone_needs(
    cached: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, opens, plain = cached.source(), [], ViewSource._open

    def counted(self: ViewSource, number: int) -> object:
        opens.append(number)
        return plain(self, number)

    monkeypatch.setattr(source._opened, "_open_one", lambda number: counted(source, number))
    for number in (0, 1, 2, 1, 0, 2):
        read_view(source, number, 3, 0)
    assert opens == [0, 1, 2]
    assert opened.OPEN_PARTITIONS > 700  # scenes of nuScenes' train split, in random order
    for part in source._opened._opened.values():
        for store in (part.scans, part.views, *part.grids.readers):
            assert not {"files", "crc", "identity"} & set(store.manifest.body)
            assert store.manifest.partition


def test_features_of_other_images_are_refused(cached: Cached) -> None:
    reading = cached.run.readings[0]
    images = [image.path for image in cached.record(reading.partition).images]
    schema = features_schema("float16")
    with PartitionWriter(
        cached.plan.experiment.cache / "features/other/nuscenes",
        schema,
        partition=reading.partition,
        member_digest="0123456789",
        identity={},
        attributes={**dict.fromkeys(schema.attributes, 0), "images": images[::-1], "unreadable": []},
    ) as writer:
        writer.put("features", np.zeros((len(images), 2, 4, 3), np.float16))
        writer.publish(counts={}, left_out=[])
    other = replace(reading, features=(("features/other/nuscenes", "0123456789"),))
    with pytest.raises(DamagedCache, match=r"(?s)do not belong together.*other images.*Delete .* and run"):
        read_view(cached.source([other]), 0, 0, 0)


def test_scans_of_other_names_are_refused(cached: Cached) -> None:
    reading = cached.run.readings[0]
    real = PartitionReader(
        cached.plan.experiment.cache / reading.scans[0], SCANS, reading.partition, reading.scans[1]
    )
    with PartitionWriter(
        cached.plan.experiment.cache / "scans/other",
        SCANS,
        partition=reading.partition,
        member_digest="0123456789",
        identity={},
        attributes={"frame": "lidar", "scans": real.attributes["scans"][::-1]},
    ) as writer:
        for name in ("scan_offsets", "xyz", "intensity"):
            writer.put(name, real.read(name))
        writer.publish(counts={}, left_out=[])
    other = replace(reading, scans=("scans/other", "0123456789"))
    with pytest.raises(DamagedCache, match="do not belong together"):
        cached.source([other]).scans()


def with_neighbours(cached: Cached, neighbours: int) -> tuple[Reading, Manifest]:
    """The first partition's views for a student that wants so many neighbours."""
    reading = cached.run.readings[0]
    store = next(lot.store for lot in cached.plan.lots("views"))
    folder = f"views/{neighbours}-neighbours"
    manifest = write_views(
        Target(
            store,
            cached.record(reading.partition),
            reading.views[1],
            cached.plan.experiment.cache / folder,
        ),
        PartitionReader(
            cached.plan.experiment.cache / reading.scans[0], SCANS, reading.partition, reading.scans[1]
        ),
        cached.points.model_copy(update={"neighbours": neighbours}),
        cached.plan.experiment.traits["nuscenes"].cameras,
        cached.plan.experiment.traits["nuscenes"].mask("published"),
        "scan",
    )
    return replace(reading, views=(folder, reading.views[1])), manifest


def test_views_that_see_too_few_points_are_said_and_never_drawn(cached: Cached) -> None:
    source = cached.source()
    sizes = [min(len(read_view(source, 0, view, variant).xyz) for variant in (0, 1)) for view in range(12)]
    limit = sorted(sizes)[4]
    few = [view for view in range(12) if sizes[view] <= limit]
    assert 5 <= len(few) < 12
    reading, manifest = with_neighbours(cached, limit)
    assert json.loads((manifest.store / "zarr.json").read_bytes())["attributes"]["unusable"] == few
    assert manifest.counts["unusable_views"] == len(few)
    images = cached.record(reading.partition).images
    for view, item in zip(few, manifest.left_out, strict=True):
        assert f"view {view} ({images[view].camera} of scan " in item["what"]
        assert f"sees {sizes[view]} voxels, no more than the {limit} neighbours" in item["why"]
    places, _ = cached.source([reading]).scans()
    drawn = {view for place in places for view in place.views}
    assert drawn == set(range(12)) - set(few)


def test_a_scan_that_no_camera_sees_enough_of_is_said_and_none_at_all_is_refused(cached: Cached) -> None:
    reading, _ = with_neighbours(cached, 600)
    with pytest.raises(BadInput, match=r"none of 2 scan\(s\) has a camera that sees enough"):
        cached.source([reading]).scans()
    places, unusable = cached.source([reading, cached.run.readings[1]]).scans()
    assert len(places) == 2
    assert unusable == [
        f"nuscenes {reading.partition} {s.name}" for s in cached.record(reading.partition).scans
    ]


def test_a_missing_partition_is_named(cached: Cached) -> None:
    reading = replace(
        cached.run.readings[0], features=((cached.run.readings[0].features[0][0], "0000000000"),)
    )
    with pytest.raises(DamagedCache, match=rf"{reading.partition}\.0000000000\.json"):
        cached.source([reading]).scans()
