"""A cache of real nuScenes keyframes, several times over, for benchmarks: $GRIDDLE_SAMPLES has two of them.

Points and views are computed as always. Patch grids are random numbers of the right size and type: what they are
does not matter to the time that they take.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np

from cache_schemas.features import features_schema
from cache_schemas.reading import PartitionReader
from cache_schemas.scans import SCANS
from cache_schemas.writing import PartitionWriter
from pipeline.config.model import Config
from pipeline.datasets.nuscenes.reader import READER
from pipeline.datasets.records import ImageRecord, PartitionRecord, ScanRecord
from pipeline.geometry.projection import see
from pipeline.geometry.voxels import representatives
from pipeline.index import make_index
from pipeline.plan import Plan, Reading, Run
from pipeline.scans import write_scans
from pipeline.streaming.batches import PretrainSteps
from pipeline.streaming.source import ViewSource
from pipeline.views import write_views

GRID = (16, 32, 1024)
"""Rows, columns and channels of ViT-L/14 at 224 x 448."""
IMAGE = (224, 448)
MOST = 20_000
"""Points in a sample, as published."""


@dataclass(frozen=True)
class Keyframes:
    """A cache that is full, the run that reads it, and the scans it was made of, one partition each."""

    root: Path
    plan: Plan
    run: Run
    scans: tuple[ScanRecord, ...]

    def steps(
        self, storage: str = "float16", reader: type[PartitionReader] = PartitionReader
    ) -> PretrainSteps:
        source = ViewSource(self.plan.cache, self.run.readings, storage, reader)
        places, _ = source.scans()
        return PretrainSteps(source, places, self.run, IMAGE, {"nuscenes": READER.traits.intensity})


def real_keyframes(
    folder: Path, copies: int, *, batch: int, points: dict[str, object] | None = None
) -> Keyframes:
    """`copies` partitions of each keyframe, all six cameras."""
    return _keyframes(folder, lambda scan, number: scan, copies, batch, points or {})


def dense_keyframes(folder: Path, copies: int, *, batch: int) -> Keyframes:
    """Each keyframe with one camera only, whose points are repeated beside themselves until it sees 20,000 voxels."""

    def densify(scan: ScanRecord, number: int) -> ScanRecord:
        image = scan.images[number % len(scan.images)]
        path = folder / f"dense-{number}.bin"
        dense_scan(np.fromfile(_root() / scan.path, "<f4").reshape(-1, 5), image).tofile(path)
        return replace(scan, path=str(path), bytes=path.stat().st_size, images=(image,))

    return _keyframes(folder, densify, copies, batch, {})


def dense_scan(points: np.ndarray, image: ImageRecord) -> np.ndarray:
    """A scan (N, 5) of which one image shows just over 20,000 voxels of 0.1 m."""
    rng = np.random.default_rng(0)
    seen = see(points[:, :3], image, READER.traits.published_mask).point
    out = points
    while True:
        xyz = np.ascontiguousarray(out[:, :3])
        kept = representatives(xyz, 0.1, None)
        if len(see(xyz[kept], image, READER.traits.published_mask).point) > MOST:
            return out
        beside = points[seen].copy()
        beside[:, :3] += rng.normal(scale=0.3, size=(len(seen), 3)).astype(np.float32)
        out = np.concatenate([out, beside])


def _root() -> Path:
    samples = os.environ.get("GRIDDLE_SAMPLES")
    if not samples:
        raise click.ClickException(
            "real recordings are needed: set GRIDDLE_SAMPLES to the folder that holds nuscenes/"
        )
    return Path(samples) / "nuscenes"


def _keyframes(
    folder: Path,
    change: Callable[[ScanRecord, int], ScanRecord],
    copies: int,
    batch: int,
    points: dict[str, object],
) -> Keyframes:
    folder.mkdir(parents=True)
    config = Config.model_validate(
        {
            "workdir": str(folder),
            "datasets": {
                "nuscenes": {"reader": "nuscenes", "root": str(_root()), "version": "v1.0-trainval"}
            },
            "teachers": {"teacher": {"model": "vit_large_patch14_dinov2.lvd142m", "image_size": IMAGE}},
            "students": {
                "student": {
                    "datasets": ["nuscenes"],
                    "splits": ["train", "val"],
                    "teacher": "teacher",
                    "points": points,
                    "pretrain": {"batch": 2},
                }
            },
        }
    )
    make_index(folder, "nuscenes", config.datasets["nuscenes"])
    plan = Plan(config)
    index, run = plan.indices["nuscenes"], plan.runs["student"]
    found = [scan for entry in index.partitions for scan in index.load_partition(entry).scans]
    stores = plan.stores("nuscenes", run.student.points, config.teachers["teacher"])
    rng = np.random.default_rng(0)
    readings: list[Reading] = []
    scans: list[ScanRecord] = []
    for number in range(copies * len(found)):
        scan = change(replace(found[number % len(found)], name=f"scan-{number}"), number)
        partition = PartitionRecord(f"scene-{number}", "train", (scan,))
        members = {store: str(member) for store, member in partition.member_digests().items()}
        at = {stage: plan.cache / store.folder for stage, store in stores.items()}
        write_scans(READER, _root(), stores["scans"], partition, members["scans"], at["scans"])
        reader = PartitionReader(at["scans"], SCANS, partition.name, members["scans"])
        write_views(
            stores["views"],
            READER.traits.cameras,
            READER.traits.published_mask,
            run.student.points,
            partition,
            members["views"],
            at["views"],
            reader,
        )
        _write_features(at["features"], partition, members["features"], rng)
        places = {stage: (stores[stage].folder, members[stage]) for stage in ("scans", "views", "features")}
        readings.append(Reading("nuscenes", "train", partition.name, **places))
        scans.append(scan)
    student = run.student.model_copy(
        update={"pretrain": run.student.pretrain.model_copy(update={"batch": batch})}
    )
    return Keyframes(_root(), plan, replace(run, student=student, readings=tuple(readings)), tuple(scans))


def _write_features(folder: Path, partition: PartitionRecord, member: str, rng: np.random.Generator) -> None:
    attributes = {
        "images": [image.path for image in partition.images],
        "teacher": {},
        "image_size": list(IMAGE),
        "patch": 14,
    }
    with PartitionWriter(
        folder,
        features_schema("float16"),
        partition=partition.name,
        member_digest=member,
        identity={},
        attributes=attributes,
    ) as writer:
        grids = rng.normal(size=(len(partition.images), *GRID)).astype(np.float32)
        writer.put("features", grids.astype(np.float16))
        writer.publish(counts={"images": len(grids)}, left_out=[])
