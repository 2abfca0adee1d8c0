"""A toy tree on disk: its scenes are rendered by several processes, and those that are complete are kept.

    <root>/toy/<scene>.json     one record a scene, written last: its parameters and files

A scene depends on its name and the parameters alone, so scenes can be added at any time. What the recordings are and
where they lie is the format's.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from cache_schemas.errors import BadInput
from cache_schemas.publish import write_bytes
from pipeline.datasets.town.parameters import Parameters

Record = dict[str, Any]
Progress = Callable[
    [str, str, int, int], None
]  # scene; "written", "kept" or "labelled"; scenes done; of how many


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


@dataclass(frozen=True)
class Format:
    """How one dataset's scenes are written. Functions that run in other processes are a module's own, or partial.

    Attributes:
        cameras: images a scan.
        others: recordings whose presence means that the tree is not ours, where it has no folder `toy`.
        scene: renders a scene (root, name, parameters) and writes its files, then its record, which it gives.
        finish: writes what is put together from all records (root, records by scene).
        lacks_labels: whether a scene (root, record) was written without labels, which
        labels: then writes (root, name, parameters).
    """

    cameras: int
    others: Callable[[Path], Iterable[Path]]
    scene: Callable[[Path, str, Parameters], Record]
    finish: Callable[[Path, dict[str, Record]], None]
    lacks_labels: Callable[[Path, Record], bool] | None = None
    labels: Callable[[Path, str, Parameters], None] | None = None


def write_tree(
    root: Path,
    form: Format,
    asked: list[str],
    parameters: Parameters,
    processes: int | None,
    progress: Progress | None,
) -> ToySummary:
    """Writes, or completes, the scenes asked for; processes: default one a core. Scenes of the tree that are not asked
    for stay.

    Raises:
        BadInput: if the tree was written with other parameters, or by others.
    """
    started = time.monotonic()
    parameters.check()
    records = _complete_records(root, form, parameters)
    kept = tuple(records)
    _write_scenes(root, form, asked, parameters, records, processes, progress or (lambda *_: None))
    form.finish(root, records)
    return ToySummary(
        root=root,
        written=tuple(name for name in asked if name not in kept),
        reused=kept,
        scenes=len(records),
        scans=parameters.scans * len(records),
        images=form.cameras * parameters.scans * len(records),
        points=sum(record["points"] for record in records.values()),
        bytes=sum(size for record in records.values() for _, size in record["files"]),
        seconds=time.monotonic() - started,
    )


def _complete_records(root: Path, form: Format, parameters: Parameters) -> dict[str, Record]:
    """The records of the tree's complete scenes, by name in order; raises if any has other parameters."""
    others = sorted(form.others(root))
    if others and not (root / "toy").is_dir():
        raise BadInput(
            f"{root} holds recordings that griddle toy did not write ({others[0]}); they would be overwritten. "
            "Name another --root"
        )
    records = {}
    for path in sorted((root / "toy").glob("[!.]*.json")):
        try:
            record = json.loads(path.read_text())
        except ValueError:
            continue  # cut off or damaged: its scene counts as not written
        for key, wanted in parameters.recorded().items():
            recorded = record["parameters"].get(key)
            if recorded != wanted:
                raise BadInput(
                    f"{root} was written with {key} {recorded}; now {key} {wanted} is asked for ({path.name}). "
                    "Ask for the same, name another --root, or delete that folder"
                )
        if all(file_size(root / name) == size for name, size in record["files"]):
            records[record["scene"]] = record
    return records


def _write_scenes(
    root: Path, form: Format, asked: list[str], parameters: Parameters, records: dict[str, Record],
    processes: int | None, report: Progress,
) -> None:  # fmt: skip
    """Makes the asked scenes complete, and adds their records."""
    tasks: dict[str, tuple[str, Callable[[Path, str, Parameters], Record | None]]] = {}
    done = 0
    for name in asked:
        if name not in records:
            tasks[name] = "written", form.scene
        elif form.labels and form.lacks_labels and form.lacks_labels(root, records[name]):
            tasks[name] = "labelled", form.labels
        else:
            done += 1
            report(name, "kept", done, len(asked))
    workers = min(processes or _cores(), len(tasks))
    calls = {name: call for name, (_, call) in tasks.items()}
    for name, record in _run(root, calls, parameters, workers):
        records[name] = record or records[name]
        done += 1
        report(name, tasks[name][0], done, len(asked))


def _run(
    root: Path,
    calls: dict[str, Callable[[Path, str, Parameters], Record | None]],
    parameters: Parameters,
    workers: int,
) -> Iterator[tuple[str, Record | None]]:
    """Yields (scene, new record or None) as the calls end."""
    if workers <= 1:
        for name, call in calls.items():
            yield name, call(root, name, parameters)
        return
    # Spawned, not forked: the caller may hold threads.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(call, root, name, parameters): name for name, call in calls.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _cores() -> int:
    """Cores this process may use, which a scheduler may have made fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def record_path(root: Path, name: str) -> Path:
    return root / "toy" / f"{name}.json"


def file_size(path: Path) -> int | None:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return None


def put(path: Path, content: bytes) -> None:
    """Puts a recording in place whole. Not flushed to disk: the record tells its size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    beside.write_bytes(content)
    os.replace(beside, path)


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file, unless it would not change."""
    if file_size(path) != len(content) or path.read_bytes() != content:
        write_bytes(path, content)
