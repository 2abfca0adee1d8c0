"""A command's own log file: whole whatever becomes of the screen, and the work goes on without either."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.cli import COMMANDS

REPOSITORY = Path(__file__).resolve().parents[3]

WORK = """
import subprocess, sys, time
from pathlib import Path
from pipeline.common.log import log
from pipeline.common.log_file import write_into

write_into(Path(sys.argv[1]))
log("begun")
sys.stdin.read()
print("a result, 1 → 2")
log("a line")
subprocess.run(["sh", "-c", "echo of a child"], check=False)
Path(sys.argv[2]).write_text("done")
raise RuntimeError("an error")
"""


def start(folder: Path, screen: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WORK, str(folder / "logs" / "own.log"), str(folder / "result")]
    return subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=screen, stderr=screen)


def check_log(folder: Path) -> None:
    said = (folder / "logs" / "own.log").read_text()
    assert said.startswith("begun\na result, 1 → 2\na line\nof a child\nTraceback")
    assert said.endswith("RuntimeError: an error\n")


def test_what_is_said_goes_to_the_file_and_to_the_screen(tmp_path: Path) -> None:
    with open(tmp_path / "screen", "wb") as screen:
        work = start(tmp_path, screen.fileno())
        work.communicate()
    check_log(tmp_path)
    assert (tmp_path / "screen").read_text().startswith("begun\na result, 1 → 2\na line\nTraceback")


@pytest.mark.parametrize("kind", ["a pipe whose reader died", "a terminal that was closed"])
def test_the_work_goes_on_when_the_screen_is_gone(kind: str, tmp_path: Path) -> None:
    near, far = os.pipe() if kind.startswith("a pipe") else os.openpty()
    work = start(tmp_path, far)
    os.close(far)
    assert os.read(near, 5) == b"begun"
    os.close(near)
    work.communicate()
    check_log(tmp_path)
    assert (tmp_path / "result").read_text() == "done"


def test_the_work_goes_on_when_the_logs_disk_is_full(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "own.log").symlink_to("/dev/full")
    with open(tmp_path / "screen", "wb") as screen:
        start(tmp_path, screen.fileno()).communicate()
    assert (tmp_path / "result").read_text() == "done"
    assert "a line" in (tmp_path / "screen").read_text()


def test_every_command_takes_a_log_with_its_errors(tmp_path: Path) -> None:
    assert "report" in COMMANDS
    command = [sys.executable, "-m", "stages.cli", "--log", "own.log", "report", "--config", "nothing.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "griddle: " in done.stderr
    assert (tmp_path / "own.log").read_text() == done.stderr
