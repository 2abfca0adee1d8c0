"""What a plan would compute, read and write, before anything is: partitions, images, files, bytes, hours, free disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from cache_schemas.features import GROUP, features_schema
from cache_schemas.full_scans import FULL_SCANS
from cache_schemas.places import place_of
from cache_schemas.scans import LABELS, SCANS
from cache_schemas.views import VIEWS
from pipeline.config.model import Dataset, Points, Teacher
from pipeline.datasets.index import Index, PartitionEntry
from pipeline.plan.cost.shares import FullScanShare, Share, ViewShares, full_scan_share, view_shares
from pipeline.plan.cost.sizes import Size, grid_shape, partition_size
from pipeline.plan.cost.teacher_rate import Rate, recorded_rate
from pipeline.plan.data_warnings import warnings_of
from pipeline.plan.lot_status import members_done
from pipeline.plan.parts import STAGES, Lot, names_in
from pipeline.plan.plan import Plan

AnyShare = TypeVar("AnyShare", bound=Share)


@dataclass
class StoreEstimate:
    """What is still to be done for one store of one dataset.

    Attributes:
        folder: of the store, relative to the cache.
        done: partitions that need not be computed.
        to_compute: partitions that must be; `scans`, `images`, `files` and `bytes` are theirs.
        images: that the teacher will be run on.
        bytes: that will be written, about; None where the teacher's name does not say its channels.
        source: where the size of views and of full scans comes from.
    """

    stage: str
    dataset: str
    folder: str
    lots: int = 0
    done: int = 0
    to_compute: int = 0
    scans: int = 0
    images: int = 0
    files: int = 0
    bytes: int | None = 0
    source: str | None = None

    def facts(self) -> dict[str, Any]:
        """For JSON, which calls `done` there."""
        return {"there" if key == "done" else key: value for key, value in asdict(self).items()}


@dataclass(frozen=True)
class Teaching:
    """How long one teacher runs.

    Attributes:
        rate: images a second, or None where nobody knows.
    """

    teacher: str
    images: int
    rate: Rate | None

    @property
    def hours(self) -> float | None:
        return self.images / self.rate.images_per_second / 3600 if self.rate else None


class PartitionSizes:
    """Sizes of a plan's partitions. Which share of points a store holds is measured at most once.

    `shares`: those of views by dataset, where there are no scans to measure.
    """

    def __init__(self, plan: Plan, shares: Mapping[str, ViewShares] | None = None) -> None:
        self.plan = plan
        self._given = shares
        self._view_shares: dict[str, ViewShares] = {}
        self._full_scan_shares: dict[str, FullScanShare] = {}

    def of(self, lot: Lot, entry: PartitionEntry) -> Size | None:
        """Of one partition in the lot's store; None for a teacher whose name does not say its channels."""
        store, source = lot.store, lot.store.source
        points = entry.points
        sizes = {"scan_bound": entry.scans + 1, "point": points}
        names = entry.scans + (entry.images if source is not None else 0)
        if isinstance(source, Teacher):
            grid = grid_shape(source)
            if grid is None:
                return None
            rows, columns, channels = grid
            sizes = {
                "image": entry.images,
                "row": rows,
                "col": columns,
                "channel": channels,
                "group": -(-channels // GROUP),
            }
            schema = features_schema(source.storage)
            return partition_size(
                schema, sizes, names=entry.images, identity=store.identity, sources=entry.images
            )
        if store.stage == "full_scans":
            measured = self.full_scan_share(lot)
            kept = round(measured.kept * points)
            neighbours = store.identity["neighbours"]
            full = {**sizes, "representative": kept, "neighbour": neighbours}
            in_scan = measured.most or kept // max(1, entry.scans)
            largest = {"kept": points // max(1, entry.scans), "neighbours": in_scan, "nearest": in_scan}
            return partition_size(
                FULL_SCANS,
                full,
                largest,
                names=entry.scans,
                identity=store.identity,
                sources=entry.scans,
            )
        if isinstance(source, Points):
            return self._views(lot, source, entry, points, names)
        schema = LABELS if store.stage == "labels" else SCANS
        files = entry.scans * (2 if store.stage == "labels" else 1)
        return partition_size(
            schema, {**schema.sizes, **sizes}, names=names, identity=store.identity, sources=files
        )

    def view_shares(self, lot: Lot) -> ViewShares:
        """What views keep of a scan's points."""
        if self._given is not None:
            return self._given[lot.store.dataset]
        return self._measured(lot, view_shares, self._view_shares)

    def full_scan_share(self, lot: Lot) -> FullScanShare:
        """What full scans keep of a scan's points."""
        return self._measured(lot, full_scan_share, self._full_scan_shares)

    def _measured(
        self,
        lot: Lot,
        measure: Callable[[Dataset, Points, Index, Sequence[PartitionEntry]], AnyShare],
        known: dict[str, AnyShare],
    ) -> AnyShare:
        """The share of the lot's store, over the partitions of all its lots; from `known` where it was measured before."""
        store, experiment = lot.store, self.plan.experiment
        if store.folder not in known:
            assert isinstance(store.source, Points)
            lots = [other for other in self.plan.lots(store.stage) if other.store.folder == store.folder]
            entries = [entry for other in lots for entry in other.entries]
            dataset, index = experiment.config.datasets[store.dataset], experiment.indices[store.dataset]
            known[store.folder] = measure(dataset, store.source, index, entries)
        return known[store.folder]

    def _views(self, lot: Lot, points: Points, entry: PartitionEntry, count: int, names: int) -> Size:
        shares = self.view_shares(lot)
        cameras = entry.images / entry.scans
        seen, kept = (round(share * count * cameras) for share in (shares.seen, shares.kept))
        sizes = {
            **VIEWS.sizes,
            "view": entry.images,
            "view_bound": entry.images + 1,
            "variant_view_bound": 2 * points.variants * entry.images + 1,
            "seen": seen,
            "representative": points.variants * round(kept * (1 + shares.edge * points.spare_rows)),
            "neighbour": points.neighbours,
        }
        # A row of a scan may be any of its points; a place in a view is smaller than what the view sees.
        in_view = seen // max(1, entry.images)
        largest = {"point": count // max(1, entry.scans), "kept": in_view, "neighbours": in_view}
        return partition_size(
            VIEWS, sizes, largest, names=names, identity=lot.store.identity, sources=entry.scans
        )


def pending(plan: Plan, lots: Iterable[Lot], sizes: PartitionSizes | None = None) -> list[StoreEstimate]:
    """What is still to be written for some lots, store by store."""
    sizes = sizes or PartitionSizes(plan)
    rows: dict[tuple[str, str], StoreEstimate] = {}
    names_of = cache(names_in)
    for lot in lots:
        store = lot.store
        row = rows.setdefault(
            (store.stage, store.folder), StoreEstimate(store.stage, store.dataset, store.folder)
        )
        row.lots += 1
        done = members_done(plan.experiment, lot, names_of(plan.experiment.store_path(store)))
        for (entry, _), is_done in zip(lot.members, done, strict=True):
            if is_done:
                row.done += 1
                continue
            row.to_compute += 1
            row.scans += entry.scans
            row.images += entry.images if store.stage == "features" else 0
            size = sizes.of(lot, entry)
            row.files += size.files if size else 0
            row.bytes = None if size is None or row.bytes is None else row.bytes + size.bytes
        if store.stage == "views" and row.to_compute:
            row.source = sizes.view_shares(lot).source
        elif store.stage == "full_scans" and row.to_compute:
            row.source = sizes.full_scan_share(lot).source
    return list(rows.values())


def estimate(
    plan: Plan, *, images_per_second: float | None = None, shares: Mapping[str, ViewShares] | None = None
) -> dict[str, Any]:
    """All stores, the teachers' hours, the runs, what the stores warn of, and the free space where the cache lies."""
    experiment = plan.experiment
    lots = [lot for stage in STAGES for lot in plan.lots(stage)]
    stores = pending(plan, lots, PartitionSizes(plan, shares))
    return {
        "stores": [store.facts() for store in stores],
        "teachers": [
            {
                **asdict(teaching),
                "hours": teaching.hours,
                "source": teaching.rate.source if teaching.rate else None,
            }
            for teaching in _teachings(plan, stores, images_per_second)
        ],
        "files": sum(store.files for store in stores),
        "bytes": sum(store.bytes or 0 for store in stores),
        "unknown": sorted({store.folder for store in stores if store.bytes is None}),
        "runs": {
            name: {"folder": str(experiment.run_path(run)), "done": experiment.is_done(run)}
            for name, run in plan.runs.items()
        },
        "probes": {folder: experiment.is_done(run) for folder, run in plan.probe_runs.items()},
        "finetunings": {folder: experiment.is_done(run) for folder, run in plan.finetune_runs.items()},
        "warnings": warnings_of(plan),
        "cache": str(experiment.cache),
        "free_bytes": free_bytes(experiment.cache),
    }


def _teachings(plan: Plan, stores: list[StoreEstimate], given: float | None) -> list[Teaching]:
    images: dict[str, int] = {}
    for row in stores:
        if row.stage == "features":
            teacher = place_of(row.stage, row.folder).id
            images[teacher] = images.get(teacher, 0) + row.images
    return [
        Teaching(
            teacher,
            count,
            Rate(given) if given else recorded_rate(plan.experiment.cache / "features" / teacher),
        )
        for teacher, count in images.items()
        if count
    ]


def free_bytes(path: Path) -> int:
    """Free space, for this user, of the file system that a folder lies on or will lie on."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
