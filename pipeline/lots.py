"""Doing a lot: its partitions one after the other, those that are valid skipped, the lot manifest written last."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from cache_schemas.canonical import digest
from cache_schemas.disk import writing_to
from cache_schemas.errors import BadInput, DamagedCache
from cache_schemas.manifest import Manifest, made, manifest_path, open_partition
from cache_schemas.publish import delete, is_beside, sweep_dead, working_folder, write_json
from pipeline.datasets.records import PartitionRecord
from pipeline.log import log
from pipeline.plan import STAGES, Lot, Plan, Store
from pipeline.progress import duration

KIND = "griddle lot"

Compute = Callable[[PartitionRecord, str, Path], "Manifest | Future[Manifest]"]
"""(partition, member digest, store folder) -> the published manifest, or the promise of one.

A promise lets the next partition be computed while this one is flushed and published; one at most is waited for.
"""


def do_lot(plan: Plan, lot: Lot, compute: Compute, prepare: Callable[[], None] | None = None) -> Path:
    """Compute what is missing of a lot and write its manifest.

    A partition with bad input does not keep the others from being published. `prepare` is called once, if anything
    is to be computed: what it raises is no partition's fault.

    Raises:
        BadInput: when the lot is done, for the partitions that could not be.
        CannotWrite: at once, for a disk that is full or may only be read.
    """
    store = lot.store
    folder = plan.cache / store.folder
    index = plan.indices[store.dataset]
    swept = sweep_dead(folder, [entry.name for entry, _ in lot.members])
    swept += sweep_dead(plan.lot_path(lot).parent, [plan.lot_path(lot).name])
    if swept:
        log(f"{store.stage} {store.dataset}: removed {len(swept)} leftover(s) of processes that were killed")
    valid = [is_done(plan, store, entry.name, member) for entry, member in lot.members]
    to_do = len(valid) - sum(valid)
    log(
        f"{store.stage} {store.dataset} {lot.split}: {to_do} of {len(valid)} partition(s) to compute → {folder}"
    )
    if to_do:
        _try_to_write(folder, lot.entries[0].name)  # before a teacher is loaded for nothing
        if prepare is not None:
            prepare()
    problems: list[tuple[str, str]] = []
    started, done = time.monotonic(), 0

    def finish(name: str, begun: float, promise: Future[Manifest]) -> None:
        nonlocal done
        try:
            manifest = promise.result()
        except BadInput as error:
            problems.append((name, str(error)))
            log(f"  {name}: cannot be computed: {error}")
            return
        done += 1
        left = (time.monotonic() - started) / done * (to_do - done - len(problems))
        log(f"  {name}: {_told(manifest, time.monotonic() - begun)}, {duration(left)} left")
        for item in manifest.left_out:
            log(f"    left out: {item['what']}: {item['why']}")

    before: Callable[[], None] | None = None  # the partition before, as long as it is a promise
    for (entry, member), there in zip(lot.members, valid, strict=True):
        if there:
            continue
        begun = time.monotonic()
        try:
            promise = _begin(compute, index.load_partition(entry), member, folder)
        finally:  # whatever becomes of this one
            if before:
                before()
        before = partial(finish, entry.name, begun, promise)
        if promise.done():
            before()
            before = None
    if before:
        before()
    if problems:
        raise BadInput(
            f"{len(problems)} of {len(valid)} partition(s) of {store.dataset} cannot be computed:\n"
            + "\n".join(f"  {name}: {problem}" for name, problem in problems)
            + f"\nMend their files and run again, or write datasets.{store.dataset}.leave_out: "
            + f"[{', '.join(name for name, _ in problems)}]"
            + (
                ""
                if plan.config.datasets[store.dataset].on_error == "skip"
                else f", or datasets.{store.dataset}.on_error: skip to go on without these files"
            )
        )
    return _write_lot(plan, lot, folder)


def is_done(plan: Plan, store: Store, partition: str, member: str) -> bool:
    """Whether a partition need not be computed: it is valid, and lacks nothing that the config does not let it lack."""
    folder = plan.cache / store.folder
    if not manifest_path(folder, partition, member).exists():
        return False
    try:
        counts = open_partition(folder, partition, member, store.identity).counts
    except DamagedCache:
        return False
    return plan.config.datasets[store.dataset].on_error == "skip" or not _lacks(counts)


def drop_stale_lots(plan: Plan) -> list[Path]:
    """Remove each lot manifest of this plan whose partitions are gone, so that they are computed again.

    So, too, those of partitions that lack what could not be read, where the config says `on_error: raise` (again).
    """
    listed: dict[Path, set[str]] = {}
    dropped: list[Path] = []
    for stage in STAGES:
        for lot in plan.lots(stage):
            path = plan.lot_path(lot)
            if not path.exists():
                continue
            body = read_lot(path)
            folder = plan.cache / lot.store.folder
            if folder not in listed:
                listed[folder] = set(os.listdir(folder)) if folder.is_dir() else set()
            if not _stands(plan, lot, body, listed[folder]):
                path.unlink()
                dropped.append(path)
    return dropped


def members_there(plan: Plan, lot: Lot, names: set[str]) -> list[bool]:
    """Of each member of a lot whether it is there, as the workflow will find it: by a lot manifest that stands, else as
    the stage looks at each. `names` are those in the store's folder."""
    if _stands(plan, lot, read_lot(plan.lot_path(lot)), names):
        return [True] * len(lot.members)
    return [
        f"{entry.name}.{member}.json" in names and is_done(plan, lot.store, entry.name, member)
        for entry, member in lot.members
    ]


def _stands(plan: Plan, lot: Lot, body: dict[str, Any] | None, names: set[str]) -> bool:
    """Whether a lot manifest (None: gone or damaged) says what is still so, and names nothing that must be mended."""
    if body is None or not _all_there(body, names):
        return False
    strict = plan.config.datasets[lot.store.dataset].on_error == "raise"
    return not (strict and any(_lacks(p["counts"]) for p in body["partitions"]))


def read_lot(path: Path) -> dict[str, Any] | None:
    """A lot manifest that agrees with its own digest; None for one that is gone or damaged."""
    try:
        body = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(body, dict) or body.get("griddle") != KIND:
        return None
    sealed = {key: value for key, value in body.items() if key not in ("digest", "made")}
    return body if digest(sealed) == body.get("digest") else None


def drop_lots_naming(workdir: Path, gone: Callable[[str, str, str], bool]) -> list[Path]:
    """Remove each lot manifest of a workdir that names a partition (store folder, name, member digest) that is gone.

    Those that cannot be read go, too: the next snakemake call writes them anew, and computes nothing for it.
    """
    dropped = []
    for path in sorted((workdir / "lots").glob("*/*.json")):
        if is_beside(path.name):
            continue
        body = read_lot(path)
        if body is None or any(
            gone(body["store"], p["name"], p["member_digest"]) for p in body["partitions"]
        ):
            path.unlink(missing_ok=True)
            dropped.append(path)
    return dropped


def _lacks(counts: Mapping[str, int]) -> bool:
    """Whether a partition was written without files that could not be read."""
    return counts.get("unreadable", 0) > 0


def _all_there(body: dict[str, Any], names: set[str]) -> bool:
    """Whether each partition of a lot manifest has its manifest, store and sidecar."""
    wanted = {
        f"{p['name']}.{suffix}"
        for p in body["partitions"]
        for suffix in (
            f"{p['member_digest']}.json",
            f"{p['content_digest']}.zarr",
            f"{p['content_digest']}.crc",
        )
    }
    return wanted <= names


def _try_to_write(folder: Path, name: str) -> None:
    """A folder that takes no file takes no partition. `name` is one whose leftovers are swept.

    Raises:
        CannotWrite: saying why not.
    """
    with writing_to(folder):
        delete(working_folder(folder, name))


def _write_lot(plan: Plan, lot: Lot, folder: Path) -> Path:
    manifests = [
        open_partition(folder, entry.name, member, lot.store.identity) for entry, member in lot.members
    ]
    body = {
        "griddle": KIND,
        "stage": lot.store.stage,
        "dataset": lot.store.dataset,
        "split": lot.split,
        "store": lot.store.folder,
        "partitions": [
            {
                "name": m.partition,
                "member_digest": m.member_digest,
                "content_digest": m.content_digest,
                "counts": m.counts,
                "left_out": m.left_out,
            }
            for m in manifests
        ],
    }
    path = plan.lot_path(lot)
    with writing_to(path.parent):
        write_json(path, {**body, "digest": digest(body), "made": made()})
    return path


def _begin(compute: Compute, partition: PartitionRecord, member: str, folder: Path) -> Future[Manifest]:
    """The promise of a manifest, kept already where `compute` returned one or its input was bad."""
    promise: Future[Manifest] = Future()
    try:
        came = compute(partition, member, folder)
    except BadInput as error:
        promise.set_exception(error)
        return promise
    if isinstance(came, Future):
        return came
    promise.set_result(came)
    return promise


def _told(manifest: Manifest, seconds: float) -> str:
    """What a partition holds, and how fast it was made: by its own account, if it gives one."""
    counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in manifest.counts.items())
    seconds = max(1e-9, manifest.body["made"].get("seconds", seconds))
    rate = manifest.body["made"].get("images_per_second")
    return (
        f"{counts}, {manifest.bytes / 1e6:.1f} MB in {seconds:.1f} s ({manifest.bytes / 1e6 / seconds:.1f} MB/s"
        + (f", {rate:.1f} images/s)" if rate else ")")
    )
