"""Counting anew: what is said to be unreadable must be in the store, and hold nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache_schemas.features import features_schema
from cache_schemas.reading import PartitionReader
from cache_schemas.recount import contradictions
from cache_schemas.scans import LABELS, SCANS
from cache_schemas.schema import StoreSchema
from cache_schemas.writing import PartitionWriter

OFFSETS = np.array([0, 0, 3], np.uint64)


def found(
    folder: Path, schema: StoreSchema, arrays: dict[str, np.ndarray], counts: dict[str, int], **said: Any
) -> list[str]:
    """What contradicts itself in a partition of these arrays, attributes and left out items."""
    left_out = [{"what": "a file", "why": "a test", **item} for item in said.pop("left_out", [])]
    with PartitionWriter(
        folder,
        schema,
        partition="p",
        member_digest="00",
        identity={},
        attributes=dict.fromkeys(schema.attributes, 0) | said,
    ) as writer:
        for name, values in arrays.items():
            writer.put(name, values)
        writer.publish(counts=counts, left_out=left_out)
    return list(contradictions(PartitionReader(folder, schema, "p", "00"), schema))


@pytest.mark.parametrize(
    ("rows", "count", "contradiction"),
    [
        ([1], 1, None),
        ([], 0, None),
        ([1], 0, "counts: unreadable is None in the manifest, counted 1"),
        ([], 1, "counts: unreadable is 1 in the manifest, counted None"),
        ([0], 1, "image 0 is said to be unreadable, but its features are not zeros"),
        ([3], 1, "names [3], which are not rows of 3 images"),
    ],
)
def test_images(tmp_path: Path, rows: list[int], count: int, contradiction: str | None) -> None:
    values = np.ones((3, 2, 2, 4), np.float16)
    values[1] = 0
    counts = {"images": 3, **({"unreadable": count} if count else {})}
    schema = features_schema("float16")
    told = found(tmp_path, schema, {"features": values}, counts, images=["a", "b", "c"], unreadable=rows)
    assert len(told) == (contradiction is not None)
    assert all(str(contradiction) in one for one in told)


@pytest.mark.parametrize(
    ("scan", "contradiction"),
    [
        ("empty", None),
        ("full", "scan full is said to be unreadable, but it has points"),
        ("no", "leaves out scan no"),
    ],
)
def test_scans(tmp_path: Path, scan: str, contradiction: str | None) -> None:
    arrays = {
        "scan_offsets": OFFSETS,
        "xyz": np.ones((3, 3), np.float32),
        "intensity": np.ones(3, np.float32),
    }
    counts = {"scans": 2, "points": 3, "unreadable": 1}
    told = found(tmp_path, SCANS, arrays, counts, scans=["empty", "full"], left_out=[{"scan": scan}])
    assert len(told) == (contradiction is not None)
    assert all(str(contradiction) in one for one in told)


@pytest.mark.parametrize(("label", "contradictory"), [(255, False), (4, True)])
def test_labels(tmp_path: Path, label: int, contradictory: bool) -> None:
    arrays = {"scan_offsets": OFFSETS, "label": np.array([255, label, 255], np.uint8)}
    counts = {"scans": 2, "points": 3, "labelled_points": int(label != 255), "unreadable": 1}
    told = found(tmp_path, LABELS, arrays, counts, scans=["a", "b"], classes=[], left_out=[{"scan": "b"}])
    assert told == ["scan b is said to be unreadable, but it has labels"] * contradictory
