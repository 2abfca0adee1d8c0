"""Counting a partition anew from its arrays, and looking for row numbers that point outside the rows they count in."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cache_schemas.reading import PartitionReader
from cache_schemas.schema import StoreSchema


def recount(reader: PartitionReader, schema: StoreSchema) -> dict[str, int]:
    """What the manifest's counts must be."""
    lost = len(_lost(reader)) if schema.store != "features" else len(reader.attributes["unreadable"])
    unreadable = {"unreadable": lost} if lost else {}
    if schema.store == "scans":
        scans, points = reader.shape("scan_offsets")[0] - 1, reader.shape("xyz")[0]
        return {"scans": scans, "points": points, **unreadable}
    if schema.store == "labels":
        labelled = int((reader.read("label") != 255).sum())
        rows = reader.shape("label")[0]
        scans = reader.shape("scan_offsets")[0] - 1
        return {"scans": scans, "points": rows, "labelled_points": labelled, **unreadable}
    if schema.store == "views":
        kept = np.diff(
            reader.read("kept_offsets").astype(np.int64)
        )  # by turns representatives, more neighbours
        return {
            "views": reader.shape("view_scan")[0],
            "seen_points": reader.shape("point")[0],
            "representatives": int(kept[::2].sum()),
            "unusable_views": len(reader.attributes["unusable"]),
            **unreadable,
        }
    if schema.store == "full_scans":
        scans, points = reader.shape("scan_offsets")[0] - 1, reader.shape("nearest")[0]
        return {"scans": scans, "points": points, "representatives": reader.shape("kept")[0], **unreadable}
    return {"images": reader.shape("features")[0], **unreadable}


def contradictions(reader: PartitionReader, schema: StoreSchema) -> Iterator[str]:
    """What a reader would stumble over: counts, offsets, lists and row numbers that do not fit each other."""
    counted, listed = recount(reader, schema), reader.manifest.counts
    for name in dict.fromkeys((*listed, *counted)):
        if listed.get(name) != counted.get(name):
            yield f"counts: {name} is {listed.get(name)} in the manifest, counted {counted.get(name)}"
    shapes = {spec.name: reader.shape(spec.name) for spec in schema.arrays}
    try:
        schema.check(shapes, reader.attributes)
    except (ValueError, KeyError) as error:
        yield str(error)
        return
    for problem in schema.misplaced_offsets(shapes, reader.read):
        yield problem
        return
    if schema.store in ("scans", "labels", "full_scans"):
        yield from _as_long(reader, "scans", shapes["scan_offsets"][0] - 1)
        yield from _lost_scans(reader, schema)
        if schema.store == "full_scans":
            yield from _full(reader)
    elif schema.store == "views":
        yield from _as_long(reader, "images", shapes["view_scan"][0])
        yield from _lost_scans(reader, schema)
        yield from _views(reader)
    else:
        yield from _as_long(reader, "images", shapes["features"][0])
        yield from _unreadable(reader)


def _unreadable(reader: PartitionReader) -> Iterator[str]:
    """Images that are said to be unreadable are rows of the store, each once, and zeros stand there."""
    rows, images = reader.attributes["unreadable"], reader.shape("features")[0]
    if rows != sorted(set(rows)) or any(not 0 <= row < images for row in rows):
        yield f"the attribute unreadable names {rows}, which are not rows of {images} images, each once"
        return
    for row in rows:
        if reader.read("features", row, row + 1).any():
            yield f"image {row} is said to be unreadable, but its features are not zeros"


def _lost(reader: PartitionReader) -> list[str]:
    """The names of the scans that are listed as unreadable."""
    return [item["scan"] for item in reader.manifest.left_out if "scan" in item]


def _lost_scans(reader: PartitionReader, schema: StoreSchema) -> Iterator[str]:
    """Scans that are said to be unreadable have no points, or no labels but 255."""
    names, lost = reader.attributes["scans"], _lost(reader)
    if not lost:
        return
    unknown = sorted(set(lost) - set(names))
    if unknown:
        yield f"the manifest leaves out scan {unknown[0]}, which the store does not have"
        return
    if schema.store == "views":
        bounds = np.cumsum([0, *reader.attributes["scan_points"]])
    else:
        bounds = reader.read("scan_offsets").astype(np.int64)
    for name in lost:
        first, last = (int(bound) for bound in bounds[names.index(name) :][:2])
        if (reader.read("label", first, last) != 255).any() if schema.store == "labels" else first < last:
            what = "labels" if schema.store == "labels" else "points"
            yield f"scan {name} is said to be unreadable, but it has {what}"


def _as_long(reader: PartitionReader, name: str, wanted: int) -> Iterator[str]:
    if len(reader.attributes[name]) != wanted:
        yield f"the attribute {name} lists {len(reader.attributes[name])}, the arrays hold {wanted}"


def _views(reader: PartitionReader) -> Iterator[str]:
    """Row numbers that lead out of what they count in."""
    attributes = reader.attributes
    seen = np.diff(reader.read("seen_offsets").astype(np.int64))
    rows = np.diff(reader.read("kept_offsets").astype(np.int64)).reshape(
        -1, 2
    )  # representatives, more neighbours
    kept = rows[:, 0]
    view_scan = reader.read("view_scan")
    points = np.asarray(attributes["scan_points"], np.int64)
    if len(points) != len(attributes["scans"]) or (len(view_scan) and view_scan.max() >= len(points)):
        yield f"view_scan names scans that are not among the {len(points)}"
        return
    limits = {
        "point": np.repeat(points[view_scan], seen),
        "kept": np.repeat(
            np.column_stack([np.tile(seen, len(kept) // max(1, len(seen))), kept]).ravel(), rows.ravel()
        ),
        "neighbours": np.repeat(kept, rows.sum(axis=1))[:, None],
        "view_camera": np.full(len(view_scan), len(attributes["cameras"])),
    }
    yield from _outside(reader, limits)


def _full(reader: PartitionReader) -> Iterator[str]:
    """Row numbers that lead out of the scan's points or representatives."""
    points, kept = (np.diff(reader.read(f"{name}_offsets").astype(np.int64)) for name in ("scan", "kept"))
    limits = {
        "kept": np.repeat(points, kept),
        "neighbours": np.repeat(kept, kept)[:, None],
        "nearest": np.repeat(kept, points),
    }
    yield from _outside(reader, limits)


def _outside(reader: PartitionReader, limits: dict[str, np.ndarray]) -> Iterator[str]:
    for name, limit in limits.items():
        outside = int((reader.read(name).astype(np.int64) >= limit).sum())
        if outside:
            yield f"{outside} value(s) of {name} lead out of what they count in"
