"""A reader returns what was written, or raises: for every file of a partition and every kind of damage."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache_schemas import schema as schemas
from cache_schemas.errors import DamagedCache
from cache_schemas.features import features_schema
from cache_schemas.manifest import is_valid, manifest_path
from cache_schemas.reading import PartitionReader
from cache_schemas.schema import StoreSchema
from cache_schemas.views import VIEWS
from cache_schemas.writing import PartitionWriter

MEMBER = "0123456789"
FEATURES = features_schema("float16")


def view_arrays(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Three views in two variants, the second of which sees nothing."""
    offsets, kept = (
        np.array([0, 4, 4, 7], np.uint64),
        np.array([0, 1, 2, 2, 2, 4, 4, 5, 6, 6, 6, 8, 8], np.uint64),
    )
    return {
        "view_scan": np.array([0, 0, 1], np.uint32),
        "view_camera": np.array([0, 1, 0], np.uint8),
        "image_size": rng.integers(1, 2000, (3, 2)).astype(np.uint32),
        "seen_offsets": offsets,
        "point": rng.integers(0, 2**32, 7).astype(np.uint32),
        "pixel": rng.uniform(0, 1600, (7, 2)).astype(np.float32),
        "depth": rng.uniform(1, 80, 7).astype(np.float32),
        "kept_offsets": kept,
        "kept": rng.integers(0, 2**32, 8).astype(np.uint32),
        "neighbours": rng.integers(0, 2**32, (8, 3)).astype(np.uint32),
    }


def feature_arrays(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"features": rng.normal(size=(3, 2, 2, 4)).astype(np.float16)}


ATTRIBUTES: dict[str, dict[str, Any]] = {
    "views": dict.fromkeys(VIEWS.attributes, 0),
    "features": dict.fromkeys(FEATURES.attributes, 0),
}


@dataclass(frozen=True)
class Published:
    """A partition that may be damaged, and one of the same shapes and other values beside it.

    Attributes:
        values: what was written.
        files: its manifest, sidecar and store; and for each the other partition's counterpart.
    """

    folder: Path
    schema: StoreSchema
    values: dict[str, np.ndarray]
    files: dict[Path, Path]

    @property
    def manifest(self) -> Path:
        return manifest_path(self.folder, "mine", MEMBER)

    def read(self) -> dict[str, np.ndarray]:
        reader = PartitionReader(self.folder, self.schema, "mine", MEMBER)
        return {spec.name: np.array(reader.read(spec.name)) for spec in self.schema.arrays}

    def told(self, damaged: Path) -> bool:
        """Whether the damage is refused in words that help; if it is not, the values must be those written.

        False: it does not matter. Fails on other values, and on a refusal that does not say where and what to do.
        """
        try:
            found = self.read()
        except DamagedCache as error:
            message = str(error)
        else:
            for name, values in self.values.items():
                np.testing.assert_array_equal(found[name], values, err_msg=f"{name}, damaged: {damaged}")
            return False
        assert str(damaged) in message
        assert f"Delete {self.manifest} and run" in message
        return True


def publish(folder: Path, schema: StoreSchema, make: Callable[[Any], dict[str, np.ndarray]]) -> Published:
    values, manifests = {}, {}
    for seed, partition in enumerate(("mine", "other")):
        values[partition] = make(np.random.default_rng(seed))
        with PartitionWriter(
            folder,
            schema,
            partition=partition,
            member_digest=MEMBER,
            identity={},
            attributes=ATTRIBUTES[schema.store],
        ) as writer:
            for name, rows in values[partition].items():
                writer.put(name, rows)
            manifests[partition] = writer.publish(counts={}, left_out=[])
    mine, other = manifests["mine"], manifests["other"]
    files = {mine.path: other.path, mine.sidecar: other.sidecar}
    files |= {mine.store / name: other.store / name for name in mine.body["files"]}
    return Published(folder, schema, values["mine"], files)


@pytest.fixture(scope="module", params=["views", "features"])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Published:
    schema, make = {"views": (VIEWS, view_arrays), "features": (FEATURES, feature_arrays)}[request.param]
    return publish(tmp_path_factory.mktemp(request.param), schema, make)


def each_file_restored(published: Published) -> Iterator[tuple[Path, bytes]]:
    """Each file with its bytes; whatever was done to it is undone before the next."""
    for path in published.files:
        data = path.read_bytes()
        yield path, data
        path.unlink(missing_ok=True)
        path.write_bytes(data)
    assert not published.told(published.folder)


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :]


def test_one_flipped_bit(published: Published) -> None:
    for path, data in each_file_restored(published):
        for place in sorted({0, len(data) // 3, len(data) // 2, len(data) - 2, len(data) - 1}):
            path.write_bytes(flipped(data, place))
            assert published.told(path), (path, place)


def test_every_flipped_byte_of_features_and_of_their_sidecar(tmp_path: Path) -> None:
    published = publish(tmp_path, FEATURES, feature_arrays)
    sidecar = next(path for path in published.files if path.suffix == ".crc")
    shard = next(path for path in published.files if path.name == "0")
    for path in (sidecar, shard):
        data = path.read_bytes()
        for place in range(len(data)):
            path.write_bytes(flipped(data, place))
            assert published.told(path), (path, place)
        path.write_bytes(data)
    assert not published.told(tmp_path)


def test_flipped_bytes_all_over_the_manifest(tmp_path: Path) -> None:
    published = publish(tmp_path, FEATURES, feature_arrays)
    path = manifest_path(tmp_path, "mine", MEMBER)
    data = path.read_bytes()
    for place in range(0, len(data), 5):
        path.write_bytes(flipped(data, place))
        assert published.told(path), data[place - 20 : place + 20]


def test_a_manifest_of_another_format_says_what_to_do(tmp_path: Path) -> None:
    published = publish(tmp_path, FEATURES, feature_arrays)
    path = manifest_path(tmp_path, "mine", MEMBER)
    path.write_bytes(path.read_bytes().replace(b'"format": 2', b'"format": 3'))
    assert published.told(path)


@pytest.mark.parametrize("kept", [-1, 0.5, 1, 0], ids=["last byte cut", "half", "one byte left", "empty"])
def test_a_truncated_file(kept: float, published: Published) -> None:
    for path, data in each_file_restored(published):
        path.write_bytes(data[: kept if isinstance(kept, int) else int(len(data) * kept)])
        harmless = path == published.manifest and kept == -1  # a manifest may lose its last line end
        assert published.told(path) == (not harmless), path


def test_a_file_that_is_too_long(published: Published) -> None:
    for path, data in each_file_restored(published):
        path.write_bytes(data + b"\n")
        harmless = path == published.manifest  # one more line end after its JSON says nothing else
        assert published.told(path) == (not harmless), path


def test_a_deleted_file(published: Published) -> None:
    for path, _ in each_file_restored(published):
        path.unlink()
        assert published.told(path), path


@pytest.mark.parametrize("damage", ["cut", "longer", "gone"])
def test_a_stage_that_looks_at_sizes_alone_finds_the_partition_invalid(
    damage: str, published: Published
) -> None:
    for path, data in each_file_restored(published):
        assert is_valid(published.folder, "mine", MEMBER)
        path.unlink()
        if damage != "gone":
            path.write_bytes(data[:-2] if damage == "cut" else data + b"}")
        assert not is_valid(published.folder, "mine", MEMBER), path


def test_a_file_exchanged_for_that_of_another_partition(published: Published) -> None:
    exchanged = 0
    for path, data in each_file_restored(published):
        counterpart = published.files[path].read_bytes()
        path.write_bytes(counterpart)
        if counterpart != data:  # arrays of one shape have one zarr.json
            assert published.told(path), path
            exchanged += 1
    assert exchanged >= 4  # at least manifest, sidecar, attributes and one array


def test_a_store_exchanged_for_that_of_another_partition(tmp_path: Path) -> None:
    published = publish(tmp_path, FEATURES, feature_arrays)
    mine, other = (sorted(tmp_path.glob(f"{name}.*.zarr"))[0] for name in ("mine", "other"))
    aside = tmp_path / "aside"
    mine.rename(aside)
    other.rename(mine)
    assert published.told(mine)
    mine.rename(other)
    with pytest.raises(DamagedCache, match="missing"):
        published.read()
    aside.rename(mine)
    assert not published.told(mine)


def test_shards_of_one_array_exchanged_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schemas, "SHARD_BYTES", 1)
    published = publish(tmp_path, FEATURES, feature_arrays)
    first, second, _ = sorted(path for path in published.files if path.name == "0")
    one, two = first.read_bytes(), second.read_bytes()
    assert len(one) == len(two)
    first.write_bytes(two)
    second.write_bytes(one)
    assert published.told(first)


@pytest.mark.parametrize("damage", ["truncate", "flip"])
def test_damage_done_while_the_partition_is_open(damage: str, tmp_path: Path) -> None:
    published = publish(tmp_path, FEATURES, feature_arrays)
    reader = PartitionReader(tmp_path, FEATURES, "mine", MEMBER)
    shard = next(path for path in published.files if path.name == "0")
    first = np.array(reader.read("features", 0, 1))
    np.testing.assert_array_equal(first, published.values["features"][:1])
    data = shard.read_bytes()
    shard.write_bytes(data[:10] if damage == "truncate" else flipped(data, 40))
    with pytest.raises(DamagedCache, match=r"(?s)features/c/.*Delete .* and run"):
        reader.read("features", 1, 2)


def test_a_file_deleted_while_the_partition_is_open(tmp_path: Path) -> None:
    """The open file outlives its name, and what is read is what was written; who reads it first, or anew, is told."""
    published = publish(tmp_path, FEATURES, feature_arrays)
    readers = [PartitionReader(tmp_path, FEATURES, "mine", MEMBER) for _ in range(2)]
    first = readers[0].read("features", 0, 1)
    next(path for path in published.files if path.name == "0").unlink()
    np.testing.assert_array_equal(readers[0].read("features"), published.values["features"])
    np.testing.assert_array_equal(first, published.values["features"][:1])
    with pytest.raises(DamagedCache, match=r"(?s)features/c/.*Delete .* and run"):
        readers[1].read("features", 1, 2)
    with pytest.raises(DamagedCache, match="is missing"):
        PartitionReader(tmp_path, FEATURES, "mine", MEMBER)


def test_a_manifest_of_another_member_version_under_this_name(tmp_path: Path) -> None:
    published = publish(tmp_path, FEATURES, feature_arrays)
    path = manifest_path(tmp_path, "mine", MEMBER)
    path.rename(manifest_path(tmp_path, "mine", "9876543210"))
    with pytest.raises(DamagedCache, match="renamed or swapped"):
        PartitionReader(tmp_path, FEATURES, "mine", "9876543210")
    with pytest.raises(DamagedCache, match="cannot be read"):
        published.read()
