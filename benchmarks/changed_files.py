"""What it costs an index to compare the files of a dataset with what the stores were made of, at the size of nuScenes.

    python benchmarks/changed_files.py                    # 850 scenes of 40 scans, 6 images each; about a minute, 1 GB of disk
    python benchmarks/changed_files.py --scenes 85

Writes files of a few bytes, their records, and the manifests of scans, labels, views, full scans and one teacher's features,
with what they were made of. Then an index compares them: first with all times as they were recorded, which reads no file; then
with those of one scene in a hundred changed. Last, how fast content is read: that is the price of a root that was copied
without its times, once.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import click

from cache_schemas.manifest import manifest_path, seal
from cache_schemas.places import folder_of
from cache_schemas.publish import json_bytes
from cache_schemas.sources import Content, content_of, to_manifest
from pipeline.common.log import bytes_in_words
from pipeline.datasets.changed_files import Comparison, MadeOf, files_of
from pipeline.datasets.known_contents import KnownContents
from pipeline.datasets.records import ImageRecord, PartitionRecord, ScanRecord
from pipeline.geometry.calibration import RigidStep

CAMERAS = 6
SCANS = 40
STAGES = ("scans", "labels", "views", "full_scans", "features")
STEP = RigidStep((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0), False)


@click.command()
@click.option("--scenes", default=850, show_default=True)
@click.option(
    "--megabytes", default=512, show_default=True, help="Of the file whose content is read for the speed."
)
def main(scenes: int, megabytes: int) -> None:
    """Write the tree and time the comparison."""
    with tempfile.TemporaryDirectory() as temporary:
        root, cache = Path(temporary) / "root", Path(temporary) / "cache"
        records = [write_scene(root, cache, f"scene-{number:04d}") for number in range(scenes)]
        files = scenes * SCANS * (2 + CAMERAS)
        click.echo(f"{scenes} scenes, {files:,} files, {len(STAGES) * scenes:,} manifests")
        known = KnownContents(Path(temporary) / "index", cache / "contents" / "d.json")
        seconds, comparison = compare(root, cache, records, known)
        click.echo(
            f"  all times as recorded:        {seconds:6.1f} s, {len(comparison.changed)} scene(s) changed"
        )
        touched = records[::100]
        for record in touched:
            for path in (path for stage in STAGES for path in files_of(record, stage) if path is not None):
                (root / path).write_bytes(b"other" * 2)
        seconds, comparison = compare(root, cache, records, known)
        click.echo(
            f"  {len(touched)} scene(s) replaced:        {seconds:6.1f} s, {len(comparison.changed)} scene(s) changed, "
            f"{sum(map(len, comparison.changed.values())):,} files read"
        )
        big = Path(temporary) / "big"
        big.write_bytes(os.urandom(2**20) * megabytes)
        began = time.perf_counter()
        content_of(big)
        rate = megabytes * 2**20 / (time.perf_counter() - began)
        click.echo(f"  content is read at {bytes_in_words(int(rate))}/s on one core, from memory")


def write_scene(root: Path, cache: Path, name: str) -> PartitionRecord:
    """The files of a scene, a few bytes each, and the manifests that say what they hold."""
    scans = []
    for number in range(SCANS):
        stem = f"{name}-{number:02d}"
        images = tuple(
            ImageRecord(f"c{camera}", f"{name}/c{camera}/{stem}.jpg", 10, 900, 1600, (1.0,) * 9, (STEP,) * 4)
            for camera in range(CAMERAS)
        )
        scans.append(
            ScanRecord(stem, stem, f"{name}/lidar/{stem}.bin", 10, f"{name}/label/{stem}.bin", 10, images)
        )
    record = PartitionRecord(name, "train", tuple(scans))
    contents: dict[str, Content] = {}
    for stage in ("scans", "labels", "features"):
        for path in (path for path in files_of(record, stage) if path is not None):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(b"0123456789")
            contents[path] = content_of(root / path)
    members = record.member_digests()
    for stage in STAGES:
        folder = cache / folder_of(stage, "d-0123456789", "d", "d-0123456789")
        folder.mkdir(parents=True, exist_ok=True)
        member = str(members["scans" if stage == "full_scans" else stage])
        sources = [contents[str(path)] for path in files_of(record, stage)]
        digests, times = to_manifest(sources)
        body = {"schema": f"{stage}/1", "partition": name, "member_digest": member, **digests}
        manifest_path(folder, name, member).write_bytes(json_bytes(seal(body, times)))
    return record


def compare(
    root: Path, cache: Path, records: list[PartitionRecord], known: KnownContents
) -> tuple[float, Comparison]:
    """Seconds, and what differs."""
    began = time.perf_counter()
    comparison = Comparison("d", root, MadeOf(cache, "d"), known)
    for record in records:
        comparison.of(record)
    return time.perf_counter() - began, comparison


if __name__ == "__main__":
    main()
