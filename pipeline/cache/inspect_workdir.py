"""What a folder or file of a workdir is, judged by its place: indices, lots, runs, reports, logs."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.cache.inspect_cache import WEIGHTS_LOCK, Facts, weights_lock
from pipeline.cache.verify_workdir import index_problems
from pipeline.common.run_files import CONFIG, CURVE, DONE, LEASE, RESUME
from pipeline.datasets.index import Index
from pipeline.datasets.index_files import MENDING
from pipeline.plan.run_record import FILES, changed_files, is_recorded, mending

RUN_FILES = {
    CONFIG: "the resolved blocks that it was made from",
    CURVE: "loss, learning rate and speed by step",
    LEASE: "who trains it now",
    RESUME: "checkpoints to go on from",
    "tensorboard": "curves for TensorBoard",
}
"""The files and folders of a run whose content does not say what they are."""

REPORT_FILES = {
    "index.html": "tables and loss curves, whole in one file",
    "results.csv": "the numbers, one line for each row",
    "results.md": "the tables",
}

FOLDERS = {
    "index": "what the datasets hold",
    "lots": "what Snakemake sees of the cache",
    "stats": "how intensities are spread, where nobody published it",
    "runs": "trained students, their probes and baselines",
    "imported": "weights taken over from the checkpoints of other code",
    "report": "tables of what is done",
    "logs": "what each job said",
    "benchmarks": "what each job took, as Snakemake measured it",
}
"""The folders of a workdir."""


def of_workdir(path: Path) -> Facts | None:
    """The facts of what lies in a workdir, or None."""
    return _of_index(path) or _of_run(path) or _of_report(path) or _of_folders(path)


def as_written(folder: Path, name: str = "") -> Facts:
    """Whether the files of a run, or the one of them with this name, are those that its done.json recorded."""
    if not is_recorded(folder):
        return {"as_written": "not recorded"}
    changed = [what for what in changed_files(folder) if not name or what.startswith((name, DONE))]
    return (
        {
            "as_written": False,
            "changed": changed,
            "problem": mending(folder, [what.split(" ")[0] for what in changed]),
        }
        if changed
        else {"as_written": True}
    )


def changed_index(path: Path, body: Facts) -> Facts:
    """What of the files of an index is not as it was written; `path` is its index.json."""
    changed = [str(problem) for problem in index_problems(Index(path.parent, body))]
    return {"changed": changed, "problem": MENDING} if changed else {}


def _of_index(path: Path) -> Facts | None:
    if path.parent.parent.name != "index" or not (path.parent / "index.json").is_file():
        return None
    if path.name == ".lock":
        return {"what": "griddle lock, held while a dataset is indexed"}
    index = json.loads((path.parent / "index.json").read_bytes())
    for entry in index["partitions"]:
        if entry["file"] == path.name:
            changed = [str(p) for p in index_problems(Index(path.parent, index)) if p.path.name == path.name]
            facts = {"what": "griddle index of a partition", "dataset": index["dataset"], **entry}
            return facts | ({"changed": changed, "problem": MENDING} if changed else {})
    partition = path.name.split(".")[0]
    return {
        "what": "griddle index of a partition as it was before",
        "dataset": index["dataset"],
        "partition": partition,
        "goes": "when you delete it: the index names it no more",
    }


def _of_run(path: Path) -> Facts | None:
    for place in (path, *path.parents[:2]):
        run = place.parent
        if place.name in RUN_FILES and any((run / name).exists() for name in (CONFIG, LEASE)):
            facts: Facts = {"what": "part of a griddle run", "run": str(run), "holds": RUN_FILES[place.name]}
            if path.name == LEASE:
                facts |= json.loads(path.read_bytes())
            elif path.name in FILES:
                facts |= as_written(run, path.name)
            if path.is_dir():
                facts["files"] = sorted(file.name for file in path.iterdir())
            return facts
    return None


def _of_report(path: Path) -> Facts | None:
    if path.name not in REPORT_FILES:
        return None
    marker = path.parent / DONE
    if marker.is_file() and "griddle report" in marker.read_text():
        return {
            "what": "part of a griddle report",
            "report": path.parent.name,
            "holds": REPORT_FILES[path.name],
        }
    if path.parent.name == "report" and any(path.parent.glob(f"*/{DONE}")):
        return {"what": "griddle pointer to the latest report"}
    return None


def _of_folders(path: Path) -> Facts | None:
    """The workdir, one of its folders, or a log."""
    workdir = next((folder for folder in (path, *path.parents) if _is_workdir(folder)), None)
    if workdir is None:
        return None
    below = path.relative_to(workdir).parts
    if not below:
        folders = {
            name: _folder(path / name, holds) for name, holds in FOLDERS.items() if (path / name).is_dir()
        }
        cache = {"cache": str(path / "cache")} if (path / "cache").is_dir() else {}
        return {"what": "griddle workdir", "folders": folders, **cache}
    if below[0] in WEIGHTS_LOCK:
        return weights_lock(path)
    if below[0] not in FOLDERS:
        return None
    if path.is_dir():
        facts = _folder(path, FOLDERS[below[0]])
        return {"what": "folder of a griddle workdir", "workdir": str(workdir), **facts}
    if below[0] in ("logs", "benchmarks"):
        job = "/".join((*below[1:-1], path.stem))
        return {"what": f"griddle {below[0].removesuffix('s')}", "job": job, "holds": FOLDERS[below[0]]}
    return None


def _is_workdir(path: Path) -> bool:
    return any((path / "index").glob("*/index.json"))


def _folder(path: Path, holds: str) -> Facts:
    return {"holds": holds, "files": sum(1 for file in path.rglob("*") if file.is_file())}
