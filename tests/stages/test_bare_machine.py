"""A machine without devkits, without Snakemake, and with Griddle as a checkout that nobody installed.

Whoever trains from a cache that was made elsewhere needs none of these, nor does whoever reads another dataset.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kitti_tree import WHOLE

REPOSITORY = Path(__file__).resolve().parents[2]
ABSENT = ("nuscenes", "pyquaternion", "cv2", "sklearn", "pykitti", "snakemake")

BARE = """
import importlib.metadata as metadata, sys

sys.path.insert(0, {repository!r})

class Without:
    # A finder of modules that finds none of these, as if they were not installed.
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, *rest):
        return None if name.partition(".")[0] in {absent!r} else self.finder.find_spec(name, *rest)

sys.meta_path = [Without(finder) for finder in sys.meta_path]
found = metadata.version

def version(name):
    if name == "griddle":
        raise metadata.PackageNotFoundError(name)
    return found(name)

metadata.version = version
{work}
"""

Bare = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    """Runs lines of Python on such a machine, in `tmp_path`."""

    def run(work: str) -> subprocess.CompletedProcess[str]:
        script = BARE.format(repository=str(REPOSITORY), absent=ABSENT, work=work)
        return subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    return run


def commands(*lines: str) -> str:
    """Griddle's commands one after the other, in one process."""
    return "from stages.cli import main\n" + "".join(f"main({line.split()!r})\n" for line in lines)


def refused(done: subprocess.CompletedProcess[str], *told: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("griddle: ")
    assert "Traceback" not in done.stderr
    for words in told:
        assert words in done.stderr


@pytest.mark.whole
def test_another_dataset_goes_the_whole_way(bare: Bare, tmp_path: Path) -> None:
    tiny = (REPOSITORY / "config" / "tiny.yaml").read_text()
    config = tiny.replace("reader: nuscenes", "reader: pandaset64").replace(
        "    version: v1.0-trainval\n", ""
    )
    (tmp_path / "tiny.yaml").write_text(config)
    stages = ("index", "plan", "scans", "views", "features", "pretrain")
    done = bare(
        "from pathlib import Path\nfrom pipeline.datasets.toys import toy_writer\n"
        "toy_writer('pandaset')(Path('toy/tiny'), train=1, val=0, scans=2, image=(54, 96), beams=16, azimuths=120, "
        "processes=1)\n"
        + commands(*(f"{stage} --config tiny.yaml" for stage in stages), "cache verify --config tiny.yaml")
        + "import griddle\nprint(griddle.open_cache('work/tiny/cache').features().patch_grids().shape)\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("(12, 2, 4, 192)")
    (manifest,) = tmp_path.glob("work/tiny/cache/scans/*/*.json")
    versions = json.loads(manifest.read_bytes())["made"]["versions"]
    assert versions["griddle"] is None
    assert versions["zarr"]


def test_a_cache_of_nuscenes_is_trained_from_without_its_devkit(filled: Any, bare: Bare) -> None:
    folder = str(filled.folder)
    names = ("plan", "pretrain", "probe", "cache verify", "report")
    done = bare(
        f"import os\nos.chdir({folder!r})\n"
        + commands(*(f"{name} --config config/tiny.yaml" for name in names))
    )
    assert done.returncode == 0, done.stderr
    assert "student" in done.stdout + done.stderr


def test_the_reader_of_nuscenes_says_what_to_install(filled: Any, bare: Bare) -> None:
    done = bare(
        f"import os\nos.chdir({str(filled.folder)!r})\n" + commands("index --force --config config/tiny.yaml")
    )
    refused(done, "the reader nuscenes needs nuscenes-devkit", "`pip install nuscenes-devkit`", "--no-deps")


def test_a_toy_tree_of_nuscenes_says_what_to_install(bare: Bare, tmp_path: Path) -> None:
    refused(bare(commands("toy")), "needs nuscenes-devkit", "`pip install nuscenes-devkit`")
    assert not any(tmp_path.iterdir())


def test_the_reader_of_semantic_kitti_says_what_to_install(bare: Bare, tmp_path: Path) -> None:
    sequence = tmp_path / "kitti" / "sequences" / "00"
    (sequence / "velodyne").mkdir(parents=True)
    (sequence / "velodyne" / "000000.bin").write_bytes(bytes(16))
    (sequence / "image_2").mkdir()
    (sequence / "image_2" / "000000.png").touch()
    (sequence / "calib.txt").write_text(WHOLE)
    tiny = (REPOSITORY / "config" / "tiny.yaml").read_text()
    config = tiny.replace("reader: nuscenes", "reader: semantic_kitti").replace(
        "root: toy/tiny", "root: kitti"
    )
    (tmp_path / "tiny.yaml").write_text(config.replace("    version: v1.0-trainval\n", ""))
    done = bare(commands("index --config tiny.yaml"))
    refused(done, "the reader semantic_kitti needs pykitti", "`pip install pykitti`")


def test_its_version_is_not_known(bare: Bare) -> None:
    done = bare(commands("--version"))
    assert done.returncode == 0, done.stderr
    assert "a checkout that is not installed" in done.stdout
