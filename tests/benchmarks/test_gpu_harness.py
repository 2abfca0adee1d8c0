"""What `python -m benchmarks.gpu` promises: whatever a section does, all that was measured before is in one valid JSON."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.whole  # processes that wait for each other
sys.path.append(str(Path(__file__).resolve().parents[2]))  # `benchmarks` is no package that is installed

from benchmarks.gpu.lines import append  # noqa: E402
from benchmarks.gpu.results import Results  # noqa: E402
from benchmarks.gpu.tables import all_tables  # noqa: E402

FAKES = Path(__file__).resolve().parents[1] / "support" / "fake_sections.py"


def start(folder: Path, only: str, minutes: float = 1.0) -> subprocess.Popen[str]:
    options = [
        "--device",
        "cpu",
        "--minutes",
        str(minutes),
        "--only",
        only,
        "--out",
        str(folder / "gpu.json"),
    ]
    return subprocess.Popen(
        [sys.executable, str(FAKES), *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run(folder: Path, only: str, minutes: float = 1.0) -> tuple[dict[str, Any], str, int]:
    """The JSON's sections, what was printed, and the exit code."""
    process = start(folder, only, minutes)
    printed = process.communicate(timeout=120)[0]
    return read(folder), printed, process.returncode


def read(folder: Path, name: str = "gpu.json") -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads((folder / name).read_text(), parse_constant=refuse)["sections"]


def statuses(section: dict[str, Any]) -> dict[str, str]:
    return {row["what"]: row["status"] for row in section["rows"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run of all fakes that end left, and what it printed."""
    folder = tmp_path_factory.mktemp("ran")
    _, printed, code = run(folder, "good,bad,dies,hangs,many,broken", minutes=6)
    assert code == 1, printed
    (folder / "printed").write_text(printed)
    return folder


def test_results_are_told_and_numbers_that_are_none_are_text(folder: Path) -> None:
    section = read(folder)["good"]
    assert section["status"] == "ok"
    assert section["on"] == "cpu"
    assert [(row["what"], row["figure"], row["nothing"]) for row in section["rows"]] == [
        ("one", 3.0, "nan"),
        ("two", 3.0, "nan"),
    ], "cells that began leave no row"


def test_a_cell_that_fails_is_told_and_the_next_goes_on(folder: Path) -> None:
    section, printed = read(folder)["bad"], (folder / "printed").read_text()
    assert statuses(section) == {
        "fails": "failed",
        "wrong": "wrong",
        "dear": "left out",
        "needs": "left out",
        "long": "failed",
        "after": "ok",
    }
    rows = {row["what"]: row for row in section["rows"]}
    assert "ValueError: as it was told to" in rows["fails"]["why"]
    assert rows["wrong"]["difference"] == 1.0
    assert "failed: fails: " in printed
    assert "wrong: wrong: off by one" in printed


def test_a_process_that_dies_or_spoils_its_gpu_costs_one_cell(folder: Path) -> None:
    section = read(folder)["dies"]
    assert statuses(section) == {"before": "ok", "dies": "died", "spoils": "failed", "behind": "ok"}
    assert "about to die" in next(row["why"] for row in section["rows"] if row["what"] == "dies")
    assert section["rows"][-1]["left"] == "here", "processes of a section share a folder"


def test_a_cell_that_hangs_is_ended(folder: Path) -> None:
    assert statuses(read(folder)["hangs"]) == {"before": "ok", "hangs": "hung", "behind": "ok"}


def test_the_file_stays_below_four_megabytes(folder: Path) -> None:
    section = read(folder)["many"]
    assert (folder / "gpu.json").stat().st_size < 4_000_000
    assert len(section["rows"]) + section["not_kept"] == 400
    assert "rows were not kept" in (folder / "printed").read_text()


def test_a_section_that_cannot_begin_says_why(folder: Path) -> None:
    assert "RuntimeError: it cannot even begin" in read(folder)["broken"]["error"]
    assert "it cannot even begin" in (folder / "printed").read_text()


def test_a_section_whose_time_is_over_is_cut_off_and_the_next_runs(tmp_path: Path) -> None:
    sections, printed, _ = run(tmp_path, "endless,good", minutes=0.8)
    assert sections["endless"]["status"] == "cut off"
    assert statuses(sections["endless"]) == {"before": "ok", "endless": "cut off"}
    assert sections["good"]["status"] == "ok"
    assert "endless     cut off" in printed


def test_only_keeps_the_other_sections(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "gpu.json", tmp_path)
    before = read(tmp_path)
    sections, _, _ = run(tmp_path, "good")
    assert set(sections) == set(before)
    assert sections["good"]["started"] > before["good"]["started"]
    del before["good"], sections["good"]
    assert sections == before
    assert read(tmp_path, "gpu.before-1.json")["good"]["rows"], (
        "the old figures are not lost if the new run fails"
    )


def test_a_file_of_somebody_else_stays(tmp_path: Path) -> None:
    (tmp_path / "gpu.json").write_text('{"hello": 1}')
    process = start(tmp_path, "good")
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert "is not what `python -m benchmarks.gpu` writes" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["gpu.json"]
    assert (tmp_path / "gpu.json").read_text() == '{"hello": 1}'


def test_an_end_in_the_middle_is_no_end(tmp_path: Path) -> None:
    sections, _, code = run(tmp_path, "leaves", minutes=3)
    assert statuses(sections["leaves"]) == {"before": "ok", "leaves": "died", "behind": "ok"}
    assert code == 1


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    first = start(tmp_path, "endless", minutes=3)
    while not there(tmp_path):
        time.sleep(0.2)
    second = start(tmp_path, "good")
    printed = second.communicate(timeout=60)[0]
    first.terminate()
    first.communicate(timeout=60)
    assert second.returncode == 1
    assert "another run writes" in printed
    assert list(read(tmp_path)) == ["endless"]


def test_a_disk_that_is_full_costs_rows_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = tmp_path / "lines"
    results = Results(tmp_path / "gpu.json", {"only": ["good"], "device": "cpu", "quick": True})
    results.begin("good", 1.0)
    sound = Path.write_text

    def full(path: Path, text: str) -> int:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_text", full)
    append(lines, {"what": "one", "status": "ok"})
    results.take("good", lines)
    assert results.failed()
    assert "the last rows are not in the file: [Errno 28]" in results.at_a_glance()
    monkeypatch.setattr(Path, "write_text", sound)
    append(lines, {"what": "two", "status": "ok"})
    results.take("good", lines)
    results.finish("good", 1.0, cut_off=False)
    assert statuses(read(tmp_path)["good"]) == {"one": "ok", "two": "ok"}
    assert not results.failed()


def test_a_section_of_which_all_is_left_out_is_not_ok(tmp_path: Path) -> None:
    sections, printed, code = run(tmp_path, "poor,good")
    assert (sections["poor"]["status"], sections["good"]["status"], code) == ("nothing", "ok", 1)
    assert "poor        nothing" in printed


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_from_outside_leaves_what_it_had(tmp_path: Path, end: signal.Signals) -> None:
    process = start(tmp_path, "good,endless,many")
    ends = time.monotonic() + 60
    while time.monotonic() < ends and "endless" not in str(read(tmp_path) if there(tmp_path) else ""):
        time.sleep(0.2)
    while time.monotonic() < ends and not read(tmp_path).get("endless", {}).get("rows"):
        time.sleep(0.2)
    child = children(process.pid)
    os.kill(process.pid, end)
    printed = process.communicate(timeout=60)[0]
    sections = read(tmp_path)
    assert statuses(sections["good"]) == {"one": "ok", "two": "ok"}
    assert sections["endless"]["rows"][0]["status"] == "ok"
    assert sections["endless"]["status"] == ("cut off" if end == signal.SIGTERM else "running")
    assert ("endless     cut off" in printed) == (end == signal.SIGTERM)
    assert ("cut off: endless: the run was ended from outside" in printed) == (end == signal.SIGTERM)
    assert ("many        not begun" in printed) == (end == signal.SIGTERM)
    tables = "\n".join(all_tables(json.loads((tmp_path / "gpu.json").read_text())))
    assert "* not begun: many" in tables
    assert "**On a CPU" in tables
    time.sleep(0.5)
    assert child
    assert not [pid for pid in child if Path(f"/proc/{pid}").exists() and not is_zombie(pid)]


def there(folder: Path) -> bool:
    return (folder / "gpu.json").exists()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
