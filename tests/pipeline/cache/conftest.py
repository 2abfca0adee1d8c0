"""A small cache of two scenes, for tests of what opens it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cache_schemas import schema as schemas
from cache_schemas.canonical import digest
from cache_schemas.features import features_schema
from cache_schemas.manifest import Manifest
from cache_schemas.scans import SCANS
from cache_schemas.views import VIEWS
from cache_schemas.writing import PartitionWriter

ROWS, COLS, CHANNELS = 3, 5, 4
INPUT = (42, 70)
ORIGINAL = (160, 90)
MEMBER = "00" * 5


def teacher_named(model: str) -> str:
    """The id of a teacher of this cache: its name and the digest of its identity, as of any teacher."""
    return f"{model}-{digest({'model': model, 'storage': 'float16'})}"


TEACHER = teacher_named("vit_a")
SCAN_STORE = f"scans/toy-{digest({'dataset': 'toy'})}"
VIEW_STORE = f"views/toy-{digest({})}"


def image_names(partition: str, count: int) -> list[str]:
    return [f"samples/CAM/{partition}-{number}.jpg" for number in range(count)]


def write_features(
    cache: Path, partition: str, values: np.ndarray, *, store: str = f"{TEACHER}/toy", member: str = MEMBER
) -> Manifest:
    with PartitionWriter(
        cache / "features" / store,
        features_schema("float16"),
        partition=partition,
        member_digest=member,
        identity={"model": store.split("-")[0], "storage": "float16"},
        attributes={
            "images": image_names(partition, len(values)),
            "teacher": {},
            "image_size": list(INPUT),
            "patch": 14,
            "unreadable": [],
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
        cache / VIEW_STORE,
        VIEWS,
        partition=partition,
        member_digest=MEMBER,
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
        cache / SCAN_STORE,
        SCANS,
        partition=partition,
        member_digest=MEMBER,
        identity={"dataset": "toy"},
        attributes={"frame": "lidar", "scans": [f"{partition}-scan"]},
    ) as writer:
        writer.put("scan_offsets", np.array([0, len(xyz)], np.uint64))
        writer.put("xyz", xyz)
        writer.put("intensity", xyz[:, 0].copy())
        left_out = [{"what": "a scan", "why": "a test"}] if partition == "scene-2" else []
        return writer.publish(counts={"scans": 1, "points": len(xyz)}, left_out=left_out)


@dataclass(frozen=True)
class Made:
    """A cache of two scenes of 5 and 2 images, and what was written into it."""

    path: Path
    grids: dict[str, np.ndarray]
    xyz: np.ndarray
    teacher: str = TEACHER
    other_teacher: str = teacher_named("vit_b")
    scan_store: str = SCAN_STORE
    view_store: str = VIEW_STORE
    shape: tuple[int, ...] = (ROWS, COLS, CHANNELS)
    input: tuple[int, int] = INPUT
    original: tuple[int, int] = ORIGINAL
    images: tuple[str, ...] = (*image_names("scene-1", 5), *image_names("scene-2", 2))

    @property
    def in_order(self) -> np.ndarray:
        """(7, rows, cols, channels): all patch grids, in the order of the partitions' names."""
        return np.stack([self.grids[name] for name in self.images])

    def shards(self, partition: str) -> list[Path]:
        """The shard files of a partition's features."""
        found = self.path.glob(f"features/*/*/{partition}.*.zarr/features/c/**/0")
        return sorted(path for path in found if path.is_file())

    def add_features(
        self, partition: str, values: np.ndarray, *, store: str = f"{TEACHER}/toy", member: str = MEMBER
    ) -> Manifest:
        """Write one more partition of features."""
        return write_features(self.path, partition, values, store=store, member=member)

    def only(self, grids: np.ndarray) -> Path:
        """Another cache: with these patch grids alone, as scene-1."""
        other = self.path.with_name("other")
        write_features(other, "scene-1", grids)
        return other

    def only_scans(self) -> Path:
        """Another cache: with all points as one scan."""
        other = self.path.with_name("other")
        write_scans(other, "scene-1", self.xyz)
        return other


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
