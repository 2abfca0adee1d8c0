"""The views stage: what each camera sees of each scan, one point per voxel, and those points' neighbours."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from cache_schemas.manifest import Manifest
from cache_schemas.reading import PartitionReader
from cache_schemas.sources import sources_of
from cache_schemas.views import VIEWS
from pipeline.common.parallel import for_each
from pipeline.common.random import generator
from pipeline.config.model import Points
from pipeline.datasets.camera_checks import Sight, cameras_of, check_cameras
from pipeline.datasets.data_warnings import Warnings
from pipeline.datasets.records import PartitionRecord, ScanRecord
from pipeline.geometry.calibration import MaskRule
from pipeline.geometry.neighbours import with_spares
from pipeline.geometry.projection import Seen, in_file_frame, see
from pipeline.geometry.voxels import representatives
from pipeline.preprocessing.target import Target
from pipeline.preprocessing.unreadable import lost_scans


@dataclass(frozen=True)
class Kept:
    """The representatives of one view in one variant.

    Attributes:
        place: (R,) uint32, places among the view's seen points, in voxel order.
        neighbours: (R, K) uint16 where that is enough, else uint32, places among these R.
        more_of: (M,) uint32, ascending: which of the R each row of `more` belongs to.
        more: (M, K), places of the next nearest neighbours, K in a row.
    """

    place: np.ndarray
    neighbours: np.ndarray
    more_of: np.ndarray
    more: np.ndarray


def write_views(
    target: Target,
    scans: PartitionReader,
    points: Points,
    cameras: tuple[str, ...],
    rule: MaskRule,
    voxels: str,
    threads: int | None = None,
    allow: Collection[str] = (),
) -> Manifest:
    """Compute and publish the views of a partition, from its scan store; scan by scan on `threads` threads.

    A scan whose lidar file could not be read has views without points; it is listed as in the scan store.

    Args:
        cameras: of the dataset, in the order of their numbers.
        voxels: whether voxels lie along the axes of the scan (`scan`) or of its lidar file (`file`).
        allow: kinds of warnings that the dataset's block allows.

    Raises:
        BadInput: if no camera sees any point of any scan, unless `cameras` is allowed. A single camera is warned of.
    """
    partition = target.partition
    bounds = scans.read("scan_offsets").astype(np.int64)

    def look(number: int) -> list[tuple[Seen, list[Kept]]]:
        """What each camera sees of a scan, and what it keeps of that in each variant."""
        xyz = scans.read("xyz", int(bounds[number]), int(bounds[number + 1]))
        return views_of_scan(partition.scans[number], xyz, points, rule, voxels)

    views = [view for scan in for_each(look, range(len(partition.scans)), threads) for view in scan]
    seen = [view for view, _ in views]
    kept = [variants[number] for number in range(points.variants) for _, variants in views]
    arrays = _arrays(partition.scans, cameras, seen, kept)
    warnings = Warnings(allow)
    sights = _sights(partition, np.diff(bounds).tolist(), seen)
    check_cameras(
        sights,
        lambda number: scans.read("xyz", int(bounds[number]), int(bounds[number + 1])),
        warnings,
        f"partition {partition.name}",
    )
    too_few = _views_with_too_few(partition, points, kept)
    lost = lost_scans(scans)
    attributes: dict[str, Any] = {
        "cameras": list(cameras),
        "images": [image.path for image in partition.images],
        "scans": partition.scan_names,
        "scan_points": np.diff(bounds).tolist(),
        "unusable": list(too_few),
        "voxel": points.voxel,
        "variants": points.variants,
        "spares": points.spare_rows * points.neighbours,
        "field_of_view": points.reach,
    }
    counts = {
        "views": len(views),
        "seen_points": len(arrays["point"]),
        "representatives": sum(len(view.place) for view in kept),
        "unusable_views": len(too_few),
        **({"unreadable": len(lost)} if lost else {}),
    }
    with target.writer(VIEWS, attributes) as writer:
        for name, values in arrays.items():
            writer.put(name, values)
        return writer.publish(
            counts=counts,
            left_out=[*lost, *too_few.values()],
            warnings=warnings.entries(cameras_of(sights), "cameras"),
            sources=sources_of(scans.manifest),
        )


def views_of_scan(
    scan: ScanRecord, xyz: np.ndarray, points: Points, rule: MaskRule, voxels: str
) -> list[tuple[Seen, list[Kept]]]:
    """What each camera sees of a scan's points (N, 3) float32, and what it keeps of that in each variant."""
    along = in_file_frame(xyz, scan.steps) if voxels == "file" else xyz
    drawn = [
        representatives(along, points.voxel, generator(points.seed, "voxel", scan.name, variant))
        for variant in range(points.variants)
    ]
    views = [see(xyz, image, rule) for image in scan.images]
    return [(view, [keep(xyz, view, rows, points) for rows in drawn]) for view in views]


def keep(xyz: np.ndarray, view: Seen, representative_rows: np.ndarray, points: Points) -> Kept:
    """The representatives that a camera sees, in voxel order, and their nearest others among them."""
    place_of_row = np.full(len(xyz), -1, np.int64)
    place_of_row[view.point] = np.arange(len(view.point))
    place = place_of_row[representative_rows]
    place = place[place >= 0]
    spec, count = VIEWS.array("neighbours"), points.neighbours
    cloud = xyz[view.point[place]]
    near, of, spares = with_spares(cloud, count, points.spare_rows * count, points.field_of_view)
    return Kept(
        place.astype(np.uint32),
        spec.fitted(near),
        np.repeat(of, points.spare_rows),
        spec.fitted(spares.reshape(-1, count)),
    )


def _sights(partition: PartitionRecord, lengths: list[int], seen: list[Seen]) -> list[Sight]:
    """What each camera sees of each scan. lengths: points of each scan. seen: of each view."""
    images = [(number, image) for number, scan in enumerate(partition.scans) for image in scan.images]
    return [
        Sight(number, image, lengths[number], len(view.point))
        for (number, image), view in zip(images, seen, strict=True)
    ]


def _arrays(
    scans: tuple[ScanRecord, ...], cameras: tuple[str, ...], seen: list[Seen], kept: list[Kept]
) -> dict[str, np.ndarray]:
    """The arrays of the view store. seen: of each view. kept: of each view in each variant, variant by variant."""
    images = [image for scan in scans for image in scan.images]
    in_file_order = [(view.place, view.more) for view in kept]
    arrays = {
        "view_scan": np.array([number for number, scan in enumerate(scans) for _ in scan.images], np.uint32),
        "view_camera": np.array([cameras.index(image.camera) for image in images], np.uint8),
        "image_size": np.array([[image.height, image.width] for image in images], np.uint32),
        "seen_offsets": np.cumsum([0, *(len(view.point) for view in seen)]).astype(np.uint64),
        "point": np.concatenate([view.point for view in seen]),
        "pixel": np.concatenate([view.pixel for view in seen]),
        "depth": np.concatenate([view.depth for view in seen]),
        "kept_offsets": np.cumsum([0, *(len(rows) for pair in in_file_order for rows in pair)]).astype(
            np.uint64
        ),
        "kept": np.concatenate([rows for view in kept for rows in (view.place, view.more_of)]),
        "neighbours": np.concatenate([rows for view in kept for rows in (view.neighbours, view.more)]),
    }
    for name in ("point", "kept", "neighbours"):
        arrays[name] = VIEWS.array(name).fitted(arrays[name])
    return arrays


def _views_with_too_few(
    partition: PartitionRecord, points: Points, kept: list[Kept]
) -> dict[int, dict[str, str]]:
    """The views that see too few voxels in some variant, by number, as a manifest lists them."""
    named = [(scan.name, image.camera) for scan in partition.scans for image in scan.images]
    fewest = np.array([len(view.place) for view in kept]).reshape(points.variants, len(named)).min(axis=0)
    return {
        view: {
            "what": f"view {view} ({camera} of scan {scan})",
            "why": f"it sees {fewest[view]} voxels, no more than the {points.neighbours} neighbours that a point needs; "
            f"it is never drawn in training",
        }
        for view, (scan, camera) in enumerate(named)
        if fewest[view] <= points.neighbours
    }
