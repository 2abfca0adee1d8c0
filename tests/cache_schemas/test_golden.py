"""Stores that an earlier day's writer wrote still open, value for value; and what to do when a version is raised.

To raise a schema's version: keep its golden store, and either keep its declaration in `cache_schemas/stores.py`, where
the readers can take both, or name its tag in RETIRED there, with what changed; then make the new one's golden store
with `python tests/support/golden_stores.py NAME` and commit it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import golden_stores
import numpy as np
import pytest
import xarray
import zarr
from golden_stores import GOLDEN, MEMBER, PARTITION

from cache_schemas import stores
from cache_schemas.errors import DamagedCache, OtherVersion
from cache_schemas.manifest import Manifest, open_partition
from cache_schemas.reading import PartitionReader
from cache_schemas.reference import LATER_FIELDS, MANIFEST_FIELDS
from cache_schemas.schema import CODECS, COMMON_ATTRIBUTES
from cache_schemas.shards import read_layout
from cache_schemas.stores import RETIRED, declared, schema_of
from cache_schemas.writing import PartitionWriter

STORES = sorted(path for path in GOLDEN.iterdir() if path.is_dir() and not path.name.startswith("_"))


def expected_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "expected.txt").read_text())


def manifest_of(folder: Path) -> Manifest:
    return open_partition(folder, PARTITION, MEMBER)


def tag_of(folder: Path) -> str:
    return expected_of(folder)["declaration"]["tag"]


def each(folders: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("folder", folders, ids=lambda path: path.name)


READ = [folder for folder in STORES if tag_of(folder) not in RETIRED]
every_golden_store, every_store_that_is_read = each(STORES), each(READ)
every_retired_store = each([folder for folder in STORES if folder not in READ])


def test_every_schema_has_a_golden_store() -> None:
    missing = [name for name in declared() if not golden_stores.golden_folder(name).is_dir()]
    assert not missing, (
        f"no golden store of {missing}: python tests/support/golden_stores.py {missing[:1]}, and commit it"
    )


def test_every_golden_store_is_of_a_version_that_is_read_or_retired() -> None:
    lost = [f.name for f in STORES if tag_of(f) not in {*stores._DECLARED, *RETIRED}]
    assert not lost, f"{lost}: keep their schema in cache_schemas/stores.py, or name it in RETIRED there"
    assert not set(RETIRED) & set(stores._DECLARED)
    assert set(RETIRED) <= {tag_of(folder) for folder in STORES}


@every_retired_store
def test_a_retired_store_is_refused_and_what_to_do_is_said(folder: Path) -> None:
    tag = tag_of(folder)
    with pytest.raises(OtherVersion) as refusal:
        schema_of(manifest_of(folder))
    store = tag.split("/")[0]
    for words in (tag, f"reads {store}/", RETIRED[tag], "Run the same snakemake command"):
        assert words in str(refusal.value)


@every_store_that_is_read
def test_it_opens_and_holds_what_was_written(folder: Path) -> None:
    expected, manifest = expected_of(folder), manifest_of(folder)
    schema = schema_of(manifest)
    reader = PartitionReader(folder, schema, PARTITION, MEMBER)
    group = zarr.open_group(manifest.store, mode="r")
    dataset = xarray.open_zarr(manifest.store, consolidated=True)
    assert {spec.name for spec in schema.arrays} == set(expected["values"])
    for spec in schema.arrays:
        for found in (reader.read(spec.name), group[spec.name][...], dataset[spec.name].values):
            assert found.dtype == np.dtype(spec.dtype)
            assert found.tolist() == expected["values"][spec.name], spec.name
        assert dataset[spec.name].dims == spec.dims
        assert dataset[spec.name].attrs["units"] == spec.units
    common = {"griddle_schema": schema.tag, "partition": PARTITION, "identity": expected["identity"]}
    assert set(common) == set(COMMON_ATTRIBUTES)
    assert reader.attributes == {**common, **expected["attributes"]} == dataset.attrs


@every_store_that_is_read
def test_the_declaration_is_the_one_it_was_made_by(folder: Path) -> None:
    schema = schema_of(manifest_of(folder))
    assert golden_stores.declaration(schema) == expected_of(folder)["declaration"], (
        f"{schema.tag} is declared otherwise than when its golden store was made: raise its version and see the top of "
        f"this file"
    )


@every_store_that_is_read
def test_todays_writer_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    """Chunks, shards and checksums; of metadata the values, which another version of zarr may spell otherwise."""
    expected, manifest = expected_of(folder), manifest_of(folder)
    schema = schema_of(manifest)
    with PartitionWriter(
        tmp_path,
        schema,
        partition=PARTITION,
        member_digest=MEMBER,
        identity=expected["identity"],
        attributes=expected["attributes"],
    ) as writer:
        for spec in schema.arrays:
            writer.put(spec.name, np.array(expected["values"][spec.name], spec.dtype))
        again = writer.publish(counts={}, left_out=[])
    assert again.sidecar.read_bytes() == manifest.sidecar.read_bytes()
    assert set(again.body["files"]) == set(manifest.body["files"])
    for name in manifest.body["files"]:
        old, new = (one.store / name for one in (manifest, again))
        if Path(name).name == "zarr.json":
            assert without_sentences(json.loads(old.read_text())) == without_sentences(
                json.loads(new.read_text())
            )
        else:
            assert old.read_bytes() == new.read_bytes(), name


def without_sentences(meta: Any) -> Any:
    """Metadata without the sentences, which may be put better."""
    if isinstance(meta, dict):
        return {key: without_sentences(value) for key, value in meta.items() if key not in ("about", "frame")}
    return meta


@every_golden_store
def test_the_codecs_are_the_declared_ones(folder: Path) -> None:
    manifest = manifest_of(folder)
    for name in expected_of(folder)["values"]:
        meta = json.loads((manifest.store / name / "zarr.json").read_text())
        (codec,) = meta["codecs"]
        assert tuple(step["name"] for step in codec["configuration"]["codecs"]) == CODECS
        layout = read_layout(manifest.store / name)
        assert layout.chunk[1:] == layout.shape[1:] == layout.shard[1:]


@every_golden_store
def test_a_golden_store_is_small_and_has_the_documented_manifest(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) <= 26
    assert sum(path.stat().st_size for path in files) < 48_000
    body = manifest_of(folder).body
    wanted = [field for field in MANIFEST_FIELDS if field in body or field not in LATER_FIELDS]
    assert wanted == list(body)


def test_one_is_never_made_again() -> None:
    with pytest.raises(SystemExit, match="never made again"):
        golden_stores.make("labels/1")


@pytest.mark.parametrize("file", ["expected value", "shard"])
def test_a_changed_golden_store_is_seen(file: str, tmp_path: Path) -> None:
    """These tests can fail: one changed bit in a copy is found."""
    folder = tmp_path / "scans-2"
    shutil.copytree(GOLDEN / "scans-2", folder)
    if file == "shard":
        path = manifest_of(folder).store / "xyz" / "c" / "0" / "0"
        data = bytearray(path.read_bytes())
        data[5] ^= 1
        path.write_bytes(data)
    else:
        expected = expected_of(folder)
        expected["values"]["xyz"][0][0] += 0.25
        (folder / "expected.txt").write_text(json.dumps(expected))
    with pytest.raises(DamagedCache if file == "shard" else AssertionError):
        test_it_opens_and_holds_what_was_written(folder)
