"""The views stage: what each camera sees of each scan, one point per voxel, and those points' neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache_schemas.manifest import Manifest
from cache_schemas.reading import PartitionReader
from cache_schemas.views import VIEWS
from cache_schemas.writing import PartitionWriter
from pipeline.common.parallel import for_each
from pipeline.common.random import generator
from pipeline.config.model import Points
from pipeline.datasets.records import PartitionRecord
from pipeline.geometry.calibration import MaskRule
from pipeline.geometry.projection import Seen, in_file_frame, see
from pipeline.geometry.reach import with_spares
from pipeline.geometry.voxels import representatives
from pipeline.plan.parts import Store


@dataclass(frozen=True)
class Kept:
    """The representatives of one view in one variant.

    Attributes:
        place: (R,) uint32, places among the view's seen points, in voxel order.
        neighbours: (R, K) uint16 where that is enough, else uint32, places among these R.
        more_of: (M,) uint32, ascending: which of the R each row of `more` belongs to.
        more: (M, K), the neighbours after these, K in a row.
    """

    place: np.ndarray
    neighbours: np.ndarray
    more_of: np.ndarray
    more: np.ndarray


def write_views(
    store: Store,
    cameras: tuple[str, ...],
    rule: MaskRule,
    voxels: str,
    points: Points,
    partition: PartitionRecord,
    member: str,
    folder: Path,
    scans: PartitionReader,
    threads: int | None = None,
) -> Manifest:
    """Compute and publish the views of a partition, from its scan store; scan by scan on `threads` threads.

    Voxels lie along the scan's axes, or along those of its lidar file (`voxels`: `scan` or `file`).
    Of a scan whose lidar file could not be read no camera sees anything; it is listed as in the scan store.
    """
    bounds = scans.read("scan_offsets").astype(np.int64)

    def look(number: int) -> list[tuple[Seen, list[Kept]]]:
        """What each camera sees of a scan, and what it keeps of that in each variant."""
        scan = partition.scans[number]
        xyz = scans.read("xyz", int(bounds[number]), int(bounds[number + 1]))
        along = in_file_frame(xyz, scan.steps) if voxels == "file" else xyz
        drawn = [
            representatives(along, points.voxel, generator(points.seed, "voxel", scan.name, variant))
            for variant in range(points.variants)
        ]
        views = [see(xyz, image, rule) for image in scan.images]
        return [(view, [keep(xyz, view, rows, points) for rows in drawn]) for view in views]

    views = [view for scan in for_each(look, range(len(partition.scans)), threads) for view in scan]
    seen = [view for view, _ in views]
    kept = [[of_view[variant] for _, of_view in views] for variant in range(points.variants)]
    lost = [item for item in scans.manifest.left_out if "scan" in item]
    return _write(
        store, cameras, points, partition, member, folder, seen, kept, np.diff(bounds).tolist(), lost
    )


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


def _write(
    store: Store,
    cameras: tuple[str, ...],
    points: Points,
    partition: PartitionRecord,
    member: str,
    folder: Path,
    seen: list[Seen],
    kept: list[list[Kept]],
    scan_points: list[int],
    lost: list[dict[str, Any]],
) -> Manifest:
    images = partition.images
    scan_of_view = [number for number, scan in enumerate(partition.scans) for _ in scan.images]
    few = [view for view in range(len(images)) if min(len(k[view].place) for k in kept) <= points.neighbours]
    in_order = [view for variant in kept for view in variant]
    arrays = {
        "view_scan": np.array(scan_of_view, np.uint32),
        "view_camera": np.array([cameras.index(image.camera) for image in images], np.uint8),
        "image_size": np.array([[image.height, image.width] for image in images], np.uint32),
        "seen_offsets": np.cumsum([0, *(len(view.point) for view in seen)]).astype(np.uint64),
        "point": np.concatenate([view.point for view in seen]),
        "pixel": np.concatenate([view.pixel for view in seen]),
        "depth": np.concatenate([view.depth for view in seen]),
        "kept_offsets": np.cumsum([0, *(len(p) for v in in_order for p in (v.place, v.more))]).astype(
            np.uint64
        ),
        "kept": np.concatenate([part for v in in_order for part in (v.place, v.more_of)]),
        "neighbours": np.concatenate([part for v in in_order for part in (v.neighbours, v.more)]),
    }
    attributes: dict[str, Any] = {
        "cameras": list(cameras),
        "images": [image.path for image in images],
        "scans": [scan.name for scan in partition.scans],
        "scan_points": scan_points,
        "unusable": few,
        "voxel": points.voxel,
        "variants": points.variants,
        "spares": points.spare_rows * points.neighbours,
        "field_of_view": points.reach,
    }
    left_out = [
        {
            "what": f"view {view} ({images[view].camera} of scan {partition.scans[scan_of_view[view]].name})",
            "why": f"it sees {min(len(k[view].place) for k in kept)} voxels, no more than the {points.neighbours} "
            f"neighbours that a point needs; it is never drawn in training",
        }
        for view in few
    ]
    for name in ("point", "kept", "neighbours"):
        arrays[name] = VIEWS.array(name).fitted(arrays[name])
    with PartitionWriter(
        folder,
        VIEWS,
        partition=partition.name,
        member_digest=member,
        identity=store.identity,
        attributes=attributes,
    ) as writer:
        for name, values in arrays.items():
            writer.put(name, values)
        counts = {
            "views": len(images),
            "seen_points": len(arrays["point"]),
            "representatives": sum(len(view.place) for view in in_order),
            "unusable_views": len(few),
        }
        if lost:
            counts["unreadable"] = len(lost)
        return writer.publish(counts=counts, left_out=[*lost, *left_out])
