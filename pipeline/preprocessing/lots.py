"""Doing a lot: its missing partitions are computed one after the other, and the lot manifest is written last."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from cache_schemas.canonical import digest
from cache_schemas.disk import writing_to
from cache_schemas.errors import BadInput
from cache_schemas.manifest import Manifest, made, open_partition
from cache_schemas.publish import delete, sweep_dead, working_folder, write_json
from cache_schemas.sources import digest_of_sources
from pipeline.common.log import log
from pipeline.common.progress import duration
from pipeline.datasets.data_warnings import line, shown
from pipeline.datasets.fence import ReaderMistake, Stumbled
from pipeline.plan.experiment import Experiment
from pipeline.plan.lot_status import KIND, is_done
from pipeline.plan.parts import Lot
from pipeline.preprocessing.target import Target

Compute = Callable[[Target], "Manifest | Future[Manifest]"]
"""From where a partition is written to its published manifest, or to a future of it.

A future lets the next partition be computed while this one is flushed and published. At most one is waited for.
"""


def do_lot(
    experiment: Experiment, lot: Lot, compute: Compute, prepare: Callable[[], None] | None = None
) -> Path:
    """Compute what is missing of a lot and write its manifest.

    A partition with bad input does not keep the others from being published.

    Args:
        prepare: called once, before the first partition that is to be computed. An error of it is no partition's fault.

    Raises:
        BadInput: when the lot is done, for the partitions that could not be computed.
        CannotWrite: at once, for a disk that is full or may only be read.
    """
    store = lot.store
    folder = experiment.store_path(store)
    index = experiment.indices[store.dataset]
    swept = sweep_dead(folder, [entry.name for entry, _ in lot.members])
    swept += sweep_dead(experiment.lot_path(lot).parent, [experiment.lot_path(lot).name])
    if swept:
        log(f"{store.stage} {store.dataset}: removed {len(swept)} leftover(s) of processes that were killed")
    missing = [
        (entry, member) for entry, member in lot.members if not is_done(experiment, store, entry.name, member)
    ]
    log(
        f"{store.stage} {store.dataset} {lot.split}: {len(missing)} of {len(lot.members)} partition(s) to compute → "
        f"{folder}"
    )
    if missing:
        _try_to_write(folder, lot.entries[0].name)  # before a teacher is loaded for nothing
        if prepare is not None:
            prepare()
    allow = experiment.config.datasets[store.dataset].allow
    with _Partitions(compute, len(missing), allow) as partitions:
        for entry, member in missing:
            partitions.compute(Target(store, index.load_partition(entry), member, folder))
    if partitions.problems:
        raise _cannot_be_computed(experiment, lot, partitions.problems)
    return _write_lot(experiment, lot, folder)


class _Partitions:
    """A context in which partitions are computed one after the other.

    While one is computed, the one before it may still be being published. Leaving the context waits for the last one.

    Args:
        allow: kinds of warnings that are not shown.

    Attributes:
        problems: by partition, the error that says why it could not be computed.
    """

    def __init__(self, compute: Compute, count: int, allow: Collection[str] = ()) -> None:
        self.problems: dict[str, BadInput] = {}
        self._allow = allow
        self._compute, self._count = compute, count
        self._started, self._published = time.monotonic(), 0
        self._previous: _Promise | None = None

    def __enter__(self) -> _Partitions:
        return self

    def __exit__(self, *error: object) -> None:
        self._finish()

    def compute(self, target: Target) -> None:
        """Compute a partition; then wait for the one before it."""
        begun = time.monotonic()
        future = self._begin(target)
        self._finish()
        self._previous = _Promise(target.partition.name, begun, future)
        if future.done():
            self._finish()

    def _finish(self) -> None:
        """Wait until the previous partition is published, if there is one, and log what it holds."""
        promise, self._previous = self._previous, None
        if promise is None:
            return
        try:
            manifest = promise.future.result()
        except BadInput as error:
            self.problems[promise.name] = error
            log(f"  {promise.name}: cannot be computed: {error}")
            return
        now = time.monotonic()
        self._published += 1
        still_to_do = self._count - self._published - len(self.problems)
        left = (now - self._started) / self._published * still_to_do
        log(f"  {promise.name}: {_described(manifest, now - promise.begun)}, {duration(left)} left")
        for entry in manifest.left_out:
            log(f"    left out: {entry['what']}: {entry['why']}")
        for warning in shown(manifest.warnings, self._allow):
            log(f"    {line(warning)}")

    def _begin(self, target: Target) -> Future[Manifest]:
        """A future of the manifest; it is done already if `compute` gave a manifest, or if its input was bad."""
        done: Future[Manifest] = Future()
        try:
            manifest = self._compute(target)
        except BadInput as error:
            done.set_exception(error)
            return done
        if isinstance(manifest, Future):
            return manifest
        done.set_result(manifest)
        return done


@dataclass(frozen=True)
class _Promise:
    """A partition that is computed, and perhaps not yet published. begun: by the monotonic clock, s."""

    name: str
    begun: float
    future: Future[Manifest]


def _cannot_be_computed(experiment: Experiment, lot: Lot, problems: Mapping[str, BadInput]) -> BadInput:
    """What to do about the partitions that could not be computed."""
    dataset = lot.store.dataset
    block = experiment.config.datasets[dataset]
    mistaken = any(isinstance(problem, ReaderMistake) for problem in problems.values())
    with_files = [name for name, problem in problems.items() if not isinstance(problem, ReaderMistake)]
    advice = []
    if mistaken:
        advice.append(f"Mend the reader {block.reader} and run again: no file is at fault.")
    if with_files:
        advice.append(
            f"Mend {_what_to_mend(problems)} and run again, or write datasets.{dataset}.leave_out: [{', '.join(with_files)}]"
            + (
                ""
                if block.on_error == "skip"
                else f", or datasets.{dataset}.on_error: skip to go on without these files"
            )
        )
    return BadInput(
        f"{len(problems)} of {len(lot.members)} partition(s) of {dataset} cannot be computed:\n"
        + "".join(f"  {name}: {problem}\n" for name, problem in problems.items())
        + "\n".join(advice)
    )


def _what_to_mend(problems: Mapping[str, BadInput]) -> str:
    """The files alone, unless a reader's code tripped over them: then it may be that code, at these lines."""
    lines = sorted(
        {problem.line for problem in problems.values() if isinstance(problem, Stumbled) and problem.line}
    )
    more = " ..." if len(lines) > 3 else ""
    return f"the files or the reader ({'; '.join(lines[:3])}{more})" if lines else "their files"


def _try_to_write(folder: Path, name: str) -> None:
    """Write a file into a store's folder and remove it. name: of a partition; its writer's leftovers are removed, too.

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
                **_sources(m),
                **({"warnings": m.warnings} if m.warnings else {}),
            }
            for m in manifests
        ],
    }
    path = experiment.lot_path(lot)
    with writing_to(path.parent):
        write_json(path, {**body, "digest": digest(body), "made": made()})
    return path


def _sources(manifest: Manifest) -> dict[str, str]:
    """One digest of what a partition was made of, where that was recorded."""
    value = digest_of_sources(manifest)
    return {} if value is None else {"sources": value}


def _described(manifest: Manifest, seconds: float) -> str:
    """What a partition holds, and how fast it was made: by the manifest's own times, if it has some."""
    counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in manifest.counts.items())
    seconds = max(1e-9, manifest.body["made"].get("seconds", seconds))
    rate = manifest.body["made"].get("images_per_second")
    return (
        f"{counts}, {manifest.bytes / 1e6:.1f} MB in {seconds:.1f} s ({manifest.bytes / 1e6 / seconds:.1f} MB/s"
        + (f", {rate:.1f} images/s)" if rate else ")")
    )
