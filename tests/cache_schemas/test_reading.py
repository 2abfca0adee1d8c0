"""Rows by number, rows into place, narrow types and open files: all of it gives what was written."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from cache_schemas import array_reading, open_files
from cache_schemas import schema as schemas
from cache_schemas.reading import PartitionReader, ZarrReader
from cache_schemas.schema import ArraySpec, StoreSchema
from cache_schemas.writing import PartitionWriter

ROWS = 1000


def array(name: str, chunk_rows: int, narrow: str | None = None) -> ArraySpec:
    dims = ("row",) if name == "flat" else ("row", f"column of {name}")
    return ArraySpec(name, "uint32", dims, chunk_rows, "1", "of a test", narrow)


SCHEMA = StoreSchema(
    store="test",
    version=1,
    identity=(),
    arrays=(array("flat", 64), array("wide", 64, "uint16"), array("single", 1)),
)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Several shards of several chunks, the last of which is not full."""
    monkeypatch.setattr(schemas, "SHARD_BYTES", 5000)
    return write(tmp_path, SCHEMA, 2**32)


def write(folder: Path, schema: StoreSchema, below: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    values = {
        "flat": rng.integers(0, below, ROWS).astype(np.uint32),
        "wide": rng.integers(0, below, (ROWS, 5)).astype(np.uint32),
        "single": rng.integers(0, below, (ROWS, 7)).astype(np.uint32),
    }
    with PartitionWriter(
        folder, schema, partition="p", member_digest="0", identity={}, attributes={}
    ) as writer:
        for spec in schema.arrays:
            writer.put(spec.name, spec.fitted(values[spec.name]))
        writer.publish(counts={}, left_out=[])
    return values


@pytest.mark.parametrize("reader", [PartitionReader, ZarrReader])
@pytest.mark.parametrize("scratch", [2**22, 700], ids=["one read", "several reads"])
def test_rows_by_number_are_those_rows(
    reader: type[PartitionReader],
    scratch: int,
    written: dict[str, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(array_reading, "SCRATCH_BYTES", scratch)
    opened = reader(tmp_path, SCHEMA, "p", "0")
    rng = np.random.default_rng(1)
    for name, values in written.items():
        for _ in range(40):
            start, stop = sorted(rng.integers(0, ROWS + 1, 2))
            asked = rng.choice(stop - start, min(stop - start, int(rng.integers(30)))).astype(np.uint16)
            if rng.random() < 0.5:
                asked.sort()
            found = opened.read_rows(name, int(start), int(stop), asked)
            assert found.dtype == values.dtype
            np.testing.assert_array_equal(found, values[start:stop][asked])


def test_rows_behind_the_range_are_refused_though_the_array_has_them(
    written: dict[str, np.ndarray], tmp_path: Path
) -> None:
    opened = PartitionReader(tmp_path, SCHEMA, "p", "0")
    for rows in ([10], [0, 3, 10], [-1]):
        with pytest.raises(IndexError, match=r"of 10 in .*flat"):
            opened.read_rows("flat", 100, 110, np.array(rows))
    with pytest.raises(IndexError):
        opened.read_rows("flat", 990, ROWS + 1, np.array([0]))


@pytest.mark.parametrize("reader", [PartitionReader, ZarrReader])
def test_rows_are_read_into_the_place_that_is_given(
    reader: type[PartitionReader], written: dict[str, np.ndarray], tmp_path: Path
) -> None:
    opened = reader(tmp_path, SCHEMA, "p", "0")
    for name, values in written.items():
        place = np.zeros((ROWS + 2, *values.shape[1:]), np.uint32)
        opened.read(name, 3, 700, place[4:701])
        np.testing.assert_array_equal(place[4:701], values[3:700])
        assert not place[:4].any()
        assert not place[701:].any()


def test_what_was_read_is_not_changed_by_reading_on(written: dict[str, np.ndarray], tmp_path: Path) -> None:
    opened = PartitionReader(tmp_path, SCHEMA, "p", "0")
    for name, values in written.items():
        first = opened.read(name, 0, 10)
        rows = opened.read_rows(name, 0, 50, np.arange(10))
        opened.read(name)
        np.testing.assert_array_equal(first, values[:10])
        np.testing.assert_array_equal(rows, values[:10])


@pytest.mark.parametrize(("largest", "dtype"), [(65_535, "uint16"), (65_536, "uint32")])
def test_integers_that_all_fit_take_the_narrow_type(largest: int, dtype: str, tmp_path: Path) -> None:
    schema = replace(SCHEMA, arrays=SCHEMA.arrays[1:2])
    values = write(tmp_path, replace(schema), largest)["wide"]
    values[500, 3] = largest
    with PartitionWriter(
        tmp_path, schema, partition="q", member_digest="0", identity={}, attributes={}
    ) as writer:
        writer.put("wide", schema.array("wide").fitted(values))
        manifest = writer.publish(counts={}, left_out=[])
    reader = PartitionReader(tmp_path, schema, "q", "0")
    for found in (reader.read("wide"), zarr.open_array(manifest.store / "wide", mode="r")[...]):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, values)
    assert reader.dtype("wide") == dtype


def test_a_type_that_is_not_declared_is_refused(tmp_path: Path) -> None:
    with PartitionWriter(
        tmp_path, SCHEMA, partition="p", member_digest="0", identity={}, attributes={}
    ) as writer:
        with pytest.raises(ValueError, match="wide is declared as uint32 or uint16, got int64"):
            writer.put("wide", np.zeros((3, 5), np.int64))
        with pytest.raises(ValueError, match="flat is declared as uint32, got uint16"):
            writer.put("flat", np.zeros(3, np.uint16))


def test_few_files_stay_open_and_threads_do_not_close_each_others(
    written: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(array_reading, "FILES", open_files.OpenFiles(2))
    opened = PartitionReader(tmp_path, SCHEMA, "p", "0")
    before = len(os.listdir("/proc/self/fd"))

    def read(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        names = rng.choice(list(written), 60)
        starts = rng.integers(0, ROWS - 5, 60)
        return all(
            np.array_equal(opened.read(name, s, s + 5), written[name][s : s + 5])
            for name, s in zip(names, starts, strict=True)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(8)))
    assert len(list((tmp_path / "p").parent.rglob("c/*"))) > 8
    assert len(os.listdir("/proc/self/fd")) <= before + 2
