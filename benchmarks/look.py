"""What it costs to look at values: `griddle index --look 1` at the size of nuScenes, and the checks of points while scans are stored.

    GRIDDLE_SAMPLES=/path/to/samples python benchmarks/look.py

Needs the recordings of config/samples.yaml. The keyframes of its nuScenes are looked at again and again, as if they were those
of so many scenes: their files come from memory, so reading from a disk is not in it.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import click

from pipeline.config.load import load_config
from pipeline.datasets.array_checks import read_points
from pipeline.datasets.index import make_index
from pipeline.datasets.look import look
from pipeline.datasets.point_checks import Expected, check_points
from pipeline.datasets.readers import reader_named

REPEATS = 20


@click.command()
@click.option("--scenes", default=850, show_default=True, help="Of nuScenes, one scan each.")
@click.option("--config", "config_path", default="config/samples.yaml", show_default=True)
def main(scenes: int, config_path: str) -> None:
    """Time both."""
    config = load_config(config_path)
    with tempfile.TemporaryDirectory() as work:
        for name, dataset in config.datasets.items():
            index, _ = make_index(Path(work), name, dataset)
            reader, root = reader_named(dataset.reader), Path(dataset.root)
            scan = index.load_partition(index.partitions[0]).scans[0]
            xyz, intensity = read_points(reader, root, scan)
            expected, seconds = Expected.of(reader.traits, dataset), []
            for _ in range(REPEATS):
                began = time.perf_counter()
                check_points(xyz, intensity, expected)
                seconds.append(time.perf_counter() - began)
            click.echo(f"{name:<12}{len(xyz):>9,} points: checks {1e3 * median(seconds):5.2f} ms a scan")
            if name == "nuscenes":
                entries = index.body["partitions"] * (scenes // len(index.partitions))
                many = replace(index, body={**index.body, "partitions": entries})
                click.echo(f"{name:<12}{len(entries)} scenes: {look(name, dataset, many, 1).cost()}")


if __name__ == "__main__":
    main()
