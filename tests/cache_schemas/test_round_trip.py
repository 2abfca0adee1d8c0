"""What is written is what is read: by our byte ranges, by zarr's own API and by xarray; the rest is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
import zarr

from cache_schemas import schema as schemas
from cache_schemas.checked_store import CheckedStore
from cache_schemas.errors import DamagedCache
from cache_schemas.features import features_schema
from cache_schemas.full_scans import FULL_SCANS
from cache_schemas.manifest import Manifest
from cache_schemas.reading import PartitionReader
from cache_schemas.scans import LABELS, SCANS
from cache_schemas.schema import StoreSchema
from cache_schemas.views import VIEWS
from cache_schemas.writing import PartitionWriter

Arrays = dict[str, np.ndarray]

ATTRIBUTES: dict[str, dict[str, Any]] = {
    "scans": {"frame": "lidar", "scans": ["a", "b"]},
    "labels": {"classes": ["road", "car"], "scans": ["a", "b"]},
    "views": {
        "cameras": ["LEFT", "RIGHT"],
        "images": ["a.jpg", "b.jpg"],
        "scans": ["a"],
        "scan_points": [1000],
        "unusable": [1],
        "voxel": 0.1,
        "variants": 2,
        "spares": 5,
        "field_of_view": None,
    },
    "full_scans": {
        "scans": ["a", "b"],
        "voxel": 0.1,
        "field_of_view": [[-64.0, 64.0], [-64.0, 64.0], [-8.0, 8.0]],
    },
    "features": {
        "images": ["a.jpg"],
        "teacher": {"model": "vit"},
        "image_size": [28, 56],
        "patch": 14,
        "licence": "none",
        "unreadable": [],
    },
}


def offsets_of(counts: list[int]) -> np.ndarray:
    return np.cumsum([0, *counts]).astype(np.uint64)


def scans_of(counts: list[int], rng: np.random.Generator) -> Arrays:
    total = sum(counts)
    return {
        "scan_offsets": offsets_of(counts),
        "xyz": rng.normal(size=(total, 3)).astype(np.float32),
        "intensity": rng.uniform(0, 255, total).astype(np.float32),
    }


def labels_of(counts: list[int], rng: np.random.Generator) -> Arrays:
    return {
        "scan_offsets": offsets_of(counts),
        "label": rng.integers(0, 256, sum(counts)).astype(np.uint8),
    }


def views_of(counts: list[int], rng: np.random.Generator) -> Arrays:
    """Two variants, each of which keeps half of what its views see, with more neighbours of a tenth of these."""
    seen, views = sum(counts), len(counts)
    kept = [rows for count in counts for rows in (count // 2, count // 20)] * 2
    return {
        "view_scan": np.arange(views).astype(np.uint32),
        "view_camera": rng.integers(0, 2, views).astype(np.uint8),
        "image_size": rng.integers(1, 2000, (views, 2)).astype(np.uint32),
        "seen_offsets": offsets_of(counts),
        "point": rng.integers(0, 2**32, seen).astype(np.uint32),
        "pixel": rng.uniform(0, 1600, (seen, 2)).astype(np.float32),
        "depth": rng.uniform(1, 80, seen).astype(np.float32),
        "kept_offsets": offsets_of(kept),
        "kept": rng.integers(0, 2**32, sum(kept)).astype(np.uint32),
        "neighbours": rng.integers(0, 2**32, (sum(kept), 5)).astype(np.uint32),
    }


def full_of(counts: list[int], rng: np.random.Generator) -> Arrays:
    """Half of each scan's points are kept."""
    points, kept = sum(counts), sum(count // 2 for count in counts)
    return {
        "scan_offsets": offsets_of(counts),
        "kept_offsets": offsets_of([count // 2 for count in counts]),
        "kept": rng.integers(0, 2**32, kept).astype(np.uint32),
        "neighbours": rng.integers(0, 2**16, (kept, 5)).astype(np.uint16),
        "nearest": rng.integers(0, 2**32, points).astype(np.uint32),
    }


def features_of(counts: list[int], rng: np.random.Generator, storage: str) -> Arrays:
    return {"features": rng.normal(size=(len(counts), 2, 4, 6)).astype(storage)}


STORES: dict[str, tuple[StoreSchema, Callable[[list[int], np.random.Generator], Arrays]]] = {
    "scans": (SCANS, scans_of),
    "labels": (LABELS, labels_of),
    "views": (VIEWS, views_of),
    "full_scans": (FULL_SCANS, full_of),
    "float16": (features_schema("float16"), lambda counts, rng: features_of(counts, rng, "float16")),
    "float32": (features_schema("float32"), lambda counts, rng: features_of(counts, rng, "float32")),
}
every_store = pytest.mark.parametrize("store", STORES)


def write(folder: Path, schema: StoreSchema, arrays: Arrays, partition: str = "scene-1") -> Manifest:
    with PartitionWriter(
        folder,
        schema,
        partition=partition,
        member_digest="0123456789",
        identity={"of": "a test"},
        attributes=ATTRIBUTES[schema.store],
    ) as writer:
        for name, values in arrays.items():
            writer.put(name, values)
        return writer.publish(counts={"rows": 1}, left_out=[])


def read(folder: Path, schema: StoreSchema, partition: str = "scene-1") -> PartitionReader:
    return PartitionReader(folder, schema, partition, "0123456789")


@every_store
@pytest.mark.parametrize("counts", [[5, 0, 7], [0, 0], [1], [5000, 0, 4096, 40000]])
def test_all_is_read_as_it_was_written(store: str, counts: list[int], tmp_path: Path) -> None:
    schema, make = STORES[store]
    written = make(counts, np.random.default_rng(1))
    manifest = write(tmp_path, schema, written)
    reader = read(tmp_path, schema)
    opened = zarr.open_group(manifest.store, mode="r")
    for name, values in written.items():
        for found in (reader.read(name), opened[name][...]):
            assert found.dtype == values.dtype
            np.testing.assert_array_equal(found, values, err_msg=name)
        assert reader.shape(name) == values.shape
    assert reader.attributes | ATTRIBUTES[schema.store] == reader.attributes
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) <= 25


@every_store
def test_byte_ranges_equal_the_zarr_api_and_xarray_across_chunks_and_shards(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema, make = STORES[store]
    large = max(np.dtype(spec.dtype).itemsize * spec.chunk_rows for spec in schema.arrays)
    monkeypatch.setattr(
        schemas, "SHARD_BYTES", large if store in ("scans", "labels", "views", "full_scans") else 250
    )
    rng = np.random.default_rng(2)
    counts = (
        [60_000, 0, 50_000]
        if store in ("scans", "labels", "full_scans")
        else [9_000, 0, 11_000, 2_000, 1, 2, 3]
    )
    manifest = write(tmp_path, schema, make(counts, rng))
    reader, opened = read(tmp_path, schema), zarr.open_group(manifest.store, mode="r")
    checked = zarr.open_group(CheckedStore(manifest.path), mode="r")
    dataset = xarray.open_zarr(manifest.store)
    assert {spec.name for spec in schema.arrays} == set(dataset.data_vars)
    several_shards = 0
    for spec in schema.arrays:
        rows = reader.shape(spec.name)[0]
        several_shards += len(list((manifest.store / spec.name / "c").iterdir())) > 1
        borders = [at for at in range(0, rows + 1, spec.chunk_rows) for at in (at - 1, at, at + 1)]
        ends = [at for at in (*borders, rows) if 0 <= at <= rows]
        ranges = {tuple(sorted(pair)) for pair in rng.choice(ends, (6, 2))}
        ranges |= {tuple(sorted(pair)) for pair in rng.integers(0, rows + 1, (4, 2))}
        for start, stop in sorted(ranges):
            mine = reader.read(spec.name, start, stop)
            for group in (opened, checked):
                np.testing.assert_array_equal(mine, group[spec.name][start:stop])
            theirs = dataset[spec.name][start:stop].values
            assert theirs.dtype == mine.dtype
            np.testing.assert_array_equal(mine, theirs)
    assert several_shards


def test_rows_outside_an_array_are_refused(tmp_path: Path) -> None:
    write(tmp_path, SCANS, scans_of([3], np.random.default_rng(0)))
    reader = read(tmp_path, SCANS)
    for start, stop in ((-1, 2), (0, 4), (3, 2)):
        with pytest.raises(IndexError, match="xyz"):
            reader.read("xyz", start, stop)


@every_store
def test_dimension_names_units_and_one_sentence_stand_in_the_store(store: str, tmp_path: Path) -> None:
    schema, make = STORES[store]
    manifest = write(tmp_path, schema, make([3, 2], np.random.default_rng(0)))
    dataset = xarray.open_zarr(manifest.store, consolidated=True)
    for spec in schema.arrays:
        assert dataset[spec.name].dims == spec.dims
        assert dataset[spec.name].attrs == spec.attributes
    assert dataset.attrs["griddle_schema"] == schema.tag
    assert dataset.attrs["identity"] == {"of": "a test"}


def test_chunks_of_nothing_but_zeros_are_written(tmp_path: Path) -> None:
    rows = 70_000
    zeros = {"scan_offsets": np.array([0, rows], np.uint64), "xyz": np.zeros((rows, 3), np.float32)}
    manifest = write(tmp_path, SCANS, {**zeros, "intensity": np.zeros(rows, np.float32)})
    chunks = -(-rows // 4096)
    for name, row_bytes in (("xyz", 12), ("intensity", 4)):
        (shard,) = (p for p in (manifest.store / name / "c").rglob("*") if p.is_file())
        # each chunk whole with its checksum, then the index: 16 bytes a chunk and a checksum
        assert shard.stat().st_size == chunks * (4096 * row_bytes + 4) + chunks * 16 + 4
        index = np.frombuffer(shard.read_bytes()[-4 - 16 * chunks : -4], "<u8").reshape(chunks, 2)
        assert index[:, 1].tolist() == [4096 * row_bytes + 4] * chunks
    assert not read(tmp_path, SCANS).read("xyz").any()


@every_store
def test_the_same_content_has_the_same_digest_and_bytes(store: str, tmp_path: Path) -> None:
    schema, make = STORES[store]
    found = []
    for folder in ("first", "second", "third"):
        manifest = write(tmp_path / folder, schema, make([300, 0, 20], np.random.default_rng(3)))
        files = {p.relative_to(tmp_path / folder): p for p in (tmp_path / folder).rglob("*") if p.is_file()}
        del files[manifest.path.relative_to(tmp_path / folder)]
        sealed = {key: value for key, value in manifest.body.items() if key != "made"}
        found.append((manifest.content_digest, sealed, {name: p.read_bytes() for name, p in files.items()}))
    assert found[0] == found[1] == found[2]
    other = write(tmp_path / "other", schema, make([300, 0, 20], np.random.default_rng(4)))
    assert other.content_digest != found[0][0]


def test_a_writer_may_append_in_pieces_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "SHARD_BYTES", 250)
    schema, rng = features_schema("float16"), np.random.default_rng(5)
    values = rng.normal(size=(11, 2, 4, 6)).astype(np.float16)
    with PartitionWriter(
        tmp_path,
        schema,
        partition="scene-1",
        member_digest="0123456789",
        identity={},
        attributes=ATTRIBUTES["features"],
    ) as writer:
        array = writer.create("features", values.shape)
        for first, last in ((0, 1), (1, 1), (1, 8), (8, 11)):
            array.append(values[first:last])
        manifest = writer.publish(counts={}, left_out=[])
    assert len(list((manifest.store / "features" / "c").iterdir())) > 3
    np.testing.assert_array_equal(read(tmp_path, schema).read("features"), values)


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {**arrays, name: change(arrays[name])}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed("xyz", lambda a: a.astype(np.float64)), ["xyz", "float32", "float64"]),
        (changed("intensity", lambda a: a[:, None]), ["intensity", "point", "(5, 1)"]),
        (changed("xyz", lambda a: a.ravel()), ["xyz", "axis", "(15,)"]),
        (changed("intensity", lambda a: a[:-1]), ["intensity", "xyz", "point", "4", "5"]),
        (lambda arrays: {n: a for n, a in arrays.items() if n != "intensity"}, ["intensity", "declares"]),
    ],
    ids=["type", "one dimension more", "one dimension less", "other length", "no array"],
)
def test_arrays_that_the_schema_does_not_declare_are_refused(
    change: Callable[[Arrays], Arrays], said: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"scans/2|takes") as refusal:
        write(tmp_path, SCANS, change(scans_of([2, 3], np.random.default_rng(0))))
    assert [word for word in said if word not in str(refusal.value)] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rows", [3, 6], ids=["too few", "too many"])
def test_another_number_of_rows_than_announced_is_refused(rows: int, tmp_path: Path) -> None:
    schema = features_schema("float32")

    def write_rows() -> None:
        with PartitionWriter(
            tmp_path,
            schema,
            partition="scene-1",
            member_digest="0123456789",
            identity={},
            attributes=ATTRIBUTES["features"],
        ) as writer:
            writer.create("features", (4, 1, 1, 2)).append(np.ones((rows, 1, 1, 2), np.float32))
            writer.publish(counts={}, left_out=[])

    with pytest.raises(ValueError, match=rf"features.*{rows}.*4"):
        write_rows()
    assert list(tmp_path.iterdir()) == []


def test_rows_of_another_inner_shape_are_refused(tmp_path: Path) -> None:
    with PartitionWriter(
        tmp_path, VIEWS, partition="p", member_digest="0", identity={}, attributes=ATTRIBUTES["views"]
    ) as writer:
        array = writer.create("pixel", (4, 2))
        with pytest.raises(ValueError, match=r"pixel takes float32 rows of shape \(2,\), got .* \(3,\)"):
            array.append(np.ones((4, 3), np.float32))


@pytest.mark.parametrize("missing", ["frame", "scans"])
def test_a_missing_attribute_is_named(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(ATTRIBUTES["scans"], missing)
    with pytest.raises(ValueError, match=missing):
        write(tmp_path, SCANS, scans_of([2], np.random.default_rng(0)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a.b", ".a", "-a", "_a", "a b", "é", "a\n", "a*"])
def test_names_that_a_path_or_a_shell_would_mind_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot name a partition"):
        write(tmp_path, SCANS, scans_of([2], np.random.default_rng(0)), partition=name)
    assert list(tmp_path.iterdir()) == []


def test_another_schema_version_is_refused_with_both_versions(tmp_path: Path) -> None:
    write(tmp_path, SCANS, scans_of([2], np.random.default_rng(0)))
    with pytest.raises(DamagedCache, match=r"(?s)scans/2.*scans/3.*Delete .*and run"):
        read(tmp_path, replace(SCANS, version=3))


@pytest.mark.parametrize("offsets", [[0, 5], [1, 7], [0, 6, 3, 7], []])
def test_offsets_that_do_not_divide_their_rows_are_refused(offsets: list[int], tmp_path: Path) -> None:
    arrays = {"scan_offsets": np.array(offsets, np.uint64), "xyz": np.zeros((7, 3), np.float32)}
    with pytest.raises(ValueError, match="scan_offsets must rise from 0 to the 7 rows of point"):
        write(tmp_path, SCANS, {**arrays, "intensity": np.zeros(7, np.float32)})


def test_a_dimension_of_fixed_size_is_checked(tmp_path: Path) -> None:
    arrays = {"scan_offsets": np.array([0, 7], np.uint64), "xyz": np.zeros((7, 5), np.float32)}
    with pytest.raises(ValueError, match="dimension axis is 5 in xyz and 3 in the schema"):
        write(tmp_path, SCANS, {**arrays, "intensity": np.zeros(7, np.float32)})
