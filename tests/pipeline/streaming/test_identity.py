"""What was made for another identity is refused: each field of each id, the schema's version, a scan's points."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache_schemas.canonical import canonical_json
from cache_schemas.errors import DamagedCache
from cache_schemas.manifest import Manifest, is_valid, read_manifest, seal
from cache_schemas.publish import write_json
from cache_schemas.reading import PartitionReader
from cache_schemas.stores import schema_of
from cache_schemas.writing import PartitionWriter
from pipeline.config.model import Teacher
from pipeline.plan.plan import Plan
from pipeline.streaming.scan_source import ScanSource
from pipeline.streaming.seen_points import SeenSource
from pipeline.streaming.view_source import ViewSource

SCENE = "scene-0061"


def partition(plan: Plan, stage: str) -> tuple[Path, str, dict[str, Any]]:
    """Folder, member digest and identity of the scene's partition of a stage."""
    for lot in plan.lots(stage):
        for entry, member in lot.members:
            if entry.name == SCENE:
                return plan.experiment.store_path(lot.store), member, lot.store.identity
    raise AssertionError(stage)


def teachers_of(plan: Plan) -> tuple[Teacher, ...]:
    return plan.experiment.teachers_of(plan.runs["wi_tiny"].student)


def read_as_training_does(plan: Plan, stage: str) -> None:
    """Open the stores as pretraining or the teacher's probe do."""
    if stage in ("scans", "views", "features"):
        run = plan.runs["wi_tiny"]
        ViewSource(
            plan.experiment.cache, [r for r in run.readings if r.partition == SCENE], teachers_of(plan)
        ).scans()
    probes = {probe.kind: probe for probe in plan.probe_runs.values()}
    if stage in ("scans", "labels"):
        train = [r for r in probes["distilled"].train if r.partition == SCENE]
        ScanSource(plan.experiment.cache, train).scans()
    if stage in ("scans", "labels", "full_scans"):
        scored = [r for r in probes["distilled"].evaluate if r.partition == SCENE]
        ScanSource(plan.experiment.cache, scored).scans()
    if stage not in ("scans", "full_scans"):
        train = [r for r in probes["teacher"].train if r.partition == SCENE]
        SeenSource(plan.experiment.cache, train, teachers=teachers_of(plan), sampling="published").scans()


def reseal(manifest: Manifest, **changes: Any) -> None:
    sealed = ("griddle", "format", "digest", "made")
    body = {key: value for key, value in manifest.body.items() if key not in sealed}
    write_json(manifest.path, seal({**body, **changes}))


@pytest.mark.parametrize("stage", ["scans", "labels", "views", "full_scans", "features"])
def test_each_field_of_each_id(stage: str, filled: Any) -> None:
    plan = filled.workspace.plan()
    folder, member, identity = partition(plan, stage)
    manifest = read_manifest(folder / f"{SCENE}.{member}.json")
    schema = schema_of(manifest)
    assert set(identity) == {"schema", *schema.identity}
    for field, value in identity.items():
        reseal(manifest, identity={**identity, field: "something else"})
        told = f'{field} is "something else", wanted {canonical_json(value)}'
        with pytest.raises(DamagedCache, match="is of another identity") as refusal:
            PartitionReader(folder, schema, SCENE, member, identity)
        assert told in str(refusal.value)
        assert str(manifest.path) in str(refusal.value)
        assert "griddle cache verify --repair" in str(refusal.value)
        with pytest.raises(DamagedCache, match="is of another identity") as refusal:
            read_as_training_does(plan, stage)
        assert told in str(refusal.value)
        assert not is_valid(folder, SCENE, member, identity)  # a stage computes it anew
    without = {key: value for key, value in identity.items() if key != field}
    reseal(manifest, identity=without)
    with pytest.raises(DamagedCache, match=f"{field} is not there, wanted"):
        read_as_training_does(plan, stage)


@pytest.mark.parametrize("stage", ["scans", "labels", "views", "full_scans", "features"])
def test_the_version_of_the_schema(stage: str, filled: Any) -> None:
    plan = filled.workspace.plan()
    folder, member, identity = partition(plan, stage)
    manifest = read_manifest(folder / f"{SCENE}.{member}.json")
    schema = schema_of(manifest)
    reseal(manifest, schema=f"{stage}/{schema.version + 1}")
    both = rf"is of schema {stage}/{schema.version + 1}; this version of Griddle reads {schema.tag}"
    with pytest.raises(DamagedCache, match=both):
        PartitionReader(folder, schema, SCENE, member, identity)
    with pytest.raises(DamagedCache, match=both):
        read_as_training_does(plan, stage)


def test_a_store_that_was_moved_to_another_ids_folder(filled: Any) -> None:
    """As when somebody renames a folder to save a computation."""
    plan = filled.workspace.plan()
    folder, _, identity = partition(plan, "views")
    filled.workspace.edit(lambda config: config["students"]["wi_tiny"]["points"].update(voxel=0.3, seed=7))
    other = filled.workspace.plan()
    wanted, _, _ = partition(other, "views")
    shutil.move(folder, wanted)
    with pytest.raises(DamagedCache) as refusal:
        read_as_training_does(other, "views")
    assert f"voxel is {identity['voxel']}, wanted 0.3" in str(refusal.value)
    assert "seed is 0, wanted 7" in str(refusal.value)
    assert "moved here or renamed" in str(refusal.value)
    # And that is mended as the message says: what lies there is not taken for valid.
    assert filled.griddle("views") == 0
    read_as_training_does(other, "views")
    assert filled.griddle("cache", "verify") == 0


def with_one_point_less(plan: Plan, stage: str) -> tuple[str, int]:
    """The stage's partition of the scene, computed as if its first scan had one point less; that scan and its points."""
    folder, member, identity = partition(plan, stage)
    manifest = read_manifest(folder / f"{SCENE}.{member}.json")
    schema = schema_of(manifest)
    reader = PartitionReader(folder, schema, SCENE, member)
    arrays = {spec.name: np.array(reader.read(spec.name)) for spec in schema.arrays}
    offsets = arrays["scan_offsets"]
    offsets[1:] -= 1
    for spec in schema.arrays:
        if spec.dims[0] == "point":
            arrays[spec.name] = arrays[spec.name][1:]
    attributes = {
        key: value
        for key, value in reader.attributes.items()
        if key not in ("griddle_schema", "partition", "identity")
    }
    with PartitionWriter(
        folder, schema, partition=SCENE, member_digest=member, identity=identity, attributes=attributes
    ) as writer:
        for name, values in arrays.items():
            writer.put(name, values)
        writer.publish(counts=manifest.counts, left_out=[])
    return attributes["scans"][0], int(offsets[1])


@pytest.mark.parametrize("stage", ["scans", "labels", "full_scans"])
def test_a_scan_with_another_number_of_points(stage: str, filled: Any) -> None:
    plan = filled.workspace.plan()
    scan, points = with_one_point_less(plan, stage)
    first, second = (points + 1, points) if stage == "scans" else (points, points + 1)
    told = f"scan {scan} has {first} points in the first and {second} in the second"
    run = plan.runs["wi_tiny"]
    readings = [r for r in run.readings if r.partition == SCENE]
    if stage == "scans":
        with pytest.raises(DamagedCache, match=told):
            ViewSource(plan.experiment.cache, readings, teachers_of(plan)).scans()
    probes = {probe.kind: probe for probe in plan.probe_runs.values()}
    read = probes["distilled"].evaluate if stage == "full_scans" else probes["distilled"].train
    with pytest.raises(DamagedCache, match=told):
        ScanSource(plan.experiment.cache, [r for r in read if r.partition == SCENE]).scans()
    if stage == "labels":
        with pytest.raises(DamagedCache, match="points in the first and"):
            read_as_training_does(plan, "labels")
    assert filled.griddle("cache", "verify") == 1


def test_readings_without_identities_are_those_of_tests_alone(filled_master: Any) -> None:
    plan = filled_master.workspace.plan()
    readings = [*plan.runs["wi_tiny"].readings]
    for probe in plan.probe_runs.values():
        readings += [*probe.train, *probe.evaluate]  # type: ignore[list-item]
    for reading in readings:
        folders = {reading.scans[0], *(folder for folder, _ in reading.features)}
        assert folders <= set(reading.identities)
    # What it was made for is no part of what a run is: that is in the folders' names.
    bare = replace(readings[0], identities={})
    assert bare == readings[0]
