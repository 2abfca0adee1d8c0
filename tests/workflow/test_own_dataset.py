"""docs/your-dataset.md does what it says: its reader, saved as a user's file, goes the whole way without images."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snakemake_runs import rules_run

PAGE = Path(__file__).parents[2] / "docs" / "your-dataset.md"


def page_reader() -> str:
    (text,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return text


def write_sequence(root: Path, sequence: str, scans: int = 2) -> np.ndarray:
    """A road and two walls, each of a raw class and an intensity of its own; returns all intensities."""
    random = np.random.default_rng(int(sequence))
    found = []
    for kind in ("velodyne", "labels"):
        (root / "sequences" / sequence / kind).mkdir(parents=True, exist_ok=True)
    for number in range(scans):
        raw = random.choice([22, 15, 7], 900).astype("<u4")
        xyz = random.uniform([-30, -30, -2], [30, 30, 2], (900, 3))
        xyz[raw == 22, 2] = -1.7
        intensity = raw + random.normal(0, 0.5, 900)
        points = np.column_stack([xyz, intensity]).astype("<f4")
        points.tofile(root / "sequences" / sequence / "velodyne" / f"{number:06d}.bin")
        (raw | 7 << 16).astype("<u4").tofile(root / "sequences" / sequence / "labels" / f"{number:06d}.label")
        found.append(points[:, 3])
    return np.concatenate(found)


def contents(folder: Path) -> dict[Path, tuple[str, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in files}


@pytest.mark.whole
def test_the_pages_reader_goes_the_whole_way_and_grows(finished: Any) -> None:
    workspace = finished
    root = workspace.folder / "poss"
    train = [write_sequence(root, sequence) for sequence in ("00", "01")]
    write_sequence(root, "03")
    own = workspace.folder / "my" / "poss.py"
    own.parent.mkdir()
    own.write_text(page_reader())

    def add(config: dict[str, Any]) -> None:
        config["datasets"]["poss"] = {"reader": "my/poss.py:Reader", "root": "poss"}
        config["probes"] = {"poss": {"datasets": ["poss"], "epochs": 2, "batch": 1, "warmup_epochs": 0}}
        config["students"]["wi_tiny"]["probes"] = ["poss"]

    before = contents(workspace.work / "cache") | contents(workspace.work / "runs")
    workspace.edit(add)
    done = workspace.snakemake("pretrain_all")
    ran = rules_run(done)
    # Train and val, of scans and of labels; nothing of the dataset that was there, nor its training.
    assert ran.pop("scans") == ran.pop("labels") == 2
    assert ran == {"full_scans": 1, "stats": 1, "probe": 1, "report": 1}
    after = contents(workspace.work / "cache") | contents(workspace.work / "runs")
    assert {path: after[path] for path in before} == before

    said = workspace.griddle("stats", "--config", "config/tiny.yaml", "--json").stdout
    poss = json.loads(said)["poss"]
    exact = np.concatenate(train).astype(np.float64)
    assert poss["source"] == "measured"
    np.testing.assert_allclose([poss["mean"], poss["deviation"]], [exact.mean(), exact.std()], rtol=1e-12)

    # One more sequence: its own partition is computed, the intensities are measured anew, the student stays.
    write_sequence(root, "05")
    own.write_text(page_reader() + "\n# a remark\n")
    done = workspace.snakemake("pretrain_all")
    assert "its reader_version is still 1" in done.stdout + done.stderr
    ran = rules_run(done)
    assert ran["stats"] == ran["probe"] == 1
    assert not {"pretrain", "features"} & set(ran)
    grown = contents(workspace.work / "cache") | contents(workspace.work / "runs")
    assert {path: grown[path] for path in after if "poss" in path.parts[-2]} == {
        path: after[path] for path in after if "poss" in path.parts[-2]
    }

    # Removed and put back: nothing is computed.
    for path in (root / "sequences" / "05").rglob("*.*"):
        path.rename(workspace.folder / path.name)
    (root / "sequences" / "05" / "velodyne").rmdir()
    (root / "sequences" / "05" / "labels").rmdir()
    (root / "sequences" / "05").rmdir()
    ran = rules_run(workspace.snakemake("pretrain_all"))
    assert not set(ran) - {"report"}
