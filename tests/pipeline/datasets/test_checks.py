"""What a reader of one's own gets wrong is refused, saying what: records before they are indexed, arrays before they
are written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import griddle
from pipeline.config.model import Dataset
from pipeline.datasets.array_checks import read_labels, read_points
from pipeline.datasets.index import make_index
from pipeline.datasets.readers import packaged, reader_named
from pipeline.datasets.record_checks import check_partition, natural

TRAITS = griddle.Traits("mine", 1, "lidar", classes=("road", "car"), cameras=("front",))
IMAGE = griddle.ImageRecord(
    "front", "i.png", 10, 4, 6, (5.0, 0, 3, 0, 5, 2, 0, 0, 1), (griddle.RigidStep((1, 0, 0, 0), (0, 0, 0)),)
)
SCANS = tuple(
    griddle.ScanRecord(n, n, f"lidar/{n}.bin", 16, f"{n}.label", 4, (IMAGE,)) for n in ("8", "9", "10")
)
GOOD = griddle.PartitionRecord("a", "train", SCANS)


def with_image(**change: Any) -> griddle.PartitionRecord:
    return replace(GOOD, scans=(replace(SCANS[0], images=(replace(IMAGE, **change),)),))


def with_scan(**change: Any) -> griddle.PartitionRecord:
    return replace(GOOD, scans=(replace(SCANS[0], **change),))


def test_a_good_partition_is_taken() -> None:
    seen: set[str] = set()
    check_partition(GOOD, TRAITS, seen)
    assert seen == {"a"}


@pytest.mark.parametrize(
    ("partition", "told"),
    [
        ("a", "yields str, not PartitionRecord"),
        (replace(GOOD, name="../a"), "names files"),
        (replace(GOOD, name="twice"), "twice is there twice"),
        (replace(GOOD, split="training"), "'training' is none of train, val, test"),
        (replace(GOOD, scans=()), "has no scans"),
        (replace(GOOD, scans=SCANS[::-1]), "out of order: lidar/9.bin comes after lidar/10.bin"),
        (replace(GOOD, scans=(SCANS[0], replace(SCANS[1], name="8"))), "scan 8 is there 2 times"),
        (with_scan(path="/etc/passwd"), "must be relative to the dataset's root"),
        (with_scan(path="../8.bin"), "must be relative to the dataset's root"),
        (with_scan(label_bytes=None), "label_path and label_bytes, or neither"),
        (with_scan(images=(IMAGE, IMAGE)), "a camera is there twice"),
        (with_image(camera="back"), "the traits have no camera 'back'"),
        (with_image(width=0), "a size of 4 x 0 pixels"),
        (with_image(intrinsics=(1.0,) * 4), "3 x 3 finite numbers"),
        (with_image(intrinsics=(float("nan"),) * 9), "3 x 3 finite numbers"),
        (with_image(intrinsics=(5.0, 0, 0, 0, 5, 0, 3, 2, 1)), "image i.png: .* are transposed"),
        (with_image(intrinsics=(5.0, 0, 30, 0, 5, 2, 0, 0, 1)), "outside the picture of 6 x 4 pixels"),
        (with_image(steps=(griddle.RigidStep((1, 0, 0, 0), (0, float("inf"), 0)),)), "not finite"),
        (with_image(steps=(griddle.RigidStep((2, 0, 0, 0), (0, 0, 0)),)), "image i.png: .* has length 2"),
        (with_scan(steps=(griddle.RigidStep((0,) * 4, (0, 0, 0)),)), "steps to its frame: .* has length 0"),
    ],
)
def test_a_wrong_record_is_refused(partition: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_partition(partition, TRAITS, {"twice"})


def test_labels_need_classes() -> None:
    with pytest.raises(ValueError, match="the traits name no classes"):
        check_partition(GOOD, griddle.Traits("mine", 1, "lidar", cameras=("front",)), set())


@pytest.mark.parametrize(
    ("rotation", "translation"), [((1, 0, 0), (0, 0, 0)), ((1, 0, 0, 0), (0, 0)), ((1,) * 9, (0, 0, 0))]
)
def test_a_step_has_a_rotation_and_a_translation(rotation: Any, translation: Any) -> None:
    with pytest.raises(ValueError, match="has"):
        griddle.RigidStep(rotation, translation, inverse=True)


def test_names_sort_as_people_count() -> None:
    assert sorted(["a10", "a9", "b", "a"], key=natural) == ["a", "a9", "a10", "b"]


class Wrong(griddle.Reader):
    """Gives what it was told to."""

    traits = TRAITS

    def __init__(self, points: Any = None, labels: Any = None, found: tuple[Any, ...] = ()) -> None:
        self.points, self.labels, self.found = points, labels, found

    def partitions(self, root: Path, version: str) -> Iterator[Any]:
        yield from self.found

    def read_points(self, root: Path, scan: griddle.ScanRecord) -> Any:
        return self.points

    def read_labels(self, root: Path, scan: griddle.ScanRecord) -> Any:
        return self.labels


XYZ, INTENSITY = np.ones((5, 3), np.float32), np.ones(5, np.float32)


@pytest.mark.parametrize(
    ("points", "told"),
    [
        (XYZ, "must give xyz and intensity"),
        ((XYZ.tolist(), INTENSITY), r"gives xyz list, not \(N, 3\) float32"),
        ((XYZ.astype(float), INTENSITY), r"xyz \(5, 3\) float64, not \(N, 3\) float32"),
        ((XYZ.T, INTENSITY), r"xyz \(3, 5\) float32"),
        ((XYZ, INTENSITY[:4]), r"intensity \(4,\) float32, not \(5,\) float32"),
        ((XYZ, INTENSITY.astype(int)), r"intensity \(5,\) int64"),
        ((XYZ[:0], INTENSITY[:0]), "has no points"),
        ((XYZ * np.float32("nan"), INTENSITY), "5 of 5 points with NaN"),
    ],
)
def test_wrong_points_are_refused(points: Any, told: str) -> None:
    with pytest.raises(griddle.BadInput, match=told):
        read_points(Wrong(points), Path("root"), SCANS[0])


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (np.zeros(4, np.uint8), "8.label has 4 labels for 5 points"),
        (np.zeros(5, np.int64), r"labels \(5,\) int64, not \(5,\) uint8"),
        ([0] * 5, "labels list"),
        (np.full(5, 2, np.uint8), "class 2 for 5 points, but its traits name 2 classes"),
    ],
)
def test_wrong_labels_are_refused(labels: Any, told: str) -> None:
    with pytest.raises(griddle.BadInput, match=told):
        read_labels(Wrong(labels=labels), Path("root"), SCANS[0], 5)


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str], str]:
    """A user's file with this text, as a config names its class Reader."""

    def write(text: str) -> str:
        (tmp_path / "mine.py").write_text(text)
        return f"{tmp_path}/mine.py:Reader"

    return write


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1", "cannot be loaded: AttributeError"),
        ("import no_such_module", "cannot be loaded: ModuleNotFoundError"),
        ("class Reader: ...", "is no griddle.Reader with `traits`"),
        ("import griddle\nclass Reader(griddle.Reader): ...", "cannot be loaded: TypeError"),
    ],
)
def test_a_file_that_holds_no_reader_is_refused(own: Callable[[str], str], text: str, told: str) -> None:
    with pytest.raises(griddle.BadInput, match=told):
        reader_named(own(text))


TRAITS_OWN = """
import griddle
class Reader(griddle.Reader):
    traits = griddle.Traits(**{"reader": "mine", "reader_version": 1, "frame": "lidar"} | %r)
    def partitions(self, root, version): ...
    def read_points(self, root, scan): ...
"""


@pytest.mark.parametrize(
    ("traits", "told"),
    [
        ({"reader": 3}, "traits.reader is 3; give a name"),
        ({"reader_version": "1"}, "traits.reader_version is '1'; give a whole number"),
        ({"classes": "car"}, "traits.classes is 'car'; give a tuple of at most 255 distinct names"),
        ({"classes": ("car", "car")}, "distinct names"),
        ({"cameras": ({},)}, "traits.cameras"),
        ({"intensity": (1, 0)}, "a standard deviation over 0"),
        ({"intensity": "18"}, "traits.intensity is '18'"),
        ({"published_mask": "strict"}, "give a griddle.MaskRule"),
        ({"reach": "far"}, "traits.reach is 'far'; give None, or metres over 0"),
        ({"reach": -1}, "metres over 0"),
        ({"intensity_range": 255.0}, "traits.intensity_range is 255.0"),
        ({"intensity_range": (255, 0)}, "the least and a greater greatest intensity"),
    ],
)
def test_traits_of_other_kinds_are_refused(own: Callable[[str], str], traits: Any, told: str) -> None:
    with pytest.raises(griddle.BadInput, match=rf"mine\.py:Reader: .*{re.escape(told)}"):
        reader_named(own(TRAITS_OWN % traits))


def test_an_unknown_reader_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(
        griddle.BadInput, match=r"no reader 'nuscene'; there are .*nuscenes.*my/poss.py:Reader"
    ):
        reader_named("nuscene")
    with pytest.raises(griddle.BadInput, match="is not there"):
        reader_named(f"{tmp_path}/none.py:Reader")


def test_every_reader_of_the_package_says_what_a_plan_needs() -> None:
    for name, reader in packaged().items():
        traits = reader.traits
        assert traits.reader == name
        assert traits.intensity is not None
        assert traits.typical is not None
        assert traits.classes
        assert traits.cameras


OWN = """
import griddle
class Reader(griddle.Reader):
    traits = griddle.Traits("mine", 1, "lidar")
    def partitions(self, root, version):
        for name in ("p10", "p9"):
            scans = [griddle.ScanRecord.of_files(root, f"{s}.bin", name=%s) for s in %s]
            yield griddle.PartitionRecord(name, "train", tuple(scans))
    def read_points(self, root, scan): ...
"""


def test_an_index_names_the_reader_that_is_wrong_and_orders_partitions(
    own: Callable[[str], str], tmp_path: Path
) -> None:
    for number in (1, 2):
        (tmp_path / f"{number}.bin").write_bytes(bytes(16))
    dataset = Dataset(reader=own(OWN % ("f'{name}/{s}'", "(2, 1)")), root=str(tmp_path))
    with pytest.raises(
        griddle.BadInput, match=r"datasets.d: reader .*mine.py:Reader: partition p10: scans are out of order"
    ):
        make_index(tmp_path / "work", "d", dataset)


def test_an_indexs_partitions_are_in_order_whatever_the_readers(
    own: Callable[[str], str], tmp_path: Path
) -> None:
    for number in (1, 2):
        (tmp_path / f"{number}.bin").write_bytes(bytes(16))
    dataset = Dataset(reader=own(OWN % ("f'{name}/{s}'", "(1, 2)")), root=str(tmp_path))
    index, _ = make_index(tmp_path / "work", "d", dataset)
    assert [entry.name for entry in index.partitions] == ["p9", "p10"]
    with pytest.raises(
        griddle.BadInput, match=r"datasets.d.splits.val: none of \['q\*'\] names a scan that is there"
    ):
        make_index(tmp_path / "work", "d", dataset.model_copy(update={"splits": {"val": ["q*"]}}))


def test_an_error_without_a_message_of_its_own_is_named(own: Callable[[str], str], tmp_path: Path) -> None:
    text = OWN % ("'one'", "(1,)")
    text = text.replace("import griddle", "import griddle\nclass Bad(Exception):\n    __str__ = None", 1)
    text = text.replace('        for name in ("p10", "p9"):', "        raise Bad\n        for name in ():")
    with pytest.raises(griddle.BadInput, match=r"mine.py:Reader.* Bad: its message cannot be made"):
        make_index(tmp_path / "work", "d", Dataset(reader=own(text), root=str(tmp_path)))


def test_a_reader_that_fails_before_it_yields_is_named_too(own: Callable[[str], str], tmp_path: Path) -> None:
    """`partitions` may give a list: then it does all its work in the call."""
    text = OWN % ("'one'", "(1,)")
    text = text.replace(
        '        for name in ("p10", "p9"):', "        return [1 / 0]\n        for name in ():"
    )
    text = text.replace("            yield griddle", "            names = griddle")
    dataset = Dataset(reader=own(text), root=str(tmp_path))
    with pytest.raises(griddle.BadInput, match=r"datasets.d: reader .*mine.py:Reader.* ZeroDivisionError"):
        make_index(tmp_path / "work", "d", dataset)


def test_two_scans_of_one_name_are_refused_for_their_draws_would_be_the_same(
    own: Callable[[str], str], tmp_path: Path
) -> None:
    (tmp_path / "1.bin").write_bytes(bytes(16))
    dataset = Dataset(reader=own(OWN % ("'one'", "(1,)")), root=str(tmp_path))
    with pytest.raises(griddle.BadInput, match="partition p9: another partition has a scan named one, too"):
        make_index(tmp_path / "work", "d", dataset)
