"""Splits of the user's own: which scans a pattern names, and what becomes of a partition."""

from __future__ import annotations

import pytest

from cache_schemas.errors import BadInput
from pipeline.datasets.records import PartitionRecord, ScanRecord
from pipeline.datasets.splits import full_name, resplit


def partition(name: str = "002", scans: tuple[str, ...] = ("00", "01", "40", "79")) -> PartitionRecord:
    records = tuple(ScanRecord(s, s, f"lidar/{s}.bin", 16, None, None, ()) for s in scans)
    return PartitionRecord(name, "train", records)


def split(splits: dict[str, list[str]] | None) -> tuple[dict[str, tuple[str, list[str]]], list[str]]:
    parts, left_out = resplit(partition(), splits)
    return {p.name: (p.split, [scan.name for scan in p.scans]) for p in parts}, left_out


def test_without_splits_the_datasets_own_stay() -> None:
    assert split(None) == ({"002": ("train", ["00", "01", "40", "79"])}, [])


def test_scans_of_several_splits_make_several_partitions_and_the_rest_is_listed() -> None:
    parts, left_out = split({"train": ["002/0?"], "val": ["002/79", "003"]})
    assert parts == {"002-train": ("train", ["00", "01"]), "002-val": ("val", ["79"])}
    assert left_out == ["40"]


def test_a_partition_that_stays_whole_keeps_its_name() -> None:
    assert split({"val": ["00*"]}) == ({"002": ("val", ["00", "01", "40", "79"])}, [])


def test_a_scan_in_two_splits_is_refused() -> None:
    with pytest.raises(BadInput, match="002/00 is in train and val"):
        split({"train": ["002"], "val": ["002/00"]})


def test_a_scan_whose_name_begins_with_its_partition_is_not_said_twice() -> None:
    whole = partition(scans=("002/00", "002/01", "002/40"))
    parts, left_out = resplit(whole, {"train": ["002/0?"]})
    assert [(part.name, [scan.name for scan in part.scans]) for part in parts] == [
        ("002-train", ["002/00", "002/01"])
    ]
    assert [full_name("002", name) for name in left_out] == ["002/40"]
    assert full_name("00", "002/40") == "00/002/40"
