"""The toy tree in SemanticKITTI's format, as pykitti and our own reader see it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pykitti
import pytest
from click.testing import CliRunner
from toy_agreement import agreement

from cache_schemas.errors import BadInput
from pipeline.datasets.array_checks import read_labels
from pipeline.datasets.records import PartitionRecord
from pipeline.datasets.semantic_kitti.classes import CLASSES
from pipeline.datasets.semantic_kitti.reader import READER
from pipeline.datasets.semantic_kitti.toy import write_toy
from pipeline.datasets.semantic_kitti.toy_scene import CAMERA, ID_OF, WORLD, elevations, open_world
from pipeline.datasets.town.parameters import Parameters
from pipeline.geometry.projection import see
from stages.toy import toy

SIZES: dict[str, Any] = {"scans": 2, "image": (48, 160), "beams": 16, "azimuths": 120}


def files_of(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }


def partitions(root: Path) -> dict[str, PartitionRecord]:
    READER.check(root, "")
    found = {partition.name: partition for partition in READER.partitions(root, "")}
    for partition in found.values():
        assert isinstance(partition, PartitionRecord)
        assert partition.problem is None
    return found  # type: ignore[return-value]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy")
    write_toy(root, train=1, val=2, processes=1, **SIZES)
    return root


def test_pykitti_reads_it(tree: Path) -> None:
    for sequence, scans in (("00", 2), ("08", 4)):
        found = pykitti.odometry(str(tree / "dataset"), sequence)
        assert len(found) == len(found.velo_files) == len(found.cam2_files) == scans
        assert [t.total_seconds() for t in found.timestamps] == sorted(
            t.total_seconds() for t in found.timestamps
        )
        scan = found.get_velo(scans - 1)
        assert len(scan) > 1000
        assert found.get_cam2(0).size == {"00": (160, 48), "08": (158, 47)}[sequence]
        turn = found.calib.T_cam0_velo[:3, :3]
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
        np.testing.assert_allclose(turn, [[0, -1, 0], [0, 0, -1], [1, 0, 0]], atol=0.05)
        assert found.calib.b_rgb == pytest.approx(0.533, abs=0.01)


def test_our_reader_reads_it(tree: Path) -> None:
    found = partitions(tree)
    assert {name: (p.split, len(p.scans)) for name, p in found.items()} == {
        "00-0000": ("train", 2), "08-0000": ("val", 4)
    }  # fmt: skip
    for partition in found.values():
        for scan in partition.scans:
            xyz, intensity = READER.read_points(tree, scan)
            assert 0 <= intensity.min() < intensity.max() <= 1
            np.testing.assert_allclose(intensity * 100, np.round(intensity * 100), atol=1e-4)
            labels = read_labels(READER, tree, scan, len(xyz))
            assert {CLASSES[k] for k in np.unique(labels)} >= {"road", "sidewalk", "building"}
            raw = np.fromfile(tree / str(scan.label_path), "<u4")
            assert ((raw >> 16 > 0) == np.isin(raw & 0xFFFF, [10, 18, 30])).all()
            assert abs(np.median(xyz[labels == CLASSES.index("road"), 2]) + 1.73) < 0.1


def test_points_fall_on_pixels_of_their_class(tree: Path) -> None:
    parameters = Parameters(seed=0, world=WORLD, **SIZES)
    agreed = sure = 0
    for partition, scenes in zip(partitions(tree).values(), (["00-00"], ["08-00", "08-01"]), strict=True):
        worlds = [(open_world(name, parameters), number) for name in scenes for number in range(2)]
        for scan, (world, number) in zip(partition.scans, worlds, strict=True):
            pinhole, mount = world.cameras[CAMERA]
            seen = see(READER.read_points(tree, scan)[0], scan.images[0], READER.traits.mask("strict"))
            raw = np.fromfile(tree / str(scan.label_path), "<u4")[seen.point] & 0xFFFF
            camera = pinhole, world.drive.pose(world.times[number]) @ mount
            found = agreement(world.town, camera, seen.pixel, seen.depth, raw, ID_OF)
            agreed, sure = agreed + found[0], sure + found[1]
    assert sure > 400
    assert agreed / sure > 0.98


def test_a_longer_sequence_keeps_all_old_files(tmp_path: Path) -> None:
    small = SIZES | {"scans": 1, "image": (16, 40)}
    write_toy(tmp_path, train=1, val=1, processes=1, **small)
    before, digests = files_of(tmp_path), partitions(tmp_path)["00-0000"].member_digests()
    made = write_toy(tmp_path, train=2, val=2, processes=1, **small)
    assert set(made.written) == {"01-00", "08-01"}
    after = files_of(tmp_path)
    changed = [name for name in before if after[name] != before[name]]
    assert changed == ["dataset/sequences/08/times.txt"]
    assert partitions(tmp_path)["00-0000"].member_digests() == digests
    assert len(partitions(tmp_path)["08-0000"].scans) == 2
    made = write_toy(tmp_path, train=2, val=2, processes=1, **small)
    assert made.written == ()
    assert files_of(tmp_path) == after
    (tmp_path / "dataset/sequences/01/image_2/000000.png").unlink()
    assert write_toy(tmp_path, train=2, val=2, processes=1, **small).written == ("01-00",)
    assert files_of(tmp_path) == after


def test_what_cannot_be_is_refused(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="beams 16; now beams 8"):
        write_toy(tree, train=1, val=2, processes=1, **SIZES | {"beams": 8})
    for asked in ({"train": 1001}, {"val": 101}, {"train": 0, "val": 0}, {"scans": 0}):
        with pytest.raises(BadInput, match=next(iter(asked))):
            write_toy(tmp_path / "new", **asked)
    (tmp_path / "dataset/sequences/00/velodyne").mkdir(parents=True)
    with pytest.raises(BadInput, match="did not write"):
        write_toy(tmp_path, train=1, val=0, processes=1, **SIZES)


def test_the_lidar_is_an_hdl64() -> None:
    beams = np.array(elevations(64))
    assert len(beams) == 64
    assert (beams[0], beams[-1]) == (2.0, -24.8)
    steps = -np.diff(beams)
    np.testing.assert_allclose(steps[:31], 1 / 3, atol=0.01)
    np.testing.assert_allclose(steps[31:], 0.5, atol=0.02)


def test_the_command_takes_a_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ["--format", "semantic_kitti", "--train", "1", "--val", "0", "--scans", "1", "--processes", "1"]
    said = CliRunner().invoke(toy, asked, catch_exceptions=False).output
    assert "toy/semantic_kitti: 1 scenes, 1 scans, 1 images" in said
    assert list(partitions(tmp_path / "toy/semantic_kitti")) == ["00-0000"]
    assert "nuscenes|pandaset|semantic_kitti" in CliRunner().invoke(toy, ["--help"]).output
