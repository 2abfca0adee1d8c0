"""A full disk, a file-size limit and a killed worker while a student is trained: in our words, and the same command goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from cache_schemas.errors import CannotWrite, GriddleError
from pipeline.training.run_faults import run_faults

REPOSITORY = Path(__file__).resolve().parents[2]


@contextmanager
def small_runs(filled: Any, kilobytes: int) -> Iterator[Path]:
    """The folder of the runs on a disk of its own."""
    runs = filled.workspace.work / "runs"
    runs.mkdir()
    options = ("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs")
    done = subprocess.run(["mount", *options, str(runs)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs the right to mount a file system: {done.stderr.strip()}")
    try:
        yield runs
    finally:
        subprocess.run(["umount", "--lazy", str(runs)], check=True)


def check_said(said: str, folder: Path, *words: str) -> None:
    assert "Traceback" not in said, said
    assert "Exception" not in said, said
    line = next(line for line in said.splitlines() if line.startswith("griddle:"))
    assert folder.name in line, said
    for word in words:
        assert word in said


def test_a_full_disk_while_training(filled: Any, capfd: Any) -> None:
    """Wherever it fills up: in the lease, metrics, a checkpoint, the weights."""
    filled.workspace.edit(lambda config: config.update(checkpoint_minutes=1e-6))
    full = 0
    for kilobytes in (12, 40, 120, 1000):
        with small_runs(filled, kilobytes) as runs:
            capfd.readouterr()
            code = filled.griddle("pretrain")
            said = "".join(capfd.readouterr())
            if code:
                full += 1
                assert code == 1
                check_said(said, runs, "No space left on device", f"{runs.parent.name}/runs/", "MB free")
                assert not list(runs.glob("*/done.json"))
                assert not list(runs.rglob(".writing*")), kilobytes
            subprocess.run(["mount", "-o", "remount,size=16m", str(runs)], check=True)
            assert filled.griddle("pretrain") == 0
            assert list(runs.glob("*/done.json"))
        shutil.rmtree(filled.workspace.work / "runs")
    assert 2 <= full <= 3


LIMITED = """
import resource, sys
from stages.cli import main
size = int(sys.argv[1]) * 1024
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
main(sys.argv[2:])
"""


@pytest.mark.parametrize("kilobytes", [1, 8, 24])
def test_a_file_size_limit_while_training(filled: Any, kilobytes: int) -> None:
    """As `ulimit -f`, in a process of its own: the limit would hold for the tests' files, too."""
    filled.workspace.edit(lambda config: config.update(checkpoint_minutes=1e-6))
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(kilobytes), "pretrain", "--config", "config/tiny.yaml"],
        cwd=filled.folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    check_said(done.stderr, filled.workspace.work / "runs", "File too large", "ulimit -f")
    assert not list(filled.workspace.work.glob("runs/*/done.json"))
    assert filled.griddle("pretrain") == 0


def workers_of(parent: int) -> list[int]:
    """Its children that are forks of it: they have its command line."""
    mine = Path(f"/proc/{parent}/cmdline").read_bytes()
    forks = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, IndexError):
            if entry.name.isdigit() and (entry / "stat").read_text().rsplit(")", 1)[1].split()[1] == str(
                parent
            ):
                forks += [int(entry.name)] if (entry / "cmdline").read_bytes() == mine else []
    return forks


def test_a_worker_that_the_system_kills(filled: Any) -> None:
    def change(config: dict[str, Any]) -> None:
        config["workers"] = 2
        config["students"]["wi_tiny"]["pretrain"]["epochs"] = 2000

    filled.workspace.edit(change)
    (run,) = filled.workspace.plan().runs.values()
    command = ["-m", "stages.cli", "pretrain", "--run", Path(run.folder).name, "--config", "config/tiny.yaml"]
    with open(filled.folder / "log.txt", "w") as log:
        trainer = subprocess.Popen(
            [sys.executable, *command],
            cwd=filled.folder,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
        )
    try:
        while len(workers := workers_of(trainer.pid)) < 2 and trainer.poll() is None:
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(workers[0], signal.SIGKILL)
        code = trainer.wait(60)
    finally:
        trainer.kill()
    said = (filled.folder / "log.txt").read_text()
    assert code == 1, said[-3000:]
    assert "Traceback" not in said, said[-3000:]
    assert "when the memory is full" in said
    assert "Lower `workers`" in said


def test_what_is_said_of_other_deaths(tmp_path: Path) -> None:
    bus = "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory."
    for message, word in ((bus, "/dev/shm"), ("DataLoader worker (pid 7) exited unexpectedly", "workers: 0")):
        with pytest.raises(GriddleError, match=word), run_faults(tmp_path):
            raise RuntimeError(message)
    with pytest.raises(RuntimeError, match="shapes"), run_faults(tmp_path):
        raise RuntimeError("shapes do not fit")


def test_a_thread_of_a_package_prints_no_traceback(tmp_path: Path, capfd: Any) -> None:
    def write() -> None:
        raise OSError(28, "No space left on device")

    with run_faults(tmp_path):
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    said = "".join(capfd.readouterr())
    assert "No space left on device" in said
    assert "Traceback" not in said


BUSY = """
import asyncio, sys, time
import numpy as np
import zarr
{ours}
from zarr.core import sync
group = zarr.create_group(store=zarr.storage.MemoryStore())
group.create_array("a", data=np.zeros(4))
sync._get_loop().call_soon_threadsafe(time.sleep, 1.0)
"""


def test_zarr_ends_quietly_on_a_busy_machine() -> None:
    for ours, quiet in (("", False), ("import cache_schemas.zarr_loop", True)):
        done = subprocess.run(
            [sys.executable, "-c", BUSY.format(ours=ours)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert ("Cannot close a running event loop" not in done.stderr) == quiet, done.stderr


def test_an_error_of_the_disk_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(CannotWrite, match=r"metrics\.csv"), run_faults(tmp_path / "metrics.csv"):
        raise OSError(28, "No space left on device")
