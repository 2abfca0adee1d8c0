"""Two trainers of one folder, one of which was stopped for longer than its lease: the curve is that of the one that took over."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cache_schemas.errors import GriddleError
from pipeline.training.recorder import COLUMNS, MetricsFile, read_metrics

REPOSITORY = Path(__file__).resolve().parents[3]

TRAINER = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from cache_schemas.errors import GriddleError
from pipeline.training.lease import Lease
from pipeline.training.recorder import Recorder

folder, last, loss = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
batch = SimpleNamespace(clouds=SimpleNamespace(features=[0], count=1))
try:
    with Lease(folder, heartbeat=0.05, dead=0.4) as lease:
        recorder = Recorder(folder, lease, 0, last, last)
        print("inside", flush=True)
        for step in range(last):
            recorder.step(step + 1, loss, 0.1, batch, 0.0)
            time.sleep(0.01)
        recorder.close()
except GriddleError as error:
    sys.exit(f"griddle: {error}")
"""


def start(folder: Path, last: int, loss: float) -> subprocess.Popen[str]:
    trainer = subprocess.Popen(
        [sys.executable, "-c", TRAINER, str(folder), str(last), str(loss)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert trainer.stdout is not None
    assert trainer.stdout.readline() == "inside\n"
    return trainer


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.whole) for seed in (1, 2))])
def test_who_goes_on_after_a_pause_spoils_no_curve(seed: int, tmp_path: Path) -> None:
    """It goes on while the other one trains, or when that one is done."""
    rng = random.Random(seed)
    first = start(tmp_path, 2000, 1.0)
    try:
        first.communicate(timeout=rng.uniform(0.1, 0.5))
    except subprocess.TimeoutExpired:
        first.send_signal(signal.SIGSTOP)
    second = start(tmp_path, 80, 2.0)
    if seed == 0:
        second.wait(30)
    first.send_signal(signal.SIGCONT)
    _, said = first.communicate(timeout=30)
    if seed == 0:
        assert "another trainer took over and is done" in said
    else:
        assert f"was taken over by process {second.pid}" in said
    assert first.returncode == 1
    assert "Traceback" not in said
    assert second.wait(30) == 0
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [int(row["step"]) for row in rows] == list(range(1, 81))
    assert {row["loss"] for row in rows} == {"2.0"}


def row(step: int) -> dict[str, float | int]:
    return dict.fromkeys(COLUMNS, 0.5) | {"step": step}


def test_an_older_file_that_is_still_open_gets_no_more_rows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    old = MetricsFile(path, 0)
    old.write(row(1))
    old.write(row(2))
    new = MetricsFile(path, 1)
    with pytest.raises(GriddleError, match=r"metrics.csv was removed or replaced"):
        old.write(row(3))
    new.write(row(2))
    old.close()
    new.close()
    assert [line["step"] for line in read_metrics(path)] == ["1", "2"]


def test_a_row_that_does_not_fit_leaves_nothing_of_itself(tmp_path: Path) -> None:
    """With a limit on the size of a file, as on a full disk, a part of the row is written first."""
    path = tmp_path / "metrics.csv"
    file = MetricsFile(path, 0)
    file.write(row(1))
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            file.write(row(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    file.write(row(2))
    file.close()
    assert os.path.getsize(path) > len(before)
    assert [line["step"] for line in read_metrics(path)] == ["1", "2"]
