"""What is not there and what cannot be reached are two things; hidden files are passed over."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import griddle
from cache_schemas.errors import BadInput
from pipeline.datasets.files import size_of
from pipeline.datasets.listing import is_reachable, names_of

REPOSITORY = Path(__file__).resolve().parents[3]
AS_NOBODY = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import griddle
files_in = griddle.files_in
os.setgid(65534), os.setuid(65534)
try:
    print(files_in(Path(sys.argv[2]), "*.bin", optional=True))
except griddle.BadInput as error:
    print("refused:", error)
"""


def fill(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_files_come_in_order_without_hidden_ones(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", "b.bin", "a.bin", "._a.bin", ".DS_Store", "a.txt")
    (folder / "c.bin").mkdir()
    assert griddle.files_in(folder, "*.bin") == [folder / "a.bin", folder / "b.bin"]
    fill(tmp_path / "._a", "x.bin")
    assert griddle.folders_in(tmp_path) == [folder]
    assert griddle.files_in(tmp_path, "*/?.bin") == [folder / "a.bin", folder / "b.bin"]
    assert griddle.files_in(tmp_path / "none", optional=True) == []


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=rf"{tmp_path}/none is missing"):
        griddle.files_in(tmp_path / "none", "*.bin")
    with pytest.raises(BadInput, match="none is missing"):
        griddle.files_in(tmp_path / "none", "*/*.bin")
    with pytest.raises(BadInput, match="a is no folder"):
        griddle.folders_in(fill(tmp_path, "a") / "a", optional=True)


@pytest.mark.parametrize("below", ["", "/b", "/b/c"])
def test_a_link_to_nothing_is_no_absence(tmp_path: Path, below: str) -> None:
    (tmp_path / "link").symlink_to("/not/mounted/link")
    path = Path(f"{tmp_path}/link{below}")
    for look in (is_reachable, names_of, size_of, lambda p: griddle.files_in(p, optional=True)):
        with pytest.raises(
            BadInput, match=rf"{tmp_path}/link is a link to /not/mounted/link, which is not there: mount"
        ):
            look(path)


def test_a_link_to_nothing_among_files_is_named(tmp_path: Path) -> None:
    fill(tmp_path, "a.bin")
    (tmp_path / "b.bin").symlink_to("nothing")
    (tmp_path / "b.txt").symlink_to("nothing")
    assert griddle.files_in(tmp_path, "a.*") == [tmp_path / "a.bin"]
    for pattern in ("*.bin", "*"):
        with pytest.raises(BadInput, match=r"b\.bin is a link to nothing"):
            griddle.files_in(tmp_path, pattern)
        with pytest.raises(BadInput, match=r"b\.bin is a link to nothing"):
            griddle.folders_in(tmp_path, pattern)


def test_links_in_a_circle_cannot_be_reached(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(BadInput, match=r"a cannot be reached \(Too many levels of symbolic links\)"):
        is_reachable(tmp_path / "a")


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("closed", ["outer", "outer/inner"])
def test_a_folder_without_the_right_to_read_it_is_named(tmp_path: Path, closed: str) -> None:
    inner = fill(tmp_path / "outer" / "inner", "a.bin")
    for path in (inner, *inner.parents):
        if Path(tempfile.gettempdir()) in path.parents:
            path.chmod(path.stat().st_mode | 0o055)
    (tmp_path / closed).chmod(0)
    command = [sys.executable, "-c", AS_NOBODY, str(REPOSITORY), str(inner)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (tmp_path / closed).chmod(0o755)
    assert "refused:" in said
    assert f"{inner} cannot be" in said
    assert "Permission denied" in said


def test_an_empty_folder_beside_full_ones_is_named(tmp_path: Path) -> None:
    full, empty = fill(tmp_path / "00", "a.png"), fill(tmp_path / "01", "._a.png")
    griddle.check_none_empty([empty, tmp_path / "none"], "*.png")
    griddle.check_none_empty([full, tmp_path / "none"], "*.png")
    with pytest.raises(BadInput, match=rf"{empty} is empty, but {full} has 1 file: extract"):
        griddle.check_none_empty([full, empty, tmp_path / "none"], "*.png")
