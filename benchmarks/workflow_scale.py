"""How long a dry run, a call with nothing to do and `griddle plan` take at the size of the four published datasets.

    python benchmarks/workflow_scale.py                 # 55,100 training scans; half a minute
    python benchmarks/workflow_scale.py --times 10      # ten times as many; two minutes, 400 MB of disk

Writes a synthetic index of nuScenes, SemanticKITTI and PandaSet (both lidars) with their real counts of scans, cameras
and partitions, and nuScenes' validation scans, on which a probe is scored. No dataset is read. For the call with
nothing to do it then writes the state that a finished experiment leaves, as far as a call looks at it: lot manifests,
partition manifests that are valid and list no files, and the markers of runs, probes and report. Files inside stores,
which no call looks at, are not written.

Each command is a process of its own; wall clock and CPU time are medians over the repeats, memory is the largest of
all commands so far. On a machine that does other work CPU time is the number to compare.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import click
import yaml

from cache_schemas.canonical import digest
from cache_schemas.manifest import DIGEST_LENGTH, FORMAT, KIND, seal
from pipeline.config.load import load_config
from pipeline.datasets.index import FORMAT as INDEX_FORMAT
from pipeline.datasets.index import KIND as INDEX_KIND
from pipeline.datasets.index import index_folder, make_cue
from pipeline.plan.cost.assumed import Assumed, assumed_index, parse_assumed
from pipeline.plan.lot_status import KIND as LOT_KIND
from pipeline.plan.parts import STAGES, Lot
from pipeline.plan.plan import Plan, plan_experiment
from pipeline.report.gather import report_marker

REPOSITORY = Path(__file__).resolve().parents[1]
PUBLISHED = {
    "nuscenes": (28_130, 6),
    "semantic_kitti": (19_130, 1),
    "pandaset64": (3_920, 6),
    "pandasetgt": (3_920, 1),
}
NUSCENES_VAL = 6_019
VERSION = "v1.0-trainval"


@click.command()
@click.option("--times", default=1.0, show_default=True, help="As many scans of each dataset.")
@click.option(
    "--lot-partitions", default=16, show_default=True, help="About how many partitions a job takes."
)
@click.option("--repeats", default=3, show_default=True, help="Runs of each command.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keep the synthetic experiment here.")
def main(times: float, lot_partitions: int, repeats: int, folder: Path | None) -> None:
    """Write the synthetic experiment and time the commands on it."""
    with tempfile.TemporaryDirectory() as temporary:
        root = folder or Path(temporary)
        root.mkdir(parents=True, exist_ok=True)
        plan = write_experiment(root, times, lot_partitions)
        counts = {stage: len(plan.lots(stage)) for stage in STAGES}
        partitions = sum(len(lot.members) for stage in STAGES for lot in plan.lots(stage))
        scans = sum(entry.scans for lot in plan.lots("views") for entry in lot.entries)
        images = sum(entry.images for lot in plan.lots("features") for entry in lot.entries)
        click.echo(
            f"{scans:,} scans ({sum(one for one, _ in PUBLISHED.values()) * times:,.0f} for training), {images:,} images, {partitions:,} partitions in the stores, lots: "
            + ", ".join(f"{stage} {count}" for stage, count in counts.items())
        )
        click.echo(f"{'':<34}{'wall s':>8}{'CPU s':>8}{'MB':>8}")
        snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
        snakemake += ["--configfile", "scale.yaml", "--cores", "2"]
        griddle = [sys.executable, "-m", "stages.cli", "plan", "--config", "scale.yaml"]
        _time(root, "griddle plan", griddle, repeats)
        _time(root, "snakemake -n pretrain_all", [*snakemake, "-n", "pretrain_all"], repeats, "pretrain_all")
        write_finished(plan)
        _time(root, "griddle plan, all done", griddle, repeats)
        lot = [sys.executable, "-m", "stages.cli", "scans", "--config", "scale.yaml", "--number", "0"]
        _time(root, "griddle scans, one lot, all done", lot, repeats)
        nothing = "Nothing to be done"
        _time(root, "snakemake pretrain_all, all done", [*snakemake, "pretrain_all"], repeats, nothing)


def write_experiment(root: Path, times: float, lot_partitions: int = 16) -> Plan:
    """A config, the outlines of its datasets, and their indices; returns the plan of it."""
    datasets = parse_assumed(
        ",".join(f"{name}={round(scans * times)}x{cameras}" for name, (scans, cameras) in PUBLISHED.items())
    )
    config = {
        "workdir": str(root / "work"),
        "lot_partitions": lot_partitions,
        "datasets": {
            one.name: {"reader": "nuscenes", "root": str(root / "data" / one.name), "version": VERSION}
            for one in datasets
        },
        "teachers": {"dinov2_l": {"model": "vit_large_patch14_dinov2.lvd142m"}},
        "students": {
            "wi_768": {"datasets": list(PUBLISHED), "teacher": "dinov2_l", "probes": ["nuscenes"]},
        },
        "probes": {"nuscenes": {"datasets": ["nuscenes"], "baselines": ["random", "calibrated", "teacher"]}},
    }
    (root / "scale.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    loaded = load_config(root / "scale.yaml")
    for one in datasets:
        _write_outline(root / "data" / one.name)
        val = round(NUSCENES_VAL * times) if one.name == "nuscenes" else 0
        index = {
            "griddle": INDEX_KIND,
            "format": INDEX_FORMAT,
            "dataset": one.name,
            "cue": make_cue(loaded.datasets[one.name]),
            "partitions": _entries(one, val),
            "absent": [],
        }
        folder = index_folder(root / "work", one.name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.json").write_text(json.dumps(index, indent=1))
    return plan_experiment(loaded)


def write_finished(plan: Plan) -> None:
    """What a finished experiment leaves, as far as a call with nothing to do looks at it."""
    when = seal({})["made"]
    for stage in STAGES:
        for lot in plan.lots(stage):
            _write_lot(plan, lot, when)
    markers = [*plan.run_markers(), *plan.probe_markers(), report_marker(plan)]
    for marker in map(Path, markers):
        marker.parent.mkdir(parents=True, exist_ok=True)
        for name in ("done.json", "provenance.json"):
            (marker.parent / name).write_text("{}")


def _write_outline(root: Path) -> None:
    """The tables and folders that a reader's cue looks at, empty."""
    (root / VERSION).mkdir(parents=True, exist_ok=True)
    for table in range(13):
        (root / VERSION / f"table{table}.json").write_text("[]")
    (root / "samples" / "LIDAR_TOP").mkdir(parents=True, exist_ok=True)


def _entries(one: Assumed, val: int) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = list(assumed_index(one).body["partitions"])
    if val:
        held_out = replace(one, name=f"{one.name}-val", scans=val)
        entries += [{**entry, "split": "val"} for entry in assumed_index(held_out).body["partitions"]]
    return entries


def _write_lot(plan: Plan, lot: Lot, when: dict[str, Any]) -> None:
    folder = plan.experiment.store_path(lot.store)
    folder.mkdir(parents=True, exist_ok=True)
    partitions = []
    for entry, member in lot.members:
        content = {"files": {}, "crc": {"size": 0, "sha256": "", "arrays": {}}}
        body = {
            **{"griddle": KIND, "format": FORMAT, "schema": lot.store.identity["schema"]},
            **{
                "partition": entry.name,
                "member_digest": member,
                "content_digest": digest([content, entry.name]),
            },
            **{"identity": lot.store.identity, "counts": {"scans": entry.scans}, "left_out": [], **content},
        }
        manifest = {**body, "digest": digest(body, DIGEST_LENGTH), "made": when}
        (folder / f"{entry.name}.{member}.json").write_text(json.dumps(manifest, indent=1))
        (folder / f"{entry.name}.{body['content_digest']}.zarr").mkdir(exist_ok=True)
        (folder / f"{entry.name}.{body['content_digest']}.crc").touch()
        told = ("member_digest", "content_digest", "counts", "left_out")
        partitions.append({"name": entry.name, **{key: body[key] for key in told}})
    lot_body = {
        **{"griddle": LOT_KIND, "stage": lot.store.stage, "dataset": lot.store.dataset, "split": lot.split},
        **{"store": lot.store.folder, "partitions": partitions},
    }
    path = plan.experiment.lot_path(lot)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**lot_body, "digest": digest(lot_body), "made": when}, indent=1))


def _time(root: Path, what: str, command: list[str], repeats: int, expected: str = "") -> None:
    """One line: medians of wall clock and CPU time, and the largest memory of all commands so far."""
    walls, cpus = [], []
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""}
    for _ in range(repeats):
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        walls.append(time.perf_counter() - started)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if done.returncode or expected not in done.stdout + done.stderr:
            raise click.ClickException(f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    click.echo(f"{what:<34}{median(walls):>8.1f}{median(cpus):>8.1f}{after.ru_maxrss / 1024:>8.0f}")


if __name__ == "__main__":
    main()
