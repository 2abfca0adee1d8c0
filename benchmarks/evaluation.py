"""What a whole scan costs that a probe is scored on: read from the full-scan store, and searched in the loader.

    export GRIDDLE_SAMPLES=/path/to/samples          # a folder that holds nuscenes/ with v1.0-trainval tables
    python benchmarks/evaluation.py                  # a minute; without GRIDDLE_SAMPLES the toy town alone

Both sides read points and labels, check every chunk's checksum, find cells, normalise features and pack batches of 4
scans, ready for the device; their batches are compared bit for bit before anything is timed. They run in one process,
on one thread, in turn; times are CPU time; a ratio is one of neighbours in time. The keyframes have no labels: all are
255, which costs the same.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import torch

from cache_schemas.reading import PartitionReader
from cache_schemas.scans import LABELS, SCANS
from cache_schemas.writing import PartitionWriter
from pipeline.config.model import Config, Points
from pipeline.datasets.index import make_index
from pipeline.datasets.nuscenes.reader import READER
from pipeline.datasets.nuscenes.toy import write_toy
from pipeline.datasets.records import PartitionRecord, ScanRecord
from pipeline.geometry.full_scan import FullScan, full_scan
from pipeline.plan.labelled import LabelledReading
from pipeline.plan.plan import Plan, plan_experiment
from pipeline.preprocessing.full_scans import write_full_scans
from pipeline.preprocessing.scans import write_scans
from pipeline.preprocessing.target import Target
from pipeline.streaming.scan_batches import EvaluationScans
from pipeline.streaming.scan_source import LabelledPlace, ScanSource

SCANS_OF_A_PARTITION = 8


class Searching(ScanSource):
    """What the store holds, searched anew for each scan."""

    def __init__(self, cache: Path, readings: Sequence[LabelledReading], points: Points) -> None:
        super().__init__(cache, readings)
        self._points = points

    def full(self, place: LabelledPlace) -> FullScan:
        return full_scan(self.read(place).xyz, self._points)


@dataclass(frozen=True)
class Sides:
    """Both ways of the same scans, and what the store takes."""

    searched: EvaluationScans
    stored: EvaluationScans
    scans: int
    points: int
    bytes: int


@click.command()
@click.option("--pairs", default=9, show_default=True, help="Measurements of each side, in turn.")
@click.option("--partitions", default=2, show_default=True, help="Partitions of 8 scans.")
def main(pairs: int, partitions: int) -> None:
    """Compare the CPU time of a scan that is scored."""
    torch.set_num_threads(1)
    samples = os.environ.get("GRIDDLE_SAMPLES")
    click.echo(
        f"{pairs} pairs, medians of CPU ms a scan; ratio: min, median, max; kB of the store a scan\n"
        f"{'':<22} {'points':>7}  {'searched':>9} {'stored':>7}  {'ratio':^20} {'kB':>6}"
    )
    with tempfile.TemporaryDirectory() as folder:
        town = Path(folder) / "town"
        write_toy(town, train=0, val=1, scans=SCANS_OF_A_PARTITION, processes=1)
        _measure("toy town", _sides(Path(folder) / "toy", town, partitions), pairs)
        if samples:
            real = _sides(Path(folder) / "real", Path(samples) / "nuscenes", partitions)
            _measure("nuScenes keyframes", real, pairs)


def _sides(folder: Path, root: Path, partitions: int) -> Sides:
    """Stores of the tree's scans, taken in turn and again, until the partitions are full."""
    config = Config.model_validate(
        {
            "workdir": str(folder),
            "datasets": {"nuscenes": {"reader": "nuscenes", "root": str(root), "version": "v1.0-trainval"}},
            "teachers": {"t": {"model": "vit_tiny_patch16_224", "weights": "untrained"}},
            "students": {
                "s": {"datasets": ["nuscenes"], "splits": ["val"], "teacher": "t", "pretrain": {"batch": 1}}
            },
        }
    )
    folder.mkdir(parents=True)
    make_index(folder, "nuscenes", config.datasets["nuscenes"])
    plan = plan_experiment(config)
    index = plan.experiment.indices["nuscenes"]
    found = [scan for entry in index.partitions for scan in index.load_partition(entry).scans]
    points = plan.experiment.students["s"].points
    readings = []
    for number in range(partitions):
        rows = range(number * SCANS_OF_A_PARTITION, (number + 1) * SCANS_OF_A_PARTITION)
        scans = tuple(replace(found[row % len(found)], name=f"scan-{row}") for row in rows)
        readings.append(_fill(plan, root, scans, f"scene-{number}", points))
    stored, searching = (
        ScanSource(plan.experiment.cache, readings),
        Searching(plan.experiment.cache, readings, points),
    )
    places = stored.scans()
    options = {"points": points, "intensity": {"nuscenes": READER.traits.intensity}}
    sides = EvaluationScans(searching, places, **options), EvaluationScans(stored, places, **options)
    size = sum(
        path.stat().st_size for path in (plan.experiment.cache / "full_scans").rglob("*") if path.is_file()
    )
    count = sum(len(stored.read(place).xyz) for place in places)
    return Sides(*sides, len(places), count, size)


def _fill(
    plan: Plan, root: Path, scans: tuple[ScanRecord, ...], name: str, points: Points
) -> LabelledReading:
    record = PartitionRecord(name, "val", scans)
    stores = {
        stage: of_stage[0]
        for stage, of_stage in plan.experiment.stores("nuscenes", plan.experiment.students["s"]).items()
    }
    at = {stage: plan.experiment.store_path(store) for stage, store in stores.items()}
    write_scans(Target(stores["scans"], record, "m", at["scans"]), READER, root)
    there = PartitionReader(at["scans"], SCANS, name, "m")
    offsets = there.read("scan_offsets")
    with PartitionWriter(
        at["labels"],
        LABELS,
        partition=name,
        member_digest="m",
        identity=stores["labels"].identity,
        attributes={"classes": [], "scans": [scan.name for scan in scans]},
    ) as writer:
        writer.put("scan_offsets", offsets)
        writer.put("label", np.full(int(offsets[-1]), 255, np.uint8))
        writer.publish(counts={}, left_out=[])
    write_full_scans(Target(stores["full_scans"], record, "m", at["full_scans"]), there, points)
    folders = {stage: (store.folder, "m") for stage, store in stores.items()}
    identities = {store.folder: store.identity for store in stores.values()}
    return LabelledReading(
        "nuscenes",
        "val",
        name,
        folders["scans"],
        folders["labels"],
        full=folders["full_scans"],
        identities=identities,
    )


def _measure(name: str, sides: Sides, pairs: int) -> None:
    _check_equal(sides)  # also opens all partitions and warms the page cache
    times = np.empty((pairs, 2))  # (pairs, searched and stored) seconds a scan
    for pair in range(pairs):
        for column, side in enumerate((sides.searched, sides.stored)):
            start = time.process_time()
            for number in range(len(side)):
                side[number]
            times[pair, column] = (time.process_time() - start) / sides.scans
    ratios = times[:, 0] / times[:, 1]
    searched, stored = np.median(times, axis=0) * 1e3
    click.echo(
        f"{name:<22} {sides.points / sides.scans:7.0f}  {searched:9.1f} {stored:7.2f}  "
        f"{ratios.min():6.1f} {np.median(ratios):6.1f} {ratios.max():6.1f} {sides.bytes / sides.scans / 1e3:6.0f}"
    )


def _check_equal(sides: Sides) -> None:
    for number in range(len(sides.stored)):
        one, other = sides.searched[number], sides.stored[number]
        pairs = [
            (getattr(one.clouds, f), getattr(other.clouds, f)) for f in ("features", "neighbours", "cells")
        ]
        pairs += [(one.nearest, other.nearest), (one.labels, other.labels)]
        if not all(torch.equal(a, b) for a, b in pairs):
            raise click.ClickException(f"batch {number} is not the same on both sides")


if __name__ == "__main__":
    main()
