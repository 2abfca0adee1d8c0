"""Doing a lot: its partitions one after the other, those that are valid skipped, the lot manifest written last."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from cache_schemas.canonical import digest
from cache_schemas.disk import writing_to
from cache_schemas.errors import BadInput
from cache_schemas.manifest import Manifest, made, open_partition
from cache_schemas.publish import delete, sweep_dead, working_folder, write_json
from pipeline.common.log import log
from pipeline.common.progress import duration
from pipeline.datasets.records import PartitionRecord
from pipeline.plan.experiment import Experiment
from pipeline.plan.lot_status import KIND, is_done
from pipeline.plan.parts import Lot

Compute = Callable[[PartitionRecord, str, Path], "Manifest | Future[Manifest]"]
"""(partition, member digest, store folder) -> the published manifest, or the promise of one.

A promise lets the next partition be computed while this one is flushed and published; one at most is waited for.
"""


def do_lot(
    experiment: Experiment, lot: Lot, compute: Compute, prepare: Callable[[], None] | None = None
) -> Path:
    """Compute what is missing of a lot and write its manifest.

    A partition with bad input does not keep the others from being published. `prepare` is called once, if anything
    is to be computed: what it raises is no partition's fault.

    Raises:
        BadInput: when the lot is done, for the partitions that could not be.
        CannotWrite: at once, for a disk that is full or may only be read.
    """
    store = lot.store
    folder = experiment.store_path(store)
    index = experiment.indices[store.dataset]
    swept = sweep_dead(folder, [entry.name for entry, _ in lot.members])
    swept += sweep_dead(experiment.lot_path(lot).parent, [experiment.lot_path(lot).name])
    if swept:
        log(f"{store.stage} {store.dataset}: removed {len(swept)} leftover(s) of processes that were killed")
    valid = [is_done(experiment, store, entry.name, member) for entry, member in lot.members]
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
                if experiment.config.datasets[store.dataset].on_error == "skip"
                else f", or datasets.{store.dataset}.on_error: skip to go on without these files"
            )
        )
    return _write_lot(experiment, lot, folder)


def _try_to_write(folder: Path, name: str) -> None:
    """A folder that takes no file takes no partition. `name` is one whose leftovers are swept.

    Raises:
        CannotWrite: saying why not.
    """
    with writing_to(folder):
        delete(working_folder(folder, name))


def _write_lot(experiment: Experiment, lot: Lot, folder: Path) -> Path:
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
    path = experiment.lot_path(lot)
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
