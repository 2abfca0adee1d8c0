"""The scans of a run in a few bytes each, the same for all workers, however many partitions there are."""

import pickle
import tracemalloc
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.plan.parts import Reading
from pipeline.streaming import open_partitions as opened
from pipeline.streaming.order import ScanPlace
from pipeline.streaming.scan_places import Places, blocks
from pipeline.streaming.scan_source import LabelledPlace, labelled_place
from pipeline.streaming.view_source import OpenedViews, ViewSource

SCANS, CAMERAS = 40, 6


def test_places_are_what_was_put_in() -> None:
    rows = [(0, "a", (0, 1, 2)), (0, "é" * 9, (5,)), (2, "c" * 32, (7, 70_000)), (2, "d", ())]
    places = Places(ScanPlace, ["x", "y", "z"], iter(rows))
    expected = [ScanPlace(r, "xyz"[r], name, numbers) for r, name, numbers in rows]
    assert len(places) == 4
    assert list(places) == expected == places[:]
    assert places[-1] == expected[-1]
    assert places[1:3] == expected[1:3]
    assert all(type(view) is int for view in places[2].views)
    for outside in (4, -5):
        with pytest.raises(IndexError):
            places[outside]
    assert places.blocks == blocks(place.reading for place in expected) == (2, 2)
    assert pickle.loads(bytes(ForkingPickler.dumps(places)))[:] == expected  # as a spawned worker gets it
    assert pickle.loads(pickle.dumps(places))[:] == expected
    assert Places(labelled_place, ["x"], [(0, "a", (3,))])[0] == LabelledPlace(0, 3, "x", "a")
    assert len(Places(ScanPlace, [], [])) == 0


def test_numbers_lie_in_shared_memory() -> None:
    places = Places(ScanPlace, ["x"], [(0, "a", (0, 1, 2))])
    assert all(
        column.is_shared() for column in (places._reading, places._names, places._numbers, places._name_ends)
    )


def reading(number: int) -> Reading:
    where = ("folder", f"{number:010x}")
    return Reading("roads", "train", f"scene-{number:04}", where, where, (where,))


def fake_partition(number: int) -> Any:
    """What `ViewSource` keeps of an open partition, a few kilobytes."""
    partition = OpenedViews.__new__(OpenedViews)
    vars(partition).update(
        names=[f"{number:08x}{scan:024x}" for scan in range(SCANS)],
        view_scan=np.repeat(np.arange(SCANS), CAMERAS),
        unusable={number % 7},
        left_out=[],
        kept_bounds=np.zeros(2 * SCANS * CAMERAS + 1, np.int64),
    )
    return partition


def memory_of(partitions: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Bytes that listing the scans of so many partitions leaves behind: of this process, and shared by all."""
    monkeypatch.setattr(ViewSource, "_open", lambda self, number: fake_partition(number))
    readings = [reading(number) for number in range(partitions)]
    tracemalloc.start()
    source = ViewSource(Path("cache"), readings, ())
    places, _ = source.scans()
    left = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(places) == partitions * SCANS
    assert len(source._opened._opened) <= opened.OPEN_PARTITIONS
    columns = (places._reading, places._numbers, places._names, places._number_ends, places._name_ends)
    return left, sum(column.nbytes for column in columns)


def test_memory_hardly_grows_with_the_number_of_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "OPEN_PARTITIONS", 64)  # how many are kept open is a bound of its own
    few, more = 80, 480
    own, shared = np.subtract(memory_of(more, monkeypatch), memory_of(few, monkeypatch))
    images = (more - few) * SCANS * CAMERAS
    assert own / images < 0.5
    assert 2 < shared / images < 12
    assert shared / images * 28_130 * 6 < 2e6  # all of nuScenes' training split, once for all workers
