"""A cache of real recordings, several times over, for benchmarks: $GRIDDLE_SAMPLES has a few of each lidar, or an index of
them was packed with their files.

Points and views are computed as always. Patch grids are random numbers of the right size and type: what they are
does not matter to the time that they take.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np

from cache_schemas.features import features_schema
from cache_schemas.manifest import is_valid
from cache_schemas.reading import PartitionReader
from cache_schemas.scans import SCANS
from cache_schemas.storage import encode
from cache_schemas.writing import PartitionWriter
from pipeline.config.model import Config, Dataset, Points
from pipeline.datasets.index import Index, make_index
from pipeline.datasets.nuscenes.reader import READER
from pipeline.datasets.readers import reader_named
from pipeline.datasets.records import ImageRecord, PartitionRecord, ScanRecord
from pipeline.geometry.projection import see
from pipeline.geometry.voxels import representatives
from pipeline.plan.parts import Reading, Run, Store
from pipeline.plan.plan import Plan, plan_experiment
from pipeline.preprocessing.scans import write_scans
from pipeline.preprocessing.target import Target
from pipeline.preprocessing.views import write_views
from pipeline.streaming.readahead import STEPS_AHEAD
from pipeline.streaming.view_batches import PretrainSteps
from pipeline.streaming.view_source import ViewSource

GRID = (16, 32)
"""Rows and columns of a ViT with patches of 14 pixels at 224 x 448."""
CHANNELS = {"dinov2_vits14": 384, "dinov2_vitb14": 768, "dinov2_vitl14": 1024}
IMAGE = (224, 448)
STORAGES = ("float16", "int8")
MOST = 20_000
"""Points in a sample, as published."""


@dataclass(frozen=True)
class Recordings:
    """Where a dataset's samples lie, as a config names it. index: made before; without it the dataset's devkit is needed."""

    reader: str
    root: Path
    version: str = ""
    index: Index | None = None


@dataclass(frozen=True)
class Keyframes:
    """A cache that is full, a run for each way of storing its features, and the scans it was made of."""

    recordings: Recordings
    plan: Plan
    runs: dict[str, Run]
    scans: tuple[ScanRecord, ...]

    def steps(
        self,
        storage: str = "float16",
        reader: type[PartitionReader] = PartitionReader,
        ahead: int = STEPS_AHEAD,
    ) -> PretrainSteps:
        run = self.runs[storage]
        teachers = self.plan.experiment.teachers_of(run.student)
        source = ViewSource(self.plan.experiment.cache, run.readings, teachers, reader)
        places, _ = source.scans()
        return PretrainSteps(
            source,
            places,
            run,
            teachers,
            {self.recordings.reader: reader_named(self.recordings.reader).traits.intensity},
            ahead,
        )

    def forget(self) -> None:
        """Drop the cache's files from the system's page cache."""
        for path in self.plan.experiment.cache.rglob("*"):
            if path.is_file():
                handle = os.open(path, os.O_RDONLY)
                os.fsync(handle)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(handle)


def real_keyframes(
    folder: Path,
    partitions: int,
    *,
    batch: int,
    recordings: Recordings | None = None,
    teacher: str = "dinov2_vitl14",
    storages: Sequence[str] = STORAGES,
    **student: object,
) -> Keyframes:
    """Partitions of 8 scans, those that there are in turn, with all cameras: nuScenes' two keyframes, or others.

    student: blocks of the student's config, such as `points` and `network`.
    """
    found = recordings or nuscenes()
    size = (partitions, 8)
    return _keyframes(found, folder, lambda scan, number: scan, size, batch, teacher, student, storages)


def nuscenes() -> Recordings:
    return Recordings("nuscenes", _root(), "v1.0-trainval")


def pandaset(reader: str) -> Recordings:
    """Four frames of one sequence; reader: pandaset64 or pandasetgt."""
    return Recordings(reader, _root("pandaset"))


def semantic_kitti(folder: Path) -> Recordings:
    """Two frames of the object benchmark that share a calibration, laid out as a sequence of the odometry benchmark."""
    source = _root("kitti") / "object" / "training"
    sequence, calibration = (folder / part / "dataset" / "sequences" / "00" for part in (".", "calib"))
    for path in (calibration, sequence / "velodyne", sequence / "image_2"):
        path.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(("000001", "000002")):
        (sequence / "velodyne" / f"{number:06d}.bin").symlink_to(source / "velodyne" / f"{frame}.bin")
        (sequence / "image_2" / f"{number:06d}.png").symlink_to(source / "image_2" / f"{frame}.png")
    lines = (source / "calib" / "000001.txt").read_text().splitlines()
    given = {line.split(":")[0]: line.split(":")[1] for line in lines if ":" in line}
    rectify, to_camera = (np.array(given[key].split(), float) for key in ("R0_rect", "Tr_velo_to_cam"))
    to_rectified = rectify.reshape(3, 3) @ to_camera.reshape(3, 4)
    text = "".join(f"P{n}:{given[f'P{n}']}\n" for n in range(4))
    text += "Tr: " + " ".join(repr(float(value)) for value in to_rectified.flatten()) + "\n"
    (calibration / "calib.txt").write_text(text)
    return Recordings("semantic_kitti", folder)


def dense_keyframes(folder: Path, partitions: int, *, batch: int) -> Keyframes:
    """Partitions of 2 scans: a keyframe with one camera, its points repeated beside themselves until it sees 20,000
    voxels."""

    def densify(scan: ScanRecord, number: int) -> ScanRecord:
        image = scan.images[number % len(scan.images)]
        path = folder / f"dense-{number}.bin"
        dense_scan(np.fromfile(_root() / scan.path, "<f4").reshape(-1, 5), image).tofile(path)
        return replace(scan, path=str(path), bytes=path.stat().st_size, images=(image,))

    return _keyframes(nuscenes(), folder, densify, (partitions, 2), batch, "dinov2_vitl14", {})


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


def _root(dataset: str = "nuscenes") -> Path:
    samples = os.environ.get("GRIDDLE_SAMPLES")
    if not samples:
        raise click.ClickException(
            f"real recordings are needed: set GRIDDLE_SAMPLES to the folder that holds {dataset}/"
        )
    return Path(samples) / dataset


def _keyframes(
    recordings: Recordings,
    folder: Path,
    change: Callable[[ScanRecord, int], ScanRecord],
    size: tuple[int, int],
    batch: int,
    teacher: str,
    student: Mapping[str, object],
    storages: Sequence[str] = STORAGES,
) -> Keyframes:
    """`size`: partitions, and scans in each."""
    folder.mkdir(parents=True)
    name = recordings.reader
    dataset = Dataset(reader=name, root=str(recordings.root), version=recordings.version)
    index = recordings.index or make_index(folder, name, dataset)[0]
    splits = sorted({entry.split for entry in index.partitions if entry.images})
    config = Config.model_validate(
        {
            "workdir": str(folder),
            "datasets": {name: {"reader": name, "root": str(recordings.root), "version": recordings.version}},
            "teachers": {
                storage: {"model": teacher, "image_size": IMAGE, "storage": storage} for storage in storages
            },
            "students": {
                storage: {
                    "datasets": [name],
                    "splits": splits,
                    "teacher": storage,
                    "pretrain": {"batch": 2},
                    **student,
                }
                for storage in storages
            },
        }
    )
    plan = plan_experiment(config, indices={name: index})
    found = [scan for entry in index.partitions for scan in index.load_partition(entry).scans]
    partitions, each = size
    scans = [
        change(replace(found[number % len(found)], name=f"scan-{number}"), number)
        for number in range(partitions * each)
    ]
    records = [
        PartitionRecord(f"scene-{number}", "train", tuple(scans[number * each :][:each]))
        for number in range(partitions)
    ]
    rng = np.random.default_rng(0)
    grids = rng.normal(size=(each * len(scans[0].images), *GRID, CHANNELS[teacher])).astype(np.float32)
    runs = {}
    for storage in storages:
        run = plan.runs[storage]
        block = run.student
        block = block.model_copy(update={"pretrain": block.pretrain.model_copy(update={"batch": batch})})
        stores = {stage: stores[0] for stage, stores in plan.experiment.stores(name, block).items()}
        readings = tuple(_fill(recordings, plan, block.points, stores, record, grids) for record in records)
        runs[storage] = replace(run, student=block, readings=readings)
    return Keyframes(recordings, plan, runs, tuple(scans))


def _fill(
    recordings: Recordings,
    plan: Plan,
    points: Points,
    stores: dict[str, Store],
    partition: PartitionRecord,
    grids: np.ndarray,
) -> Reading:
    """One partition's stores, those that are not there yet, and where they are."""
    members = {stage: str(member) for stage, member in partition.member_digests().items()}
    at = {stage: plan.experiment.store_path(store) for stage, store in stores.items()}
    reader = reader_named(recordings.reader)
    traits = reader.traits
    if not is_valid(at["views"], partition.name, members["views"]):
        targets = {
            stage: Target(stores[stage], partition, members[stage], at[stage]) for stage in ("scans", "views")
        }
        write_scans(targets["scans"], reader, recordings.root)
        write_views(
            targets["views"],
            PartitionReader(at["scans"], SCANS, partition.name, members["scans"]),
            points,
            traits.cameras,
            traits.published_mask,
            traits.published_voxels,
        )
    storage = stores["features"].identity["storage"]
    with PartitionWriter(
        at["features"],
        features_schema(storage),
        partition=partition.name,
        member_digest=members["features"],
        identity=stores["features"].identity,
        attributes={
            "images": [image.path for image in partition.images],
            "teacher": {},
            "unreadable": [],
            "licence": "",
            "image_size": list(IMAGE),
            "patch": 14,
        },
    ) as writer:
        for name, values in encode(grids, storage).items():
            writer.put(name, values)
        writer.publish(counts={"images": len(grids)}, left_out=[])
    return Reading(
        recordings.reader,
        "train",
        partition.name,
        scans=(stores["scans"].folder, members["scans"]),
        views=(stores["views"].folder, members["views"]),
        features=((stores["features"].folder, members["features"]),),
        identities={store.folder: store.identity for store in stores.values()},
    )
