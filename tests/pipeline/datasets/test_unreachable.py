"""Every packaged reader names what cannot be reached, of optional folders too, and copies of a sequence are named."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kitti_tree import WHOLE
from pandaset_tree import SAN_FRANCISCO, write_sequence
from PIL import Image

from cache_schemas.errors import BadInput
from pipeline.config.model import Dataset
from pipeline.datasets.copies import about_copies
from pipeline.datasets.index import Index, _stamp, make_index, why_absent
from pipeline.datasets.pandaset.reader import PANDAR64
from pipeline.datasets.reader import Reader

Tree = Callable[[Path], None]


def write_kitti(root: Path) -> None:
    random = np.random.default_rng(3)
    for sequence in ("00", "01", "08", "11"):
        folder = root / "dataset" / "sequences" / sequence
        for kind in ("velodyne", "image_2", *(["labels"] if sequence != "11" else [])):
            (folder / kind).mkdir(parents=True)
        (folder / "calib.txt").write_text(WHOLE)
        for number in range(2):
            random.uniform(-20, 20, (10, 4)).astype("<f4").tofile(folder / f"velodyne/{number:06d}.bin")
            Image.new("RGB", (120, 36)).save(folder / f"image_2/{number:06d}.png")
            if sequence != "11":
                np.full(10, 40, "<u4").tofile(folder / f"labels/{number:06d}.label")


def write_pandaset(root: Path) -> None:
    for name, labels in (("001", True), ("002", True), ("003", False)):
        write_sequence(root, name, latitude=SAN_FRANCISCO, labels=labels)


TREES: dict[str, tuple[Tree, Dataset]] = {
    "semantic_kitti": (write_kitti, Dataset(reader="semantic_kitti", root=".")),
    "pandaset64": (write_pandaset, Dataset(reader="pandaset64", root=".")),
}
SEQUENCES = {"semantic_kitti": "dataset/sequences/01", "pandaset64": "002"}
KITTI = [("semantic_kitti", place) for place in ("", "velodyne", "image_2", "labels", "calib.txt")]
KITTI += [("semantic_kitti", "image_2/000001.png"), ("semantic_kitti", "labels/000000.label")]
PANDASET = [("pandaset64", place) for place in ("", "lidar", "camera/left_camera", "annotations", "meta")]
PANDASET += [("pandaset64", "annotations/semseg"), ("pandaset64", "annotations/semseg/00.pkl.gz")]


def index_of(reader: str, tmp_path: Path, *, force: bool = False) -> Index:
    dataset = TREES[reader][1].model_copy(update={"root": str(tmp_path / "root")})
    return make_index(tmp_path / "work", "d", dataset, force=force)[0]


def problems(index: Index) -> dict[str, str]:
    return {entry.name: entry.problem for entry in index.partitions if entry.problem}


@pytest.fixture
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    reader: str = request.node.callspec.params["reader"]
    TREES[reader][0](tmp_path / "root")
    assert not problems(index_of(reader, tmp_path))
    return tmp_path / "root"


@pytest.mark.parametrize(("reader", "place"), KITTI + PANDASET)
def test_a_link_to_nothing_is_a_problem_of_its_sequence(
    reader: str, place: str, tree: Path, tmp_path: Path
) -> None:
    sequence = tree / SEQUENCES[reader]
    path = sequence / place
    apart = tmp_path / "apart"
    path.rename(apart)
    path.symlink_to("/not/mounted")
    (found,) = problems(index_of(reader, tmp_path)).items()
    assert found[0].startswith(sequence.name)
    assert f"{path} is a link to /not/mounted, which is not there" in found[1]
    path.unlink()
    path.symlink_to(apart)
    assert not problems(index_of(reader, tmp_path, force=True)), "mounted again"


FOLDERS = [case for case in KITTI + PANDASET if "." not in case[1] and case[1]] + [("pandaset64", "camera")]


@pytest.mark.parametrize(("reader", "place"), FOLDERS)
def test_the_index_follows_what_is_wrong_with_a_folder(
    reader: str, place: str, tree: Path, tmp_path: Path
) -> None:
    path, apart = tree / SEQUENCES[reader] / place, tmp_path / "apart"
    path.rename(apart)

    def missing() -> None:
        path.unlink(missing_ok=True)

    def link() -> None:
        path.symlink_to("/not/mounted")

    def another_link() -> None:
        path.unlink()
        path.symlink_to(tmp_path / "disk")

    def empty() -> None:
        path.unlink()
        path.mkdir()

    def no_folder() -> None:
        path.rmdir()
        path.touch()

    def mounted() -> None:
        path.unlink()
        path.symlink_to(tmp_path / "disk")
        index_of(reader, tmp_path)
        apart.rename(tmp_path / "disk")  # nothing in the dataset itself is touched

    for change in (missing, link, missing, link, another_link, empty, no_folder, mounted):
        change()
        assert problems(index_of(reader, tmp_path)) == problems(index_of(reader, tmp_path, force=True)), (
            change.__name__
        )
    assert not problems(index_of(reader, tmp_path))


def refuse(path: Path) -> None:
    raise PermissionError(errno.EACCES, "Permission denied", str(path))


def test_stamps_tell_apart_why_a_folder_has_no_files(tmp_path: Path) -> None:
    watched = tmp_path / "002" / "camera" / "left_camera"
    camera = watched.parent
    camera.parent.mkdir()
    stamps = [_stamp(watched)]
    camera.symlink_to("/not/mounted")
    stamps.append(_stamp(watched))
    camera.unlink()
    camera.symlink_to("/not/mounted/either")
    stamps.append(_stamp(watched))
    camera.unlink()
    camera.mkdir()
    stamps.append(_stamp(watched))
    with pytest.MonkeyPatch.context() as patch:  # root may look into every folder
        patch.setattr(Path, "stat", refuse)
        stamps.append(_stamp(watched))
    watched.mkdir()
    stamps.append(_stamp(watched))
    assert len(set(map(str, stamps))) == 6, stamps


def test_the_default_cue_has_links_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "root" / "00").mkdir(parents=True)
    link = tmp_path / "root" / "00" / "000000.bin"
    link.symlink_to(tmp_path / "disk")
    watched = Reader.cue(PANDAR64, tmp_path / "root", "")
    assert watched == [tmp_path / "root", link.parent, link]
    (tmp_path / "disk").touch()
    assert Reader.cue(PANDAR64, tmp_path / "root", "") == [tmp_path / "root", link.parent]


@pytest.mark.parametrize(
    ("reader", "place"),
    [
        *(("semantic_kitti", kind) for kind in ("velodyne", "image_2", "labels")),
        ("pandaset64", "annotations/semseg"),
    ],
)
def test_an_empty_folder_beside_full_ones_is_a_problem(
    reader: str, place: str, tree: Path, tmp_path: Path
) -> None:
    path = tree / SEQUENCES[reader] / place
    for file in path.iterdir():
        file.unlink()
    (path / "._000000").touch()
    (found,) = problems(index_of(reader, tmp_path)).values()
    assert f"{path} is empty, but " in found
    shutil.rmtree(path)
    assert not problems(index_of(reader, tmp_path)), "a folder that is not there is an absence"


@pytest.mark.parametrize("reader", ["semantic_kitti"])
def test_sequences_of_test_have_no_labels(reader: str, tree: Path, tmp_path: Path) -> None:
    (tree / "dataset/sequences/11/labels").mkdir()
    assert not problems(index_of(reader, tmp_path))


@pytest.mark.parametrize("reader", list(TREES))
def test_a_copy_of_a_sequence_is_named(reader: str, tree: Path, tmp_path: Path) -> None:
    sequence = tree / SEQUENCES[reader]
    assert index_of(reader, tmp_path).copies == {}
    backup = sequence.name + "_backup"
    shutil.copytree(sequence, sequence.with_name(backup))
    index = index_of(reader, tmp_path)
    if reader == "semantic_kitti":
        assert f"whose folder's name is none of 00 to 21 (a copy of one of them?): {backup}" in why_absent(
            index.absent
        )
        shutil.rmtree(sequence.with_name("00"))
        shutil.copytree(sequence, sequence.with_name("00"))
        assert index_of(reader, tmp_path, force=True).copies == {"01-0000": "00-0000"}
    else:
        assert index.copies == {backup: "002"}
        splits = {entry.name: entry.split for entry in index.partitions}
        assert about_copies(index.copies, splits) == (
            f"{backup} (train) is a copy of 002 (train); both are used. To use each recording once, write leave_out: [{backup}]"
        )


def test_of_a_recording_in_train_and_val_the_one_of_train_is_left_out() -> None:
    copies = {"02-0000": "01-0000", "08-0000": "00-0000", "09_b": "09", "x_copy": "x"}
    splits = {"00-0000": "train", "01-0000": "train", "02-0000": "train", "08-0000": "val"}
    splits |= {"09": "val", "09_b": "test", "x-train": "train", "x-val": "val", "x_copy": "val"}
    assert about_copies(copies, splits) == (
        "08-0000 (val) is a copy of 00-0000 (train); both are used: the recording is in train and val; "
        "09_b (test) is a copy of 09 (val); both are used: the recording is in val and test; "
        "x_copy (val) is a copy of x (train, val); both are used: the recording is in train and val; "
        "02-0000 (train) is a copy of 01-0000 (train); both are used. "
        "To use each recording once, write leave_out: [02-0000, 00-0000, 09, x_copy]"
    )
    once = {"02-0000", "00-0000", "09", "x_copy"}
    assert about_copies(copies, splits, lambda name: name not in once) is None
    assert about_copies({}, splits) is None


@pytest.mark.parametrize("place", ["samples", "samples/CAM_BACK", "lidarseg", "lidarseg/v1.0-trainval"])
def test_nuscenes_folders_that_cannot_be_reached(place: str, toy: Path, tmp_path: Path) -> None:
    dataset = Dataset(reader="nuscenes", root=str(toy), version="v1.0-trainval")
    (toy / place).rename(tmp_path / "apart")
    (toy / place).symlink_to("/not/mounted")
    with pytest.raises(BadInput, match=rf"{place} is a link to /not/mounted"):
        make_index(tmp_path / "work", "d", dataset)


def test_nuscenes_files_that_cannot_be_reached_or_are_gone(toy: Path, tmp_path: Path) -> None:
    dataset = Dataset(reader="nuscenes", root=str(toy), version="v1.0-trainval")
    labels = toy / "lidarseg" / "v1.0-trainval"
    for file in sorted(labels.iterdir())[:2]:
        file.unlink()
        file.symlink_to("/not/mounted")
    broken = problems(make_index(tmp_path / "work", "d", dataset)[0])
    assert broken
    assert all("is a link to /not/mounted, which is not there" in problem for problem in broken.values())
    for file in labels.iterdir():
        file.unlink()
    with pytest.raises(BadInput, match=rf"{labels} is empty, but .*LIDAR_TOP has \d+ files: extract"):
        make_index(tmp_path / "work", "d", dataset, force=True)
