"""Arrays over all partitions: dask gets whole shards, every chunk is checked, and damage has a name."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import griddle
import pipeline.cache.shard_rows
from cache_schemas import schema as schemas
from cache_schemas import stores
from cache_schemas.canonical import digest
from cache_schemas.errors import DamagedCache, OtherVersion
from cache_schemas.reading import PartitionReader
from cache_schemas.scans import SCANS


def test_dask_gets_all_partitions_a_chunk_for_each_shard(made: Any) -> None:
    cache = griddle.open_cache(made.path)
    grids = cache.features().patch_grids()
    assert grids.chunks == ((2, 2, 1, 2), *((side,) for side in made.shape))
    assert grids.dtype == np.float32
    np.testing.assert_array_equal(grids.compute(scheduler="threads"), made.in_order)
    stored = cache.features().array("features")
    assert (stored.dtype, stored.chunks) == (np.float16, grids.chunks)
    np.testing.assert_array_equal(stored.compute(), made.in_order)
    xyz = cache.store("scans").array("xyz")
    folder = next(made.path.glob("scans/*/scene-1.*.zarr")) / "xyz" / "c"
    # an inner chunk of xyz is larger than this shard size, so each shard holds one; scene-1 has 18
    rows = SCANS.array("xyz").chunk_rows
    whole, rest = divmod(69_990, rows)
    assert (len(list(folder.iterdir())), xyz.chunks[0]) == (whole + 1, (*[rows] * whole, rest, 10))
    np.testing.assert_array_equal(xyz.compute(), made.xyz)
    np.testing.assert_allclose(xyz.sum(axis=0).compute(), made.xyz.sum(axis=0), rtol=1e-3)
    one = cache.store("scans").array("scan_offsets", partition="scene-2")
    assert one.compute().tolist() == [0, 10]


def test_a_shard_of_many_chunks_is_one_dask_chunk(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 2 * SCANS.array("xyz").chunk_rows
    monkeypatch.setattr(schemas, "SHARD_BYTES", rows * 3 * 4)
    xyz = griddle.open_cache(made.only_scans()).store("scans").array("xyz")
    assert xyz.chunks[0] == (*[rows] * (70_000 // rows), 70_000 % rows)
    np.testing.assert_array_equal(xyz.compute(), made.xyz)


@pytest.mark.parametrize(
    "index",
    [3, -1, slice(2, 6), slice(None, None, -2), slice(6, 0, -1), slice(4, 4), (1, 2, 3), (slice(1, 7, 3), 0)],
)
def test_slices_are_those_of_numpy(index: object, made: Any) -> None:
    grids = griddle.open_cache(made.path).features().patch_grids()
    np.testing.assert_array_equal(grids[index].compute(), made.in_order[index])


def test_one_image_is_read_without_the_rest_of_its_shard(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    grids = griddle.open_cache(made.path).features().patch_grids()
    read, rows = PartitionReader.read, []

    def spy(self: PartitionReader, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        rows.append((self.manifest.partition, start, stop))
        return read(self, name, start, stop)

    monkeypatch.setattr(PartitionReader, "read", spy)
    grids[3].compute()
    assert rows == [("scene-1", 3, 4)]


def test_a_dask_array_can_be_sent_to_another_process(made: Any) -> None:
    grids = pickle.loads(pickle.dumps(griddle.open_cache(made.path).features().patch_grids()))
    np.testing.assert_array_equal(grids.compute(), made.in_order)


@pytest.mark.parametrize("damage", ["flipped", "swapped"])
def test_every_chunk_is_checked_when_it_is_computed(damage: str, made: Any) -> None:
    cache = griddle.open_cache(made.path)
    grids = cache.features().patch_grids()
    victim = made.shards("scene-1")[1]
    data = bytearray(victim.read_bytes())
    if damage == "flipped":
        data[7] ^= 4
    else:
        data = bytearray(made.shards("scene-2")[0].read_bytes())
    victim.write_bytes(data)
    for read in (grids.compute, cache.features().array("features").compute, grids[2].compute):
        with pytest.raises(DamagedCache) as refusal:
            read()
        assert str(victim) in str(refusal.value)
        assert "run the same snakemake command again" in str(refusal.value)
    image = made.images[2]
    for read in (lambda: cache.features_at(image, [[1, 1]]), lambda: cache.pixel_features(image)):
        with pytest.raises(DamagedCache, match="checksum"):
            read()
    np.testing.assert_array_equal(grids[0].compute(), made.in_order[0])  # another shard is as it was


@pytest.mark.parametrize(
    "damage", ["shard cut", "shard gone", "metadata changed", "manifest changed", "sidecar gone"]
)
def test_a_damaged_partition_is_named_before_anything_is_computed(damage: str, made: Any) -> None:
    manifest = next(made.path.glob("features/*/*/scene-2.*.json"))
    victim = made.shards("scene-2")[0]
    if damage == "shard cut":
        victim.write_bytes(victim.read_bytes()[:-1])
    elif damage == "shard gone":
        victim.unlink()
    elif damage == "metadata changed":
        victim = next(made.path.glob("features/*/*/scene-2.*.zarr/features/zarr.json"))
        victim.write_text(victim.read_text().replace("14", "15").replace('"row"', '"raw"'))
    elif damage == "manifest changed":
        victim = manifest
        victim.write_text(victim.read_text().replace('"images": 2', '"images": 3'))
    else:
        victim = next(made.path.glob("features/*/*/scene-2.*.crc"))
        victim.unlink()
    features = griddle.open_cache(made.path).features()
    for read in (features.patch_grids, lambda: features.images, lambda: features.partition("scene-2")):
        with pytest.raises(DamagedCache) as refusal:
            read()
        assert str(victim) in str(refusal.value)
    assert features.partition("scene-1").shape("features")[0] == 5


def test_a_partition_that_was_replaced_in_the_meantime(made: Any) -> None:
    grids = griddle.open_cache(made.path).features().patch_grids()
    (old,) = made.path.glob("features/*/*/scene-2.*.json")
    old.unlink()
    shutil.rmtree(next(made.path.glob("features/*/*/scene-2.*.zarr")))
    made.add_features("scene-2", np.ones((2, *made.shape)))
    pipeline.cache.shard_rows._reader.cache_clear()
    with pytest.raises(DamagedCache, match=r"was replaced while it was read.*Open the cache again"):
        grids[5].compute()
    assert griddle.open_cache(made.path).features().patch_grids()[5].compute().min() == 1


def test_of_a_partition_that_grew_the_version_written_last_is_read(made: Any) -> None:
    (old,) = made.path.glob("features/*/*/scene-2.*.json")
    values = np.full((3, *made.shape), 7)
    for member in ("99", "01"):
        manifest = made.add_features("scene-2", values, member=member)
        # what was written last is known by the manifest's time, in seconds: this one is of tomorrow
        body = dict(manifest.body)
        made_then = {k: v for k, v in body["made"].items() if k != "digest"} | {
            "time": "3" + body["made"]["time"][1:]
        }
        body["made"] = {**made_then, "digest": digest(made_then)}
        manifest.path.write_text(json.dumps(body))
        features = griddle.open_cache(made.path).features()
        assert features.counts == {"images": 8}
        assert features.patch_grids()[5:].compute().tolist() == values.tolist()
        assert features.older == [old.name]
        manifest.path.unlink()


def test_a_store_of_a_version_that_is_no_longer_read(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = griddle.open_cache(made.path).store("scans")
    monkeypatch.delitem(stores._DECLARED, SCANS.tag)
    monkeypatch.setitem(stores._DECLARED, "scans/3", lambda identity: SCANS)
    for said in (("scans/2", "reads scans/3", "Another version wrote it"),):
        with pytest.raises(OtherVersion) as refusal:
            store.array("xyz")
        assert [word for word in said if word not in str(refusal.value)] == []
    monkeypatch.setitem(stores.RETIRED, SCANS.tag, "its xyz was in feet")
    with pytest.raises(OtherVersion, match=r"(?s)scans/2.*reads scans/3 \(its xyz was in feet\).*snakemake"):
        store.partition("scene-1")
