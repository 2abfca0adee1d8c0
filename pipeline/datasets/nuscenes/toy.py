"""Writes toy recordings in the on-disk format of nuScenes, readable by its devkit.

    <root>/v1.0-trainval/*.json    all scenes          <root>/samples/<channel>/…    point clouds, images
    <root>/v1.0-mini/*.json        those of the        <root>/lidarseg/<version>/…   point labels
                                   official mini lists <root>/maps/…                 a blank map mask
    <root>/toy/<scene>.json        one record a scene, written last: its parameters, files and table rows

A scene depends on its name and the parameters alone, so scenes can be added at any time: those whose record
and files are there are kept as they are. The tables are put together from the records.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from cache_schemas.errors import BadInput
from cache_schemas.publish import write_bytes
from pipeline.datasets.nuscenes.toy_scene import (
    LABEL_FOLDER,
    Parameters,
    label_file,
    write_labels,
    write_scene,
)
from pipeline.datasets.nuscenes.toy_tables import CAMERAS, build_tables, map_file

Progress = Callable[
    [str, str, int, int], None
]  # scene; "written", "kept" or "labelled"; scenes done; of how many
_MINI_LABEL_FOLDER = "lidarseg/v1.0-mini"


@dataclass(frozen=True)
class ToySummary:
    """What a call of write_toy wrote, and what the tree holds now."""

    root: Path
    written: tuple[str, ...]  # scenes rendered by this call
    reused: tuple[str, ...]  # scenes that were complete already, asked for or not
    scenes: int
    scans: int
    images: int
    points: int
    bytes: int  # of point clouds and images
    seconds: float


def toy_scene_names(train: int, val: int) -> tuple[list[str], list[str]]:
    """Names from the official lists: those of the mini lists first, so that v1.0-mini and mini_val exist."""
    from nuscenes.utils import splits  # takes two seconds to import

    names = []
    for kind, count, mini, all_names in (
        ("train", train, splits.mini_train, splits.train), ("val", val, splits.mini_val, splits.val)
    ):  # fmt: skip
        first = [name for name in mini if name in all_names]
        order = first + [name for name in all_names if name not in first]
        if not 0 <= count <= len(order):
            raise BadInput(
                f"--{kind} {count}: nuScenes has {len(order)} {kind} scenes; ask for 0 to {len(order)}"
            )
        names.append(order[:count])
    if not any(names):
        raise BadInput("--train 0 --val 0: no scene to write; ask for at least one")
    return names[0], names[1]


def write_toy(
    root: Path,
    *,
    train: int = 10,
    val: int = 4,
    scans: int = 6,
    image: tuple[int, int] = (252, 448),
    beams: int = 32,
    azimuths: int = 360,
    seed: int = 0,
    processes: int | None = None,
    labels: bool = True,
    progress: Progress | None = None,
) -> ToySummary:
    """Writes, or completes, a toy tree under `root`; image: (rows, cols); processes: default one a core.

    With labels=False no label files are written; a later call with labels=True adds them and renders nothing
    anew. Scenes of the tree that are not asked for stay.

    Raises:
        BadInput: if the tree was written with other parameters, or the numbers make no sense.
    """
    started = time.monotonic()
    root = Path(root)
    parameters = Parameters(scans, (image[0], image[1]), beams, azimuths, seed)
    _check(parameters)
    asked = [name for names in toy_scene_names(train, val) for name in names]
    records = _complete_records(root, parameters)
    kept = tuple(records)
    _write_scenes(root, asked, parameters, labels, records, processes, progress)
    _write_tables(root, records)
    return ToySummary(
        root=root,
        written=tuple(name for name in asked if name not in kept),
        reused=kept,
        scenes=len(records),
        scans=scans * len(records),
        images=len(CAMERAS) * scans * len(records),
        points=sum(record["points"] for record in records.values()),
        bytes=sum(size for record in records.values() for _, size in record["files"]),
        seconds=time.monotonic() - started,
    )


def _check(parameters: Parameters) -> None:
    least = {"scans": 1, "beams": 2, "azimuths": 8}
    for name, bound in least.items():
        if getattr(parameters, name) < bound:
            raise BadInput(f"{name} {getattr(parameters, name)}: must be at least {bound}")
    if min(parameters.image) < 8:
        raise BadInput(f"image {parameters.image}: rows and cols must be at least 8")


def _complete_records(root: Path, parameters: Parameters) -> dict[str, dict]:
    """The records of the tree's complete scenes, by name in order; raises if any has other parameters."""
    tables = sorted(root.glob("v1.0-*/scene.json"))
    if tables and not (root / "toy").is_dir():
        raise BadInput(
            f"{root} holds recordings that griddle toy did not write ({tables[0]}); they would be overwritten. "
            "Name another --root"
        )
    records = {}
    for path in sorted((root / "toy").glob("scene-*.json")):
        try:
            record = json.loads(path.read_text())
        except ValueError:
            continue  # cut off or damaged: its scene counts as not written
        for key, wanted in parameters.recorded().items():
            found = record["parameters"].get(key)
            if found != wanted:
                raise BadInput(
                    f"{root} was written with {key} {found}; now {key} {wanted} is asked for ({path.name}). "
                    "Ask for the same, name another --root, or delete that folder"
                )
        if all(_size(root / name) == size for name, size in record["files"]):
            records[record["scene"]] = record
    return records


def _size(path: Path) -> int | None:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return None


def _label_files(record: dict) -> dict[str, int]:
    """A scene's label files by sample_data token, and their sizes: one byte a point of five float32."""
    sizes = dict(record["files"])
    return {
        row["token"]: sizes[row["filename"]] // 20
        for row in record["tables"]["sample_data"]
        if row["fileformat"] == "pcd"
    }


def _has_labels(root: Path, record: dict) -> bool:
    return all(_size(root / label_file(name)) == size for name, size in _label_files(record).items())


def _write_scenes(
    root: Path, asked: list[str], parameters: Parameters, labels: bool, records: dict[str, dict],
    processes: int | None, progress: Progress | None,
) -> None:  # fmt: skip
    """Makes the asked scenes complete, and adds their records."""
    report = progress or (lambda *_: None)
    tasks = {}
    done = 0
    for name in asked:
        if name not in records:
            tasks[name] = "written"
        elif labels and not _has_labels(root, records[name]):
            tasks[name] = "labelled"
        else:
            done += 1
            report(name, "kept", done, len(asked))
    workers = min(processes or _cores(), len(tasks))
    for name, record in _run(root, tasks, parameters, labels, workers):
        records[name] = record or records[name]
        done += 1
        report(name, tasks[name], done, len(asked))


def _run(
    root: Path, tasks: dict[str, str], parameters: Parameters, labels: bool, workers: int
) -> Iterator[tuple[str, dict | None]]:
    """Yields (scene, new record or None) as the tasks end."""
    jobs: dict[str, Callable[[], dict | None]] = {
        name: partial(write_scene, root, name, parameters, labels)
        if kind == "written"
        else partial(write_labels, root, name, parameters)
        for name, kind in tasks.items()
    }
    if workers <= 1:
        for name, job in jobs.items():
            yield name, job()
        return
    # Spawned, not forked: the caller may hold threads.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(job): name for name, job in jobs.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _cores() -> int:
    """Cores this process may use, which a scheduler may have made fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _write_tables(root: Path, records: dict[str, dict]) -> None:
    """Writes the tables of both versions; a file that would not change is left alone."""
    from nuscenes.utils import splits

    if not (root / map_file()).exists():
        buffer = io.BytesIO()
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(buffer, "PNG")
        write_bytes(root / map_file(), buffer.getvalue())
    mini_names = {*splits.mini_train, *splits.mini_val}
    ordered = [records[name] for name in sorted(records)]
    mini = [record for record in ordered if record["scene"] in mini_names]
    for version, folder, chosen in (
        ("v1.0-trainval", LABEL_FOLDER, ordered), ("v1.0-mini", _MINI_LABEL_FOLDER, mini)
    ):  # fmt: skip
        labels = {
            data: label_file(data, folder)
            for record in chosen
            for data, size in _label_files(record).items()
            if _size(root / label_file(data)) == size
        }
        if folder != LABEL_FOLDER:
            for data, filename in labels.items():
                _replace(root / filename, (root / label_file(data)).read_bytes())
        tables = build_tables((record["tables"] for record in chosen), labels)
        for table, rows in tables.items():
            _replace(root / version / f"{table}.json", json.dumps(rows, indent=0).encode())


def _replace(path: Path, content: bytes) -> None:
    if _size(path) != len(content) or path.read_bytes() != content:
        write_bytes(path, content)
