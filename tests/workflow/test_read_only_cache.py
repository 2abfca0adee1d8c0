"""A cache that lies apart and is read-only: who only trains and looks needs nothing else, and writes nothing into it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

MOUNT = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
"""In a mount namespace of its own: root, too, is refused, and the mount goes with the process."""

TRAIN = """
from stages.cli import main

for command in ("index", "scans", "views", "features", "pretrain"):
    main([command, "--config", "config/tiny.yaml"])
"""

LOOK = """
import os

import griddle

cache = griddle.open_cache(os.environ["CACHE"])
features = cache.features()
print(cache.features_at(features.images[0], [[1, 1]]).shape, float(features.patch_grids().mean().compute()))
for store in cache.stores:
    print(store.counts)
"""

RECORD = """
import os
import sys
from pathlib import Path
from pipeline.teachers.weights_lock import check_weights

check_weights(Path(os.environ["CACHE"]), Path("work/mine"), *sys.argv[1:])
"""


@dataclass(frozen=True)
class Shared:
    """A workspace whose cache lies elsewhere; its commands find it read-only."""

    workspace: Any
    cache: Path

    def python(self, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*self.workspace.prefix, sys.executable, "-c", code, *arguments]
        environment = {**os.environ, "CACHE": str(self.cache)}
        return subprocess.run(
            command, cwd=self.workspace.folder, env=environment, capture_output=True, text=True, check=False
        )


@pytest.fixture
def shared(finished_master: Any, tmp_path: Path, make_workspace: Callable[[Path], Any]) -> Shared:
    cache = tmp_path / "group" / "cache"
    shutil.copytree(finished_master.work / "cache", cache)
    (tmp_path / "mine" / "toy").mkdir(parents=True)
    shutil.copytree(finished_master.folder / "toy", tmp_path / "mine" / "toy", dirs_exist_ok=True)
    workspace = make_workspace(tmp_path / "mine")
    workspace.edit(lambda config: config["datasets"]["nuscenes"].update(partitions=["scene-0061"]))
    workspace.edit(lambda config: config.update(cache=str(cache), workdir="work/mine"))
    return Shared(replace(workspace, prefix=read_only(cache)), cache)


def read_only(folder: Path) -> tuple[str, ...]:
    """What a command begins with that finds a folder read-only. Permission bits do not hold root."""
    isolate = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    prefix = (*isolate, "sh", "-c", MOUNT, str(folder))
    try:
        if subprocess.run([*prefix, "test", "!", "-w", str(folder)], capture_output=True).returncode == 0:
            return prefix
    except FileNotFoundError:
        pass
    if os.geteuid() == 0:
        pytest.skip("a read-only folder is needed: neither mount namespaces nor an unprivileged user here")
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    return ()


def state(cache: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder with its time and size."""
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in (cache, *cache.rglob("*"))}


@pytest.mark.whole
def test_training_needs_a_cache_only_to_read(shared: Shared, finished_master: Any) -> None:
    (shared.cache / ".weights.lock.json.lock").unlink()  # as where the cache was brought by a copy
    before = state(shared.cache)
    probe = shared.python("import os; open(os.environ['CACHE'] + '/x', 'w')")
    assert "OSError" in probe.stderr or "PermissionError" in probe.stderr  # it is read-only indeed

    done = shared.python(TRAIN)
    assert done.returncode == 0, done.stderr
    for stage in ("scans", "views", "features"):
        assert f"{stage} nuscenes train: 0 of 1 partition(s) to compute" in done.stderr
    (mine,) = shared.workspace.folder.glob("work/mine/runs/*/done.json")
    (theirs,) = finished_master.work.glob("runs/*/done.json")
    assert mine.parent.name == theirs.parent.name
    learnt, known = (load_file(path.with_name("weights.safetensors")) for path in (mine, theirs))
    assert learnt.keys() == known.keys()
    assert all(np.array_equal(learnt[name], known[name]) for name in known)
    assert not list(shared.workspace.folder.glob("work/mine/**/weights.lock.json"))  # no teacher was loaded

    looked = shared.python(LOOK)
    assert looked.returncode == 0, looked.stderr
    assert looked.stdout.startswith("(1, 192)")
    assert state(shared.cache) == before


def test_the_weights_of_a_teacher_are_then_recorded_in_the_workdir(shared: Shared) -> None:
    (shared.cache / "weights.lock.json").write_text('{"recorded": "aaaa"}')
    before = state(shared.cache)
    (shared.workspace.folder / "work" / "mine").mkdir(parents=True)
    own = shared.workspace.folder / "work" / "mine" / "weights.lock.json"
    assert shared.python(RECORD, "recorded", "aaaa").returncode == 0
    assert not own.exists()
    other = shared.python(RECORD, "recorded", "bbbb")
    assert (other.returncode, "are not those that its features were made with" in other.stderr) == (1, True)
    assert shared.python(RECORD, "new", "cccc").returncode == 0
    assert '"new": "cccc"' in own.read_text()
    again = shared.python(RECORD, "new", "dddd")
    assert "recorded cccc" in again.stderr
    assert state(shared.cache) == before


@pytest.mark.slow
def test_the_workflow_needs_a_cache_only_to_read(shared: Shared) -> None:
    before = state(shared.cache)
    first = shared.workspace.snakemake("pretrain_all")
    assert "0 of 1 partition(s) to compute" in first.stdout + first.stderr
    assert list(shared.workspace.folder.glob("work/mine/runs/*/done.json"))
    assert state(shared.cache) == before
