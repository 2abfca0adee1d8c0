"""SemanticKITTI's reader: what it finds in the layouts that people have, and what it says of bad input."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kitti_tree import WHOLE, WITHOUT_TR

from cache_schemas.errors import BadInput
from pipeline.config.model import Dataset
from pipeline.datasets.array_checks import read_labels
from pipeline.datasets.index import make_index
from pipeline.datasets.records import PartitionRecord
from pipeline.datasets.semantic_kitti.calibration import read_calibration
from pipeline.datasets.semantic_kitti.classes import CLASSES
from pipeline.datasets.semantic_kitti.reader import READER
from pipeline.datasets.semantic_kitti.sequence import RUN

Found = Callable[[], dict[str, Any]]


@pytest.mark.parametrize("place", ["", "dataset", "dataset/sequences"])
def test_every_root_that_people_have(make: Callable[..., Path], tmp_path: Path, place: str) -> None:
    make("00")
    root = tmp_path / "root" / place
    READER.check(root, "")
    (partition,) = READER.partitions(root, "")
    assert isinstance(partition, PartitionRecord)
    assert partition.problem is None
    xyz, intensity = READER.read_points(root, partition.scans[1])
    assert (xyz.shape, xyz.dtype, intensity.shape, intensity.dtype) == (
        (11, 3),
        np.float32,
        (11,),
        np.float32,
    )
    assert (root / partition.images[1].path).is_file()
    assert set(READER.read_labels(root, partition.scans[1]).tolist()) <= {255, 0, CLASSES.index("road")}


def test_a_folder_without_sequences_is_told_where_they_were_looked_for(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"looked for the folders 00 to 21 in .*dataset/sequences"):
        READER.check(tmp_path, "")
    with pytest.raises(BadInput, match="does not exist"):
        READER.check(tmp_path / "nowhere", "")
    (tmp_path / "sequences" / "00").mkdir(parents=True)
    (tmp_path / "sequences" / "22").mkdir()
    with pytest.raises(BadInput, match=r"1 sequence.* 22"):
        READER.check(tmp_path, "")


def test_splits_are_of_sequences(make: Callable[..., Path], found: Found) -> None:
    for name in ("07", "08", "10", "11", "21"):
        make(name, scans=1)
    assert {name: partition.split for name, partition in found().items()} == {
        "07-0000": "train", "08-0000": "val", "10-0000": "train", "11-0000": "test", "21-0000": "test"
    }  # fmt: skip


def test_the_separate_calibration_wins(make: Callable[..., Path], found: Found, tmp_path: Path) -> None:
    folder = make("03")
    (folder / "calib.txt").write_text(WITHOUT_TR)
    separate = tmp_path / "root" / "calib" / "dataset" / "sequences" / "03" / "calib.txt"
    separate.parent.mkdir(parents=True)
    separate.write_text(WHOLE)
    assert found()["03-0000"].problem is None
    separate.unlink()
    assert "calib.txt has no Tr" in found()["03-0000"].problem


def test_images_differ_in_size(make: Callable[..., Path], found: Found) -> None:
    make("00", size=(37, 124))
    make("01", size=(36, 122))
    sizes = {name: {(i.height, i.width) for i in partition.images} for name, partition in found().items()}
    assert sizes == {"00-0000": {(37, 124)}, "01-0000": {(36, 122)}}


def test_a_sequence_that_grows_changes_only_its_last_partition(
    make: Callable[..., Path], found: Found
) -> None:
    folder = make("00", scans=RUN + 3, images=False)
    before = found()
    assert {name: len(p.scans) for name, p in before.items()} == {"00-0000": RUN, "00-0250": 3}
    for kind, suffix in (("velodyne", ".bin"), ("labels", ".label")):
        shutil.copy(folder / kind / f"000000{suffix}", folder / kind / f"{RUN + 3:06d}{suffix}")
    after = found()
    assert after["00-0000"].member_digests() == before["00-0000"].member_digests()
    assert after["00-0250"].member_digests() != before["00-0250"].member_digests()


def test_scans_without_images_and_without_labels(make: Callable[..., Path], found: Found) -> None:
    (make("00", images=False, labels=False) / "calib.txt").unlink()  # nobody needs it
    (partition,) = found().values()
    assert partition.problem is None
    digests = partition.member_digests()
    assert digests["views"] is digests["features"] is digests["labels"] is None


def drop(path: str) -> Callable[[Path], None]:
    return lambda folder: (folder / path).unlink()


def cut(path: str, bytes: int) -> Callable[[Path], None]:
    return lambda folder: (folder / path).write_bytes((folder / path).read_bytes()[:-bytes])


def text(path: str, content: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / path).write_text(content)

    return write


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop("velodyne/000001.bin"), r"1 of its 3 scans lack their file in velodyne, the first \S+/velodyne/000001.bin"),
        (drop("velodyne/000002.bin"), "1 of its 3 scans lack their file in velodyne"),  # its image says it was there
        (drop("image_2/000001.png"), r"1 of its 3 scans lack their file in image_2, the first \S+/image_2/000001.png"),
        (drop("labels/000000.label"), "1 of its 3 scans lack their file in labels"),
        (cut("labels/000001.label", 4), r"labels/000001.label has 10 labels for 11 points"),
        (cut("labels/000001.label", 2), r"labels/000001.label has 10.5 labels for 11 points"),
        (cut("velodyne/000002.bin", 6), r"velodyne/000002.bin has 186 bytes, .* multiple of 16"),
        (text("velodyne/000002.bin", ""), r"velodyne/000002.bin has 0 bytes"),
        (text("image_2/000000.png", "GIF89a"), "image_2/000000.png is no PNG image"),
        (drop("calib.txt"), "calib.txt is missing; extract data_odometry_calib.zip"),
        (text("calib.txt", WITHOUT_TR), "calib.txt has no Tr: the one in the image archives lacks it"),
        (text("calib.txt", WHOLE.replace("P2", "P9")), "calib.txt has no P2: extract data_odometry_calib.zip"),
        (text("calib.txt", "hello\n"), "calib.txt is no calibration file of KITTI, or was cut short"),
        (text("calib.txt", WITHOUT_TR + "Tr: 2 0 0 0 0 2 0 0 0 0 2 0\n"), "Tr does not rotate"),
        (text("calib.txt", WHOLE.replace("P2: 7.2", "P2: 0.0")), "P2 is no pinhole camera's"),
    ],
)  # fmt: skip
def test_a_broken_sequence_says_why(
    make: Callable[..., Path], found: Found, damage: Callable[[Path], None], message: str
) -> None:
    make("01")
    damage(make("00"))
    partitions = found()
    with pytest.raises(AssertionError, match=message):
        assert partitions["00-0000"].problem is None, partitions["00-0000"].problem
    assert partitions["01-0000"].problem is None


def test_a_calibration_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    """At every byte but the last, which is the newline: half a number is a number, too."""
    file = tmp_path / "calib.txt"
    for length in range(len(WHOLE) - 1):
        file.write_text(WHOLE[:length])
        with pytest.raises(ValueError, match=r"calib.txt.* extract data_odometry_calib.zip"):
            read_calibration(file)
    file.write_text(WHOLE[:-1])
    assert read_calibration(file).intrinsics[0] == 72.0


def test_a_gap_spoils_its_own_run_alone(make: Callable[..., Path], found: Found) -> None:
    folder = make("00", scans=2 * RUN + 2, images=False, labels=False)
    (folder / "velodyne" / f"{RUN - 1:06d}.bin").unlink()
    problems = {name: partition.problem for name, partition in found().items()}
    assert "1 of its 250 scans lack" in problems.pop("00-0000")
    assert problems == {"00-0250": None, "00-0500": None}
    for number in range(RUN, 2 * RUN):
        (folder / "velodyne" / f"{number:06d}.bin").unlink()
    assert "250 of its 250 scans lack" in found()["00-0250"].problem


def test_an_empty_sequence_is_absent(make: Callable[..., Path], found: Found, tmp_path: Path) -> None:
    for name in ("00", "01"):
        for path in (make(name) / "velodyne").iterdir():
            path.unlink()
    shutil.rmtree(tmp_path / "root/dataset/sequences/01/image_2")
    shutil.rmtree(tmp_path / "root/dataset/sequences/01/labels")
    assert [(p.name, p.scans, p.why) for p in found().values()] == [
        ("00-0000", 3, "without lidar files"),  # its images say so many
        ("01-0000", 0, "without lidar files"),
    ]
    with pytest.raises(BadInput, match=r"nothing to read: 2 partition.* 00-0000, 01-0000"):
        make_index(tmp_path / "work", "k", Dataset(reader="semantic_kitti", root=str(tmp_path / "root")))


def test_images_of_another_format_are_not_overlooked(make: Callable[..., Path], found: Found) -> None:
    folder = make("00")
    for path in (folder / "image_2").iterdir():
        path.rename(path.with_suffix(".jpg"))
    assert "has 3 files, but none is named like 000000.png" in found()["00-0000"].problem


def test_an_id_outside_the_map_is_counted(make: Callable[..., Path], found: Found, tmp_path: Path) -> None:
    folder = make("00")
    (scan, *_) = found()["00-0000"].scans
    ids = np.array([0, 1, 10, 99, 259, 12, 260, 60_000, 12, 40], "<u4") | 3 << 16
    (folder / "labels" / "000000.label").write_bytes(ids.tobytes())
    with pytest.raises(
        BadInput, match=r"000000.label holds 4 labels of ids that SemanticKITTI does not have, the first 12"
    ):
        READER.read_labels(tmp_path / "root", scan)
    ids[ids & 0xFFFF > 259] = 0
    (folder / "labels" / "000000.label").write_bytes(ids[:9].tobytes())
    with pytest.raises(BadInput, match="holds 2 labels"):
        READER.read_labels(tmp_path / "root", scan)
    (folder / "labels" / "000000.label").write_bytes(ids[:5].tobytes())
    with pytest.raises(BadInput, match="has 5 labels for 10 points"):
        read_labels(READER, tmp_path / "root", scan, 10)
    (folder / "labels" / "000000.label").write_bytes(ids.tobytes()[:-1])
    with pytest.raises(BadInput, match="no positive multiple of 4"):
        READER.read_labels(tmp_path / "root", scan)


def test_a_scan_cut_after_the_index_is_refused(
    make: Callable[..., Path], found: Found, tmp_path: Path
) -> None:
    folder = make("00")
    (scan, *_) = found()["00-0000"].scans
    cut("velodyne/000000.bin", 1)(folder)
    with pytest.raises(BadInput, match="no positive multiple of 16"):
        READER.read_points(tmp_path / "root", scan)
    drop("velodyne/000000.bin")(folder)
    with pytest.raises(BadInput, match="is missing"):
        READER.read_points(tmp_path / "root", scan)


def test_a_new_file_changes_the_cue(make: Callable[..., Path], tmp_path: Path) -> None:
    folder = make("00")
    dataset = Dataset(reader="semantic_kitti", root=str(tmp_path / "root"))
    index, made = make_index(tmp_path / "work", "k", dataset)
    assert made
    assert index.partitions[0].scans == 3
    assert not make_index(tmp_path / "work", "k", dataset)[1]
    for kind, suffix in (("velodyne", ".bin"), ("labels", ".label"), ("image_2", ".png")):
        shutil.copy(folder / kind / f"000000{suffix}", folder / kind / f"000003{suffix}")
    index, made = make_index(tmp_path / "work", "k", dataset)
    assert made
    assert index.partitions[0].scans == 4
    separate = tmp_path / "root" / "calib" / "dataset" / "sequences" / "00"
    separate.mkdir(parents=True)
    (separate / "calib.txt").write_text(WHOLE)
    assert make_index(tmp_path / "work", "k", dataset)[1]


def test_real_labels_read_as_the_official_map_has_them(samples: Path, tmp_path: Path) -> None:
    """The labelled scan; ids and counts taken from the file with the published table, written out here."""
    root = tmp_path / "sequences" / "00"
    for kind, suffix in (("velodyne", ".bin"), ("labels", ".label")):
        (root / kind).mkdir(parents=True)
        shutil.copy(samples / "semantickitti" / "scan_with_labels" / f"000000{suffix}", root / kind)
    (partition,) = READER.partitions(tmp_path, "")
    assert isinstance(partition, PartitionRecord)
    labels = read_labels(READER, tmp_path, partition.scans[0], 123_389)
    raw = np.fromfile(root / "labels" / "000000.label", np.uint16)[::2]
    assert (labels == CLASSES.index("car")).sum() == np.isin(raw, [10, 252]).sum() > 0
    assert (labels == CLASSES.index("person")).sum() == np.isin(raw, [30, 254]).sum() > 0
    assert (labels == CLASSES.index("road")).sum() == np.isin(raw, [40, 60]).sum() > 10_000
    assert (labels == 255).sum() == np.isin(raw, [0, 1, 52, 99]).sum() > 0
