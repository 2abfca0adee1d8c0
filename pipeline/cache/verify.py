"""Verifying a cache: each partition by itself, then against the index and the lot manifests; and removing what is broken."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cache_schemas.belonging import check_same_scans
from cache_schemas.contents import NAME, StoreFolder, list_store, store_folders
from cache_schemas.disk import writing_to
from cache_schemas.errors import BadInput, DamagedCache, NoAccess
from cache_schemas.manifest import Manifest, is_valid, manifest_path
from cache_schemas.publish import remove_tree
from cache_schemas.reading import PartitionReader
from cache_schemas.removal import remove_partition
from cache_schemas.scans import SCANS
from cache_schemas.stores import schema_of
from cache_schemas.verify import Problem, Verified, verify_partition
from pipeline.cache.listing import wanted_members
from pipeline.cache.verify_workdir import index_problems, mend_index, run_problems, stats_problems
from pipeline.common.log import log
from pipeline.datasets.index import PartitionEntry
from pipeline.datasets.records import PartitionRecord
from pipeline.plan.lot_status import drop_lots_naming, read_lot
from pipeline.plan.parts import STAGES, Store
from pipeline.plan.plan import Plan

SPEAK_EVERY = 10.0
"""Seconds between two lines about a verification that takes long."""


@dataclass(frozen=True)
class Target:
    """One partition to be verified, with what the plan knows of it."""

    store: StoreFolder
    manifest: Path
    planned: tuple[Store, PartitionEntry] | None = None


@dataclass
class Verification:
    """What was verified, and what is wrong.

    Attributes:
        compared: whether partitions were compared with the index.
        unreachable: what the system refused to read, one for each partition; nothing is known of it, and `repair` leaves these
            partitions alone.
        missing: manifests of partitions that the config wants and that are not computed yet.
        leftovers: how many names in the store folders belong to no manifest; `griddle cache gc` lists them.
        repaired: manifests of the removed partitions, and index.json of each index that was made anew.
        workdir_files: what is wrong with files of the workdir: of indices, under their index.json, and of finished runs,
            under their done.json.
        unrecorded: how many finished runs recorded no digests of their files, for they were made before.
    """

    cache: Path
    compared: bool
    stores: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unreachable: list[Problem] = field(default_factory=list)
    missing: list[Path] = field(default_factory=list)
    leftovers: int = 0
    repaired: list[Path] = field(default_factory=list)
    workdir_files: list[Problem] = field(default_factory=list)
    unrecorded: int = 0

    @property
    def partitions(self) -> int:
        return sum(store["partitions"] for store in self.stores.values())


def verify_cache(
    cache: Path,
    plan: Plan | None,
    paths: Sequence[Path] = (),
    *,
    sample: int | None = None,
    threads: int = 2,
) -> Verification:
    """Verify a cache, or only the `paths` in it, or a random sample of so many partitions.

    Args:
        plan: its index and lot manifests are compared. Without it each partition is only checked by itself.

    Raises:
        BadInput: if a path is no store or partition of this cache.
        NoAccess: if the system refuses to list a folder.
    """
    result = Verification(cache, plan is not None)
    if plan is not None and not paths:
        for index in plan.experiment.indices.values():
            result.workdir_files += index_problems(index)
        problems, unreachable, result.unrecorded = run_problems(plan.experiment.workdir)
        result.unreachable += unreachable
        result.workdir_files += [*problems, *stats_problems(plan.experiment.workdir)]
    planned = _planned(plan) if plan is not None else {}
    targets = list(_targets(cache, planned, paths, result))
    if sample is not None and sample < len(targets):
        targets = random.sample(targets, sample)
    looked_at = {target.manifest for target in targets}
    started = spoken = time.monotonic()
    checked_bytes = 0
    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        outcomes = pool.map(lambda target: _verify(target, plan), targets)
        for number, (target, verified) in enumerate(zip(targets, outcomes, strict=True), 1):
            _add(result, target, verified)
            checked_bytes += verified.bytes
            if time.monotonic() - spoken > SPEAK_EVERY:
                spoken = time.monotonic()
                speed = checked_bytes / (spoken - started)
                log(f"verify: {number} of {len(targets)} partition(s), {speed / 1e6:.0f} MB/s")
    if plan is not None and not paths and sample is None:
        _compare_lots(plan, looked_at, result)
    return result


def repair(result: Verification, workdirs: Iterable[Path], plan: Plan | None = None) -> list[Path]:
    """Remove what is broken, the manifest first, and each lot manifest that names it, so that it is computed anew.

    A partition of which a file could not be read is left as it is: it was not checked whole. An index is made anew at once,
    from the dataset. Runs are left as they are: what is written anew of them, and what it costs, is for people to choose.

    Returns the removed manifests, and index.json of each index that was made anew.

    Raises:
        BadInput: if an index is broken, and its dataset cannot be read.
        CannotWrite: if the cache may only be read.
    """
    gone: set[tuple[str, str, str]] = set()
    for summary in dict.fromkeys(problem.manifest for problem in result.workdir_files):
        if plan is not None and summary.name == "index.json":
            mend_index(plan, summary)
            result.repaired.append(summary)
        elif summary.parent.name == "stats":
            remove_tree(summary)
            result.repaired.append(summary)
    unknown = {problem.manifest for problem in result.unreachable}
    for manifest in dict.fromkeys(problem.manifest for problem in result.problems):
        if manifest in unknown:
            continue
        name = NAME.fullmatch(manifest.name)
        with writing_to(manifest.parent):
            if name is None:  # a lot manifest
                remove_tree(manifest)
            else:
                remove_partition(manifest.parent, name["partition"], name["digest"])
                folder = manifest.parent.absolute().relative_to(result.cache.absolute())
                gone.add((str(folder), name["partition"], name["digest"]))
        result.repaired.append(manifest)
    for workdir in workdirs:
        drop_lots_naming(workdir, lambda *member: member in gone)
    return result.repaired


def cache_of(path: Path) -> Path | None:
    """The cache that holds a store or partition, found by the names of the folders above it."""
    names = path.absolute()
    for folder in (names, *names.parents):
        if folder.name in ("scans", "views", "full_scans", "features"):
            return folder.parent
    return None


def _planned(plan: Plan) -> dict[Path, tuple[Store, PartitionEntry]]:
    """Every partition that the plan wants, by its manifest."""
    return {
        manifest_path(plan.experiment.store_path(store), entry.name, member).absolute(): (store, entry)
        for store, entry, member in wanted_members(plan)
    }


def _targets(
    cache: Path,
    planned: dict[Path, tuple[Store, PartitionEntry]],
    paths: Sequence[Path],
    result: Verification,
) -> Iterator[Target]:
    folders = store_folders(cache)
    wanted = [path.absolute() for path in paths]
    used: set[Path] = set()
    for store in folders:
        listing = list_store(store)
        inside = [p for p in wanted if store.path.absolute().is_relative_to(p)]
        used.update(inside)
        if not wanted or inside:
            result.leftovers += len(listing.beside) + len(listing.foreign)
            with suppress(NoAccess):  # each manifest is a target, which says it
                result.leftovers += len(listing.unnamed)
        for manifest in listing.manifests:
            single = [p for p in wanted if p in _names_of(manifest)]
            used.update(single)
            if not wanted or inside or single:
                yield Target(store, manifest, planned.get(manifest.absolute()))
        # A path that the user named and no manifest stands for: without its manifest nothing is of use.
        for path in wanted:
            match = NAME.fullmatch(path.name)
            if match and path not in used and path.parent == store.path.absolute():
                used.add(path)
                what = "is missing" if match["kind"] == "json" else "no manifest names it"
                result.problems.append(Problem(path, what, path))
    lost = [str(path) for path in wanted if path not in used]
    if lost:
        raise BadInput(
            f"{lost[0]} is no store, manifest or partition of the cache {cache}; `griddle cache ls` lists them"
        )


def _names_of(manifest: Path) -> tuple[Path, ...]:
    """The paths by which a partition may be named: its manifest, stores and sidecars."""
    match = NAME.fullmatch(manifest.name)
    partition = match["partition"] if match else ""
    beside = [p.absolute() for p in manifest.parent.glob(f"{partition}.*.zarr")]
    beside += [p.absolute() for p in manifest.parent.glob(f"{partition}.*.crc")]
    return (manifest.absolute(), *beside)


def _verify(target: Target, plan: Plan | None) -> Verified:
    identity = target.planned[0].identity if target.planned else None
    verified = verify_partition(target.store, target.manifest, identity)
    if (
        verified.manifest is not None
        and not verified.problems
        and not verified.unreachable
        and plan is not None
        and target.planned
    ):
        store, entry = target.planned
        try:
            record = plan.experiment.indices[store.dataset].load_partition(entry)
        except BadInput:
            return verified  # that damage is reported for the index itself
        try:
            for what in _against_index(plan, store, entry, record, verified.manifest):
                verified.problems.append(Problem(verified.manifest.store, what, target.manifest))
        except NoAccess as error:
            verified.unreachable.append(Problem(target.manifest, str(error), target.manifest))
    return verified


def _against_index(
    plan: Plan, store: Store, entry: PartitionEntry, record: PartitionRecord, manifest: Manifest
) -> Iterator[str]:
    """In what a sound partition contradicts the index."""
    reader = PartitionReader(
        manifest.path.parent, schema_of(manifest), manifest.partition, manifest.member_digest
    )
    attributes = reader.attributes
    listed = {"scans": record.scan_names, "images": [i.path for i in record.images]}
    for name, wanted in listed.items():
        if name in attributes and attributes[name] != wanted:
            yield (
                f"lists {len(attributes[name])} {name}, not the {len(wanted)} of the index"
                if len(attributes[name]) != len(wanted)
                else f"lists other {name} than the index"
            )
            return
    if store.stage == "views":
        cameras = plan.experiment.traits[store.dataset].cameras
        sizes = np.array([[i.height, i.width] for i in record.images]).reshape(-1, 2)
        if not np.array_equal(reader.read("image_size"), sizes):
            yield "gives other sizes of images than the index"
        if reader.read("view_camera").tolist() != [cameras.index(image.camera) for image in record.images]:
            yield "names other cameras than the index"
        scan_of_view = [number for number, scan in enumerate(record.scans) for _ in scan.images]
        if reader.read("view_scan").tolist() != scan_of_view:
            yield "pairs views with other scans than the index"
    if store.stage in ("views", "labels", "full_scans"):
        scans, member = plan.experiment.store_path(store.scans), str(entry.members["scans"])
        if not is_valid(scans, entry.name, member):
            return
        try:
            points = PartitionReader(scans, SCANS, entry.name, member)
            points.read("scan_offsets")
        except DamagedCache:
            return  # that damage is reported for the scan store itself
        try:
            check_same_scans(reader, points)
        except DamagedCache as error:
            yield str(error).splitlines()[0]


def _add(result: Verification, target: Target, verified: Verified) -> None:
    row = result.stores.setdefault(
        target.store.folder,
        {"stage": target.store.stage, "partitions": 0, "broken": 0, "files": 0, "chunks": 0, "bytes": 0},
    )
    row["partitions"] += 1
    row["broken"] += bool(verified.problems)
    for name in ("files", "chunks", "bytes"):
        row[name] += getattr(verified, name)
    result.problems += verified.problems
    result.unreachable += verified.unreachable


def _compare_lots(plan: Plan, looked_at: set[Path], result: Verification) -> None:
    """Add partitions that the config wants and that are missing, and what lot manifests say that is not true."""
    present = {path.absolute() for path in looked_at}
    seen: set[Path] = set()
    broken = {problem.manifest.absolute() for problem in result.problems}
    for stage in STAGES:
        for lot in plan.lots(stage):
            path = plan.experiment.lot_path(lot)
            try:
                body = read_lot(path)
            except NoAccess as error:
                result.unreachable.append(Problem(path, str(error), path))
                continue
            folder = plan.experiment.store_path(lot.store)
            if body is None and path.exists():
                result.problems.append(Problem(path, "is damaged, or no lot manifest", path))
            recorded = {
                (p["name"], p["member_digest"]): p["content_digest"]
                for p in (body or {}).get("partitions", [])
            }
            for entry, member in lot.members:
                manifest = manifest_path(folder, entry.name, member).absolute()
                if manifest not in present:
                    if body is not None:
                        what = f"is missing, but {path} says that it is complete"
                        result.problems.append(Problem(manifest, what, manifest))
                    elif manifest not in seen:
                        result.missing.append(manifest)
                    seen.add(manifest)
                elif (
                    body is not None
                    and manifest not in broken
                    and not (folder / f"{entry.name}.{recorded.get((entry.name, member))}.zarr").is_dir()
                ):
                    result.problems.append(
                        Problem(path, f"names content of {entry.name} that is not there", path)
                    )
