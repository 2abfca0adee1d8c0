"""Result files as the official validator wants them: structure, ids, one uint32 a point."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache_schemas.errors import BadInput
from pipeline.datasets.records import PartitionRecord
from pipeline.datasets.semantic_kitti.classes import CLASS_OF_ID, CLASSES, ID_OF_CLASS
from pipeline.datasets.semantic_kitti.reader import READER
from pipeline.datasets.semantic_kitti.results import write_results


def test_the_inverse_map_is_one() -> None:
    assert [CLASS_OF_ID[raw] for raw in ID_OF_CLASS] == list(range(len(CLASSES)))
    assert set(CLASS_OF_ID.values()) == {*range(len(CLASSES)), 255}
    assert sorted(raw for raw, found in CLASS_OF_ID.items() if found == 255) == [0, 1, 52, 99]


def test_what_is_written_reads_back_as_the_same_classes(make: Callable[..., Path], tmp_path: Path) -> None:
    make("11", scans=2, labels=False)
    root, out = tmp_path / "root", tmp_path / "results"
    (partition,) = READER.partitions(root, "")
    assert isinstance(partition, PartitionRecord)
    random = np.random.default_rng(0)
    predictions = [
        (scan.result_name, random.integers(0, len(CLASSES), scan.bytes // 16)) for scan in partition.scans
    ]
    assert write_results(out, "test", predictions) == 2
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert files == [f"sequences/11/predictions/{number:06d}.label" for number in range(2)]
    for (_, classes), scan, file in zip(predictions, partition.scans, files, strict=True):
        assert (out / file).stat().st_size == 4 * (scan.bytes // 16)  # what the validator counts
        np.testing.assert_array_equal(
            [CLASS_OF_ID[raw] for raw in np.fromfile(out / file, "<u4").tolist()], classes
        )


@pytest.mark.parametrize("bad", [255, 19, -1])
def test_a_point_without_a_class_is_refused(tmp_path: Path, bad: int) -> None:
    with pytest.raises(BadInput, match="scan 11/000000: 1 of 2 predictions"):
        write_results(tmp_path, "test", [("11/000000", np.array([0, bad]))])
    assert not list(tmp_path.iterdir())
