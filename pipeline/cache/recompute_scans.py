"""One scan of a scan, label, view or full-scan store beside what is computed of its files today.

Values that are read from files must be the same. What is computed from them may round otherwise on another processor or with
another library, and then a point beside an image's border, or between two voxels, may fall on its other side.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache_schemas.errors import DamagedCache
from cache_schemas.manifest import manifest_path, read_manifest
from cache_schemas.reading import PartitionReader
from cache_schemas.scans import SCANS
from cache_schemas.sources import holds_another
from cache_schemas.stores import schema_of
from pipeline.config.model import Points
from pipeline.datasets.array_checks import read_labels, read_points
from pipeline.datasets.changed_files import files_of
from pipeline.datasets.index import PartitionEntry
from pipeline.datasets.readers import reader_named
from pipeline.datasets.records import PartitionRecord
from pipeline.geometry.full_scan import full_scan
from pipeline.plan.experiment import Experiment
from pipeline.plan.parts import Store
from pipeline.preprocessing.views import Kept, views_of_scan

METRES = 1e-3
"""So far a position or a depth, and the distance to a neighbour, may be from the stored one."""
PIXELS = 0.05
"""So far a point may fall from its stored pixel; the published float32 steps move it by up to 0.01."""
NEEDED = 0.999
"""Share of the points of a scan's views, or of a full scan, that must agree."""


Pairs = list[tuple[np.ndarray, np.ndarray]]
"""Stored arrays, and what is computed in their place."""


@dataclass(frozen=True)
class ComparedScan:
    """A scan of a store beside what is computed today.

    Attributes:
        agreement: the least share of its points, over the store's arrays, that agree.
        needed: the least agreement at which they count as the same.
        source_changed: whether the file that it was made of holds something else today.
    """

    manifest: Path
    equal: bool
    agreement: float
    needed: float
    source_changed: bool


def scans_in(experiment: Experiment, store: Store, entry: PartitionEntry, member: str) -> list[int]:
    """The scans of a stored partition that can be computed again: their files could be read then."""
    manifest = read_manifest(manifest_path(experiment.store_path(store), entry.name, member))
    lost = manifest.lost_scans
    if store.stage in ("views", "full_scans") and _points_of(experiment, store, entry) is None:
        return []
    record = experiment.indices[store.dataset].load_partition(entry)
    return [number for number, scan in enumerate(record.scans) if scan.name not in lost]


def compare_scan(
    experiment: Experiment,
    store: Store,
    entry: PartitionEntry,
    record: PartitionRecord,
    member: str,
    number: int,
) -> ComparedScan:
    """Compute scan `number` of a stored partition again.

    Raises:
        BadInput: for a file that cannot be read.
        DamagedCache: if what is stored cannot be read.
    """
    folder = experiment.store_path(store)
    manifest = read_manifest(manifest_path(folder, entry.name, member))
    stored = PartitionReader(folder, schema_of(manifest), entry.name, member)
    dataset, scan = experiment.config.datasets[store.dataset], record.scans[number]
    root, reader = Path(dataset.root), reader_named(dataset.reader)
    paths = files_of(record, store.stage)
    rows = [number, len(record.scans) + number] if store.stage == "labels" else [number]
    changed = holds_another(manifest, {row: root / str(paths[row]) for row in rows})
    if store.stage == "scans":
        values = read_points(reader, root, scan)
        pairs = [
            (_piece(stored, name, number), value)
            for name, value in zip(("xyz", "intensity"), values, strict=True)
        ]
        return _outcome(stored, changed, pairs, _near(pairs, METRES), 1.0)
    if store.stage == "labels":
        label = _piece(stored, "label", number)
        pairs = [(label, read_labels(reader, root, scan, len(label)))]
        return _outcome(stored, changed, pairs, _near(pairs, 0.0), 1.0)
    scans = _points_of(experiment, store, entry)
    if scans is None:
        raise DamagedCache(f"{folder}: the scan store has no {entry.name}, of which this is made")
    xyz = _piece(scans, "xyz", number)
    if store.stage == "full_scans":
        assert isinstance(store.source, Points)
        computed = _full_scan(stored, number, xyz, store.source)
    else:
        computed = _views(experiment, store, stored, record, number, xyz)
    return _outcome(stored, changed, *computed, NEEDED)


def _full_scan(stored: PartitionReader, number: int, xyz: np.ndarray, points: Points) -> tuple[Pairs, float]:
    fresh = full_scan(xyz, points)
    kept, nearest = _piece(stored, "kept", number, "kept_offsets"), _piece(stored, "nearest", number)
    neighbours = _piece(stored, "neighbours", number, "kept_offsets")
    pairs: Pairs = [(kept, fresh.kept), (neighbours, fresh.neighbours), (nearest, fresh.nearest)]
    shares = [_shared(kept, fresh.kept)]
    if len(nearest) == len(xyz) and len(kept) and nearest.max() < len(kept):
        then = np.linalg.norm(xyz - xyz[kept[nearest]], axis=1)
        now = np.linalg.norm(xyz - xyz[fresh.kept[fresh.nearest]], axis=1)
        shares.append(float((np.abs(then - now) <= METRES).mean()))
    else:
        shares.append(0.0)
    shares.append(_as_far(xyz[kept], neighbours, xyz[fresh.kept], fresh.neighbours))
    return pairs, min(shares)


def _views(
    experiment: Experiment,
    store: Store,
    stored: PartitionReader,
    record: PartitionRecord,
    number: int,
    xyz: np.ndarray,
) -> tuple[Pairs, float]:
    points = store.source
    assert isinstance(points, Points)
    dataset, traits = experiment.config.datasets[store.dataset], experiment.traits[store.dataset]
    scan, count = record.scans[number], len(record.images)
    fresh = views_of_scan(scan, xyz, points, traits.mask(dataset.mask), traits.voxels(dataset.frame))
    first = sum(len(earlier.images) for earlier in record.scans[:number])
    pairs: Pairs = []
    shares = [1.0]
    for place, (seen, variants) in enumerate(fresh, first):
        point, pixel, depth = (_piece(stored, n, place, "seen_offsets") for n in ("point", "pixel", "depth"))
        pairs += [(point, seen.point), (pixel, seen.pixel), (depth, seen.depth)]
        shares.append(_shared(point, seen.point))
        _, then, now = np.intersect1d(point, seen.point, return_indices=True)
        if len(then):
            moved = np.abs(pixel[then] - seen.pixel[now]).max(axis=1) <= PIXELS
            shares.append(float((moved & (np.abs(depth[then] - seen.depth[now]) <= METRES)).mean()))
        for variant, kept in enumerate(variants):
            then_kept = _kept(stored, 2 * (variant * count + place))
            pairs += [
                (getattr(then_kept, name), getattr(kept, name))
                for name in ("place", "neighbours", "more_of", "more")
            ]
            if len(then_kept.place) and then_kept.place.max() >= len(point):
                shares.append(0.0)
                continue
            shares.append(_shared(point[then_kept.place], seen.point[kept.place]))
            shares.append(
                _as_far(
                    xyz[point[then_kept.place]],
                    then_kept.neighbours,
                    xyz[seen.point[kept.place]],
                    kept.neighbours,
                )
            )
    return pairs, min(shares)


def _kept(stored: PartitionReader, row: int) -> Kept:
    """The representatives of a view in a variant, as they are stored; `row`: where its offsets begin."""
    kept, more = (_piece(stored, "kept", at, "kept_offsets") for at in (row, row + 1))
    near, spares = (_piece(stored, "neighbours", at, "kept_offsets") for at in (row, row + 1))
    return Kept(kept, near, more, spares)


def _as_far(then: np.ndarray, near_then: np.ndarray, now: np.ndarray, near_now: np.ndarray) -> float:
    """Share of neighbours (R, K) of clouds (R, 3) that are as far away as those of the other; 1 where other points are kept,
    which their own comparison shows."""
    if then.shape != now.shape or not np.array_equal(then, now) or not len(then):
        return 1.0
    if near_then.shape != near_now.shape or near_then.max(initial=0) >= len(then):
        return 0.0
    far = [
        np.linalg.norm(cloud[:, None] - cloud[near.astype(np.int64)], axis=2)
        for cloud, near in ((then, near_then), (now, near_now))
    ]
    return float((np.abs(far[0] - far[1]) <= METRES).mean())


def _shared(then: np.ndarray, now: np.ndarray) -> float:
    """Share of rows that are in both, of those in the longer."""
    longer = max(len(then), len(now))
    return len(np.intersect1d(then, now)) / longer if longer else 1.0


def _near(pairs: Pairs, metres: float) -> float:
    """Share of rows whose values are so near, over all pairs; values of one number a row must be equal."""
    shares = []
    for stored, fresh in pairs:
        if stored.shape != fresh.shape or stored.dtype != fresh.dtype:
            return 0.0
        same = stored == fresh if stored.ndim == 1 else (np.abs(stored - fresh) <= metres).all(axis=1)
        shares.append(float(same.mean()) if len(same) else 1.0)
    return min(shares)


def _piece(stored: PartitionReader, name: str, number: int, offsets: str = "scan_offsets") -> np.ndarray:
    first, last = (int(row) for row in stored.read(offsets, number, number + 2))
    return stored.read(name, first, last)


def _points_of(experiment: Experiment, store: Store, entry: PartitionEntry) -> PartitionReader | None:
    """The scan store's partition, of which views and full scans are computed; None where it is not there, or damaged."""
    try:
        folder = experiment.store_path(store.scans)
        return PartitionReader(folder, SCANS, entry.name, str(entry.members["scans"]))
    except DamagedCache:
        return None


def _outcome(
    stored: PartitionReader, source_changed: bool, pairs: Pairs, agreement: float, needed: float
) -> ComparedScan:
    equal = all(np.array_equal(then, now) for then, now in pairs)
    return ComparedScan(stored.manifest.path, equal, 1.0 if equal else agreement, needed, source_changed)
