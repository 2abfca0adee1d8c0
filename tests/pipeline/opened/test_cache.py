"""`open_cache`: what it lists, that dask gets whole shards and every chunk is checked, and features by image and pixel."""

import pickle
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import griddle
from cache_schemas import schema as schemas
from cache_schemas import stores
from cache_schemas.errors import BadInput, DamagedCache
from cache_schemas.features import features_schema
from cache_schemas.manifest import Manifest
from cache_schemas.reading import PartitionReader
from cache_schemas.scans import SCANS
from cache_schemas.views import VIEWS
from cache_schemas.writing import PartitionWriter

ROWS, COLS, CHANNELS = 3, 5, 4
INPUT = (42, 70)
ORIGINAL = (160, 90)
TEACHER = "vit_a-0011223344"


@dataclass(frozen=True)
class Made:
    """A cache of two scenes, and what was written into it."""

    path: Path
    grids: dict[str, np.ndarray]
    xyz: np.ndarray


def image_names(partition: str, count: int) -> list[str]:
    return [f"samples/CAM/{partition}-{number}.jpg" for number in range(count)]


def write_features(
    cache: Path, partition: str, values: np.ndarray, *, store: str = f"{TEACHER}/toy", member: str = "00"
) -> Manifest:
    with PartitionWriter(
        cache / "features" / store,
        features_schema("float16"),
        partition=partition,
        member_digest=member,
        identity={"storage": "float16"},
        attributes={
            "images": image_names(partition, len(values)),
            "teacher": {},
            "image_size": list(INPUT),
            "patch": 14,
            "licence": "apache-2.0",
        },
    ) as writer:
        writer.put("features", values.astype(np.float16))
        return writer.publish(counts={"images": len(values)}, left_out=[])


def write_views(cache: Path, partition: str, images: int) -> Manifest:
    """Views that see nothing; only what they say of their images matters here."""
    sizes = {"view": images, "view_bound": images + 1, "variant_view_bound": images + 1, "neighbour": 1}
    sizes |= {"seen": 0, "representative": 0, **VIEWS.sizes}
    attributes = dict.fromkeys(VIEWS.attributes, 0) | {"images": image_names(partition, images)}
    with PartitionWriter(
        cache / "views" / "toy-0123456789",
        VIEWS,
        partition=partition,
        member_digest="00",
        identity={},
        attributes=attributes,
    ) as writer:
        for spec in VIEWS.arrays:
            values = np.zeros([sizes[dim] for dim in spec.dims], spec.dtype)
            if spec.name == "image_size":
                values[:] = ORIGINAL[::-1]
            writer.put(spec.name, values)
        return writer.publish(counts={"views": images}, left_out=[])


def write_scans(cache: Path, partition: str, xyz: np.ndarray) -> Manifest:
    with PartitionWriter(
        cache / "scans" / "toy-0123456789",
        SCANS,
        partition=partition,
        member_digest="00",
        identity={"dataset": "toy"},
        attributes={"frame": "lidar", "scans": [f"{partition}-scan"]},
    ) as writer:
        writer.put("scan_offsets", np.array([0, len(xyz)], np.uint64))
        writer.put("xyz", xyz)
        writer.put("intensity", xyz[:, 0].copy())
        left_out = [{"what": "a scan", "why": "a test"}] if partition == "scene-2" else []
        return writer.publish(counts={"scans": 1, "points": len(xyz)}, left_out=left_out)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """Two images fill a shard of features; scene-1 has five, scene-2 has two."""
    monkeypatch.setattr(schemas, "SHARD_BYTES", 2 * ROWS * COLS * CHANNELS * 2)
    rng = np.random.default_rng(0)
    cache = tmp_path / "cache"
    grids = {}
    for partition, count in (("scene-2", 2), ("scene-1", 5)):
        values = rng.normal(size=(count, ROWS, COLS, CHANNELS)).astype(np.float16)
        write_features(cache, partition, values)
        write_views(cache, partition, count)
        grids |= dict(zip(image_names(partition, count), values.astype(np.float32), strict=True))
    xyz = rng.normal(size=(70_000, 3)).astype(np.float32)
    write_scans(cache, "scene-1", xyz[:69_990])
    write_scans(cache, "scene-2", xyz[69_990:])
    return Made(cache, grids, xyz)


def in_order(made: Made) -> np.ndarray:
    return np.stack([made.grids[name] for name in image_names("scene-1", 5) + image_names("scene-2", 2)])


def test_what_is_in_it(made: Made) -> None:
    cache = griddle.open_cache(made.path)
    assert [store.name for store in cache.stores] == [
        "scans/toy-0123456789",
        "views/toy-0123456789",
        f"features/{TEACHER}/toy",
    ]
    assert {(store.dataset, tuple(store.partitions)) for store in cache.stores} == {
        ("toy", ("scene-1", "scene-2"))
    }
    assert f"features/{TEACHER}/toy: 2 partition(s)" in repr(cache)
    scans = cache.store("scans")
    assert (scans.schema, scans.counts) == (SCANS.tag, {"scans": 2, "points": 70_000})
    assert scans.identity == {"dataset": "toy"}
    assert scans.attribute("scans") == ["scene-1-scan", "scene-2-scan"]
    assert scans.left_out == {"scene-2": [{"what": "a scan", "why": "a test"}]}
    assert scans.bytes == sum(p.stat().st_size for p in made.path.glob("scans/*/*.zarr/**/*") if p.is_file())
    assert cache.store("scans/toy") is scans
    assert cache.features().images == image_names("scene-1", 5) + image_names("scene-2", 2)
    assert cache.features("vit_a", "toy").teacher == TEACHER


def test_dask_gets_all_partitions_a_chunk_for_each_shard(made: Made) -> None:
    cache = griddle.open_cache(made.path)
    grids = cache.features().patch_grids()
    assert grids.chunks == ((2, 2, 1, 2), (ROWS,), (COLS,), (CHANNELS,))
    assert grids.dtype == np.float32
    np.testing.assert_array_equal(grids.compute(scheduler="threads"), in_order(made))
    stored = cache.features().array("features")
    assert (stored.dtype, stored.chunks) == (np.float16, grids.chunks)
    np.testing.assert_array_equal(stored.compute(), in_order(made))
    xyz = cache.store("scans").array("xyz")
    folder = next(made.path.glob("scans/*/scene-1.*.zarr")) / "xyz" / "c"
    # an inner chunk of xyz is larger than this shard size, so each shard holds one; scene-1 has three
    assert (len(list(folder.iterdir())), xyz.chunks[0]) == (3, (32768, 32768, 69_990 - 65_536, 10))
    np.testing.assert_array_equal(xyz.compute(), made.xyz)
    np.testing.assert_allclose(xyz.sum(axis=0).compute(), made.xyz.sum(axis=0), rtol=1e-3)
    one = cache.store("scans").array("scan_offsets", partition="scene-2")
    assert one.compute().tolist() == [0, 10]


def test_a_shard_of_many_chunks_is_one_dask_chunk(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schemas, "SHARD_BYTES", 2**20)
    write_scans(tmp_path / "one", "scene-1", made.xyz)
    xyz = griddle.open_cache(tmp_path / "one").store("scans").array("xyz")
    assert xyz.chunks[0] == (2 * 32_768, 70_000 - 2 * 32_768)
    np.testing.assert_array_equal(xyz.compute(), made.xyz)


@pytest.mark.parametrize(
    "index",
    [3, -1, slice(2, 6), slice(None, None, -2), slice(6, 0, -1), slice(4, 4), (1, 2, 3), (slice(1, 7, 3), 0)],
)
def test_slices_are_those_of_numpy(index: object, made: Made) -> None:
    grids = griddle.open_cache(made.path).features().patch_grids()
    np.testing.assert_array_equal(grids[index].compute(), in_order(made)[index])


def test_one_image_is_read_without_the_rest_of_its_shard(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    grids = griddle.open_cache(made.path).features().patch_grids()
    read, rows = PartitionReader.read, []

    def spy(self: PartitionReader, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        rows.append((self.manifest.partition, start, stop))
        return read(self, name, start, stop)

    monkeypatch.setattr(PartitionReader, "read", spy)
    grids[3].compute()
    assert rows == [("scene-1", 3, 4)]


def test_a_dask_array_can_be_sent_to_another_process(made: Made) -> None:
    grids = pickle.loads(pickle.dumps(griddle.open_cache(made.path).features().patch_grids()))
    np.testing.assert_array_equal(grids.compute(), in_order(made))


def enlarged(grid: np.ndarray) -> np.ndarray:
    """(H, W, C): bilinear with corners aligned, written out by hand."""
    out = np.empty((*INPUT, grid.shape[2]))
    for i in range(INPUT[0]):
        for j in range(INPUT[1]):
            y, x = i * (ROWS - 1) / (INPUT[0] - 1), j * (COLS - 1) / (INPUT[1] - 1)
            r, c = min(int(y), ROWS - 2), min(int(x), COLS - 2)
            fy, fx = y - r, x - c
            top = (1 - fx) * grid[r, c] + fx * grid[r, c + 1]
            out[i, j] = (1 - fy) * top + fy * ((1 - fx) * grid[r + 1, c] + fx * grid[r + 1, c + 1])
    return out


def test_the_features_of_pixels_are_the_published_ones(made: Made) -> None:
    cache = griddle.open_cache(made.path)
    image = image_names("scene-1", 5)[4]
    reference = enlarged(made.grids[image])
    found = cache.pixel_features(image)
    assert (found.shape, found.dtype) == ((*INPUT, CHANNELS), np.float32)
    np.testing.assert_allclose(found, reference, atol=1e-5)
    np.testing.assert_array_equal(cache.patch_grid(image), made.grids[image])

    pixels = np.random.default_rng(1).uniform((0, 0), ORIGINAL, (500, 2))
    pixels[:4] = [[0, 0], [ORIGINAL[0], ORIGINAL[1]], [159.999, 0.001], [80, 45]]
    size = np.array(ORIGINAL)
    whole = np.minimum(np.floor(pixels), size - 1)
    column, row = np.floor(whole * (np.array(INPUT[::-1]) / size)).astype(int).T
    at = cache.features_at(image, pixels)
    assert (at.shape, at.dtype) == ((500, CHANNELS), np.float32)
    np.testing.assert_allclose(at, reference[row, column], atol=1e-5)
    np.testing.assert_array_equal(at, cache.features_at(image, pixels.tolist(), original=ORIGINAL))


def test_features_between_pixels(made: Made, tmp_path: Path) -> None:
    """Where features rise evenly over the grid, what is read between pixels is known exactly."""
    rows, cols = np.meshgrid(np.arange(ROWS), np.arange(COLS), indexing="ij")
    ramp = np.stack([rows, cols, rows + cols, 0 * rows], axis=2)[None]
    write_features(tmp_path / "ramp", "scene-1", ramp)
    image = image_names("scene-1", 1)[0]
    pixels = np.random.default_rng(2).uniform((5, 5), (150, 80), (200, 2))
    found = griddle.open_cache(tmp_path / "ramp").features_at(
        image, pixels, sampling="subpixel", original=ORIGINAL
    )
    u, v = pixels.T
    column = (u * INPUT[1] / ORIGINAL[0] - 0.5) * (COLS - 1) / (INPUT[1] - 1)
    row = (v * INPUT[0] / ORIGINAL[1] - 0.5) * (ROWS - 1) / (INPUT[0] - 1)
    np.testing.assert_allclose(found, np.stack([row, column, row + column, 0 * row], axis=1), atol=1e-5)


def test_it_writes_nothing_and_changes_no_values(made: Made) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.path.rglob("*")}
    cache = griddle.open_cache(made.path)
    image = image_names("scene-2", 2)[0]
    first = cache.features_at(image, [[3, 4]])
    cache.pixel_features(image)
    cache.features().patch_grids().sum().compute()
    np.testing.assert_array_equal(first, cache.features_at(image, [[3, 4]]))
    assert {path: path.stat().st_mtime_ns for path in made.path.rglob("*")} == before


def shards(made: Made, partition: str) -> list[Path]:
    return sorted(
        path for path in made.path.glob(f"features/*/*/{partition}.*.zarr/features/c/**/0") if path.is_file()
    )


@pytest.mark.parametrize("damage", ["flipped", "swapped"])
def test_every_chunk_is_checked_when_it_is_computed(damage: str, made: Made) -> None:
    cache = griddle.open_cache(made.path)
    grids = cache.features().patch_grids()
    victim = shards(made, "scene-1")[1]
    data = bytearray(victim.read_bytes())
    if damage == "flipped":
        data[7] ^= 4
    else:
        data = bytearray(shards(made, "scene-2")[0].read_bytes())
    victim.write_bytes(data)
    for read in (grids.compute, cache.features().array("features").compute, grids[2].compute):
        with pytest.raises(DamagedCache) as refusal:
            read()
        assert str(victim) in str(refusal.value)
        assert "run the same snakemake command again" in str(refusal.value)
    image = image_names("scene-1", 5)[2]
    for read in (lambda: cache.features_at(image, [[1, 1]]), lambda: cache.pixel_features(image)):
        with pytest.raises(DamagedCache, match="checksum"):
            read()
    np.testing.assert_array_equal(grids[0].compute(), in_order(made)[0])  # another shard is as it was


@pytest.mark.parametrize(
    "damage", ["shard cut", "shard gone", "metadata changed", "manifest changed", "sidecar gone"]
)
def test_a_damaged_partition_is_named_before_anything_is_computed(damage: str, made: Made) -> None:
    manifest = next(made.path.glob("features/*/*/scene-2.*.json"))
    victim = shards(made, "scene-2")[0]
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


def test_a_partition_that_was_replaced_in_the_meantime(made: Made) -> None:
    grids = griddle.open_cache(made.path).features().patch_grids()
    (old,) = made.path.glob("features/*/*/scene-2.*.json")
    old.unlink()
    shutil.rmtree(next(made.path.glob("features/*/*/scene-2.*.zarr")))
    write_features(made.path, "scene-2", np.ones((2, ROWS, COLS, CHANNELS)))
    import pipeline.opened.rows

    pipeline.opened.rows._reader.cache_clear()
    with pytest.raises(DamagedCache, match=r"was replaced while it was read.*Open the cache again"):
        grids[5].compute()
    assert griddle.open_cache(made.path).features().patch_grids()[5].compute().min() == 1


def test_of_a_partition_that_grew_the_version_written_last_is_read(made: Made) -> None:
    (old,) = made.path.glob("features/*/*/scene-2.*.json")
    values = np.full((3, ROWS, COLS, CHANNELS), 7)
    for member in ("99", "01"):
        manifest = write_features(made.path, "scene-2", values, member=member)
        # what was written last is known by the manifest's time, in seconds: this one is of tomorrow
        manifest.path.write_text(manifest.path.read_text().replace('"time": "2', '"time": "3'))
        features = griddle.open_cache(made.path).features()
        assert features.counts == {"images": 8}
        assert features.patch_grids()[5:].compute().tolist() == values.tolist()
        assert features.older == [old.name]
        manifest.path.unlink()


def test_an_image_that_several_teachers_or_datasets_hold(made: Made) -> None:
    values = np.ones((2, ROWS, COLS, CHANNELS))
    image = image_names("scene-2", 2)[1]
    other = "vit_b-5566778899"
    write_features(made.path, "scene-2", values, store=f"{other}/toy")
    cache = griddle.open_cache(made.path)
    for ask in (
        lambda: cache.pixel_features(image),
        lambda: cache.features_at(image, [[1, 1]]),
        cache.features,
    ):
        with pytest.raises(BadInput) as refusal:
            ask()
        for said in (
            "more than one feature store",
            "teacher=",
            f"features/{TEACHER}/toy",
            f"features/{other}/toy",
        ):
            assert said in str(refusal.value)
    assert cache.features_at(image, [[1, 1]], teacher="vit_b").tolist() == [[1] * CHANNELS]
    assert cache.features_at(image, [[1, 1]], teacher=TEACHER).tolist() != [[1] * CHANNELS]
    assert cache.patch_grid(image_names("scene-1", 5)[0]).shape == (ROWS, COLS, CHANNELS)  # only one has it
    write_features(made.path, "scene-2", values * 2, store=f"{other}/second")
    cache = griddle.open_cache(made.path)
    with pytest.raises(BadInput, match="more than one"):
        cache.patch_grid(image, teacher="vit_b")
    assert cache.patch_grid(image, teacher="vit_b", dataset="second").min() == 2


def test_what_is_asked_for_and_not_there(made: Made) -> None:
    cache = griddle.open_cache(made.path)
    image = image_names("scene-1", 5)[0]
    for ask, said in (
        (lambda: cache.patch_grid("scene-1-0.jpg"), f"did you mean {image!r}"),
        (lambda: cache.features_at("x.jpg", [[0, 0]]), "5 images|7 images"),
        (lambda: cache.features("vit_c"), f"no feature store of teacher vit_c.*\n  features/{TEACHER}/toy"),
        (lambda: cache.features(dataset="kitti"), "no feature store .* dataset kitti"),
        (lambda: cache.patch_grid(image, teacher="vit_c"), "no feature store of teacher vit_c"),
        (lambda: cache.store("labels"), "has no 'labels'.*\n  scans/toy"),
        (
            lambda: cache.store("scans").partition("scene-3"),
            "no partition 'scene-3'.*from scene-1 to scene-2",
        ),
        (lambda: cache.store("scans").array("depth"), "scans/1: it has no array 'depth', but .*xyz"),
        (lambda: cache.store("scans").array("scan_offsets"), "partition='scene-1'"),
    ):
        with pytest.raises(BadInput, match=f"(?s){said}"):
            ask()
    with pytest.raises(ValueError, match="2 of 3 pixels lie outside the image of 160 x 90"):
        cache.features_at(image, [[1, 1], [-1, 0], [np.nan, 0]])
    with pytest.raises(ValueError, match=r"\(n, 2\), not \(2,\)"):
        cache.features_at(image, [1, 1])
    with pytest.raises(ValueError, match=r"published.*subpixel"):
        cache.features_at(image, [[1, 1]], sampling="nearest")
    shutil.rmtree(made.path / "views")
    with pytest.raises(BadInput, match=r"size of the original.*original="):
        griddle.open_cache(made.path).features_at(image, [[1, 1]])


def test_what_is_no_cache(made: Made, tmp_path: Path) -> None:
    for path, said in (
        (tmp_path / "nowhere", "nowhere does not exist"),
        (tmp_path, f"holds one: open {made.path}"),
        (made.path / "features", f"lies in one: open {made.path}"),
        (next(made.path.glob("scans/*/*.zarr")), f"lies in one: open {made.path}"),
    ):
        with pytest.raises(BadInput, match=said):
            griddle.open_cache(path)
    (tmp_path / "other" / "scans" / "toy-1").mkdir(parents=True)
    with pytest.raises(BadInput, match=r"is no cache: none of .* holds a manifest"):
        griddle.open_cache(tmp_path / "other")


def test_a_store_of_a_version_that_is_no_longer_read(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    store = griddle.open_cache(made.path).store("scans")
    monkeypatch.delitem(stores._DECLARED, SCANS.tag)
    monkeypatch.setitem(stores._DECLARED, "scans/2", lambda identity: SCANS)
    for said in (("scans/1", "reads scans/2", "Another version wrote it"),):
        with pytest.raises(BadInput) as refusal:
            store.array("xyz")
        assert [word for word in said if word not in str(refusal.value)] == []
    monkeypatch.setitem(stores.RETIRED, SCANS.tag, "its xyz was in feet")
    with pytest.raises(BadInput, match=r"(?s)scans/1.*reads scans/2 \(its xyz was in feet\).*snakemake"):
        store.partition("scene-1")


def test_importing_griddle_is_cheap() -> None:
    code = "import sys, griddle; print([m for m in ('torch', 'zarr', 'numpy', 'pandas', 'dask') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert set(dir(griddle)) == set(griddle.__all__)
    assert all(getattr(griddle, name) is not None for name in griddle.__all__)
    with pytest.raises(AttributeError, match=r"no attribute 'open_cash'; it has .*open_cache"):
        _ = griddle.open_cash


def test_float16_is_widened_before_it_is_summed(tmp_path: Path) -> None:
    write_features(tmp_path, "scene-1", np.full((1, ROWS, COLS, CHANNELS), 60_000.0))
    grids = griddle.open_cache(tmp_path).features().patch_grids()
    assert float(grids.mean().compute()) == pytest.approx(float(torch.tensor(60_000.0).half()))
