"""Files and bytes of a partition as planned, against those that are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cache_schemas.schema as schemas
from cache_schemas.features import features_schema
from cache_schemas.scans import SCANS
from cache_schemas.schema import StoreSchema
from cache_schemas.writing import PartitionWriter
from pipeline.config.model import Teacher
from pipeline.config.registry import REGISTRY
from pipeline.plan.cost.sizes import Size, grid_shape, partition_size

FEATURES = features_schema("float16")


def written(folder: Path, schema: StoreSchema, arrays: dict[str, np.ndarray], **attributes: Any) -> Size:
    """A partition is published; what then lies in the folder."""
    identity = {"schema": schema.tag, "what": "x" * 200}
    with PartitionWriter(
        folder, schema, partition="p", member_digest="m", identity=identity, attributes=attributes
    ) as writer:
        for name, values in arrays.items():
            writer.put(name, values)
        writer.publish(counts={"images": 1}, left_out=[])
    files = [path for path in folder.rglob("*") if path.is_file()]
    return Size(len(files), sum(path.stat().st_size for path in files))


def planned(schema: StoreSchema, sizes: dict[str, int], names: int) -> Size:
    return partition_size(schema, sizes, names=names, identity={"schema": schema.tag, "what": "x" * 200})


@pytest.mark.parametrize("shard_bytes", [1, 5_000, 1_000_000])
def test_patch_grids_in_few_and_in_many_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard_bytes: int
) -> None:
    monkeypatch.setattr(schemas, "SHARD_BYTES", shard_bytes)
    names = [f"samples/CAM_FRONT/n015-2018-07-24-11-22-45+0800__CAM_FRONT__{n:016d}.jpg" for n in range(7)]
    values = np.ones((7, 4, 8, 96), np.float16)
    found = written(
        tmp_path,
        FEATURES,
        {"features": values},
        images=names,
        teacher="x" * 200,
        licence="x",
        unreadable=[],
        image_size=[1, 2],
        patch=1,
    )
    expected = planned(FEATURES, {"image": 7, "row": 4, "col": 8, "channel": 96}, 7)
    assert expected.files == found.files
    assert expected.bytes == pytest.approx(found.bytes, rel=0.02)


@pytest.mark.parametrize("points", [1, 32_768, 32_769, 100_000])
def test_ragged_points_whose_last_chunk_is_stored_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, points: int
) -> None:
    monkeypatch.setattr(schemas, "SHARD_BYTES", 2 * 32_768 * 12)
    arrays = {
        "scan_offsets": np.array([0, points], np.uint64),
        "xyz": np.ones((points, 3), np.float32),
        "intensity": np.ones(points, np.float32),
    }
    found = written(tmp_path, SCANS, arrays, frame="lidar", scans=["x" * 32])
    expected = planned(SCANS, {"scan_bound": 2, "point": points, "axis": 3}, 1)
    assert expected.files == found.files
    # Of a single point nearly everything is text.
    assert expected.bytes == pytest.approx(found.bytes, rel=0.25 if points == 1 else 0.02)


def test_the_narrow_type_is_taken_where_all_values_fit() -> None:
    spec = schemas.ArraySpec("row", "uint32", ("point",), 4096, "row", "")
    object.__setattr__(spec, "narrow", "uint16")
    schema = StoreSchema("x", 1, (spec,), identity={})  # type: ignore[arg-type]

    def size(largest: dict[str, int] | None) -> int:
        return partition_size(schema, {"point": 40_960}, largest, names=0, identity={}).bytes

    assert size(None) == size({"row": 65_536})
    assert size(None) - size({"row": 65_535}) == 2 * 40_960


@pytest.mark.parametrize(
    ("model", "size", "expected"),
    [
        ("vit_large_patch14_dinov2.lvd142m", (224, 448), (16, 32, 1024)),
        ("vit_small_patch14_dinov2.lvd142m", (448, 896), (32, 64, 384)),
        ("vit_small_patch8_224.dino", (224, 448), (28, 56, 384)),
        ("vit_tiny_r_s16_p8_224", (224, 448), (7, 14, 192)),
        ("my_network", (224, 448), None),
    ],
)
def test_the_grid_of_a_teacher_by_its_name(model: str, size: tuple[int, int], expected: Any) -> None:
    assert grid_shape(Teacher(model=model, image_size=size)) == expected


@pytest.mark.parametrize("name", REGISTRY)
def test_every_teacher_of_the_registry_has_a_size(name: str) -> None:
    row = REGISTRY[name]
    teacher = Teacher(model=name, image_size=(16 * row.patch, 32 * row.patch))
    assert grid_shape(teacher) == (16, 32, row.channels)


def test_int8_is_half_and_its_scales() -> None:
    sizes = {"image": 100, "row": 16, "col": 32, "channel": 1024, "group": 32}
    whole, half = (
        partition_size(features_schema(storage), sizes, names=0, identity={}).bytes
        for storage in ("float16", "int8")
    )
    assert half == pytest.approx(whole / 2 + 100 * 16 * 32 * 32 * 2, rel=0.001)
