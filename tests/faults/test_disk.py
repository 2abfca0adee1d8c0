"""A disk that is full, a cache that may only be read, a folder of somebody else's: a clear error, nothing half done."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pipeline.plan.cost import free_space as room

REPOSITORY = Path(__file__).resolve().parents[2]
Tree = Callable[[Path], dict[str, bytes]]


@contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[None]:
    """A mount that is taken away again; skips, saying so, where this user may not mount."""
    done = subprocess.run(["mount", *arguments, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs the right to mount a file system: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def small_disk(filled: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The cache on a disk of its own, with too little room for the views of two scenes.

    It fills up after it was looked at: else nothing would be started at all.
    """
    monkeypatch.setattr(room, "free_bytes", lambda path: 1 << 60)
    scans, disk = filled.cache / "scans", filled.folder / "disk"
    disk.mkdir()
    with mounted(disk, "-t", "tmpfs", "-o", "size=640k", "tmpfs"):
        shutil.copytree(scans, disk / "cache" / "scans")
        shutil.rmtree(filled.workspace.work / "lots" / "views")
        filled.workspace.edit(lambda config: config.update(cache="disk/cache"))
        yield disk


def test_a_full_disk(filled: Any, small_disk: Path, capfd: Any, tree_of: Tree) -> None:
    assert filled.griddle("views") == 1
    said = capfd.readouterr().err
    assert "No space left on device" in said
    assert "MB free" in said
    assert "griddle cache gc" in said
    assert "Traceback" not in said
    names = [path.name for path in (small_disk / "cache" / "views").rglob("*")]
    assert [name for name in names if name.startswith(".writing")] == []
    whole = [name.split(".")[0] for name in names if name.endswith(".json") and name != "zarr.json"]
    assert len(whole) < 2
    # A store whose manifest did not fit is whole, and named by its content: the same command takes it up below.
    assert set(whole) <= {name.split(".")[0] for name in names if name.endswith(".zarr")}
    assert not list((filled.workspace.work / "lots").glob("views/*"))
    # What is there is sound; and with room again the same command goes on.
    assert filled.griddle("cache", "verify", "disk/cache/views" if whole else "disk/cache/scans") == 0
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    assert filled.griddle("views") == 0
    assert f"{2 - len(whole)} of 2 partition(s) to compute" in capfd.readouterr().err
    assert tree_of(small_disk / "cache" / "views") == tree_of(filled.cache / "views")


def test_a_full_disk_at_every_size(filled: Any, small_disk: Path, tree_of: Tree) -> None:
    """Wherever it fills up: what is found is sound, and nothing is left over."""
    wanted = tree_of(filled.cache / "scans")
    full = 0
    for kilobytes in range(40, 400, 60):
        shutil.rmtree(small_disk / "cache")
        shutil.rmtree(filled.workspace.work / "lots" / "scans", ignore_errors=True)
        subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(small_disk)], check=True)
        full += filled.griddle("scans")
        found = tree_of(small_disk / "cache") if (small_disk / "cache").exists() else {}
        found = {
            name.removeprefix("scans/"): data for name, data in found.items() if data != b"an empty folder"
        }
        assert {name: wanted[name] for name in found} == found
        for name in found:
            if name.endswith(".zarr"):
                assert name.rsplit(".", 2)[0] + ".json" in " ".join(found)
    assert 0 < full < 6


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    with mounted(folder, "--bind", str(folder)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
        yield


def test_a_cache_that_may_only_be_read_serves_for_training(filled: Any, tree_of: Tree) -> None:
    shared = filled.folder / "shared"
    shutil.move(filled.cache, shared)
    shutil.rmtree(filled.workspace.work)
    filled.workspace.edit(lambda config: config.update(cache="shared"))
    before = tree_of(shared)
    with read_only(shared):
        for command in ("index", "scans", "scans --labels", "views", "features", "cache verify", "cache ls"):
            assert filled.griddle(*command.split()) == 0, command
        (run,) = filled.workspace.plan().runs.values()
        assert filled.griddle("pretrain", "--run", Path(run.folder).name) == 0
        assert filled.griddle("cache", "verify", "--recompute", "1") == 0
    assert tree_of(shared) == before
    assert (filled.workspace.work / "runs").is_dir()


def test_computing_into_a_cache_that_may_only_be_read(filled: Any, capfd: Any) -> None:
    filled.workspace.edit(lambda config: config["students"]["wi_tiny"]["points"].update(voxel=0.3))
    with read_only(filled.cache):
        capfd.readouterr()
        assert filled.griddle("views") == 2
        said = capfd.readouterr().err
    assert "Read-only file system" in said
    assert "write into the config a `cache` that is yours" in said
    assert "Traceback" not in said


def test_repairing_a_cache_that_may_only_be_read(filled: Any, capfd: Any) -> None:
    shard = next(filled.cache.glob("views/*/*.zarr/depth/c/0"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with read_only(filled.cache):
        assert filled.griddle("cache", "verify", "--repair") == 2
        assert "Read-only file system" in capfd.readouterr().err
    assert filled.griddle("cache", "verify") == 1


AS_SOMEBODY = """
import os, sys
import scipy.spatial, zarr
import pipeline.datasets.nuscenes.reader, pipeline.preprocessing.lots, pipeline.plan.cost.free_space, pipeline.preprocessing.views, stages.views
from stages.cli import main
os.setgid(65534), os.setuid(65534)
main(sys.argv[1:])
"""


def test_a_folder_of_somebody_elses(filled: Any) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to run as another user")
    filled.workspace.edit(lambda config: config["students"]["wi_tiny"]["points"].update(voxel=0.3))
    for path in (filled.folder, *filled.folder.parents):
        with suppress(OSError):
            if path.stat().st_uid == 0 and path != Path("/"):
                path.chmod(path.stat().st_mode | 0o055)
    done = subprocess.run(
        [sys.executable, "-c", AS_SOMEBODY, "views", "--config", "config/tiny.yaml"],
        cwd=filled.folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert f"{filled.cache.relative_to(filled.folder)}/views" in done.stderr
    assert "Permission denied" in done.stderr
    assert "Traceback" not in done.stderr
