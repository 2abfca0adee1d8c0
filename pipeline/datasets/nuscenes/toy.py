"""Writes toy recordings in the on-disk format of nuScenes, readable by its devkit.

    <root>/v1.0-trainval/*.json    all scenes          <root>/samples/<channel>/…    point clouds, images
    <root>/v1.0-mini/*.json        those of the        <root>/lidarseg/<version>/…   point labels
                                   official mini lists <root>/maps/…                 a blank map mask
    <root>/toy/<scene>.json        one record a scene, written last: its parameters, files and table rows

A scene depends on its name and the parameters alone, so scenes can be added at any time: those whose record
and files are there are kept as they are. The tables are put together from the records.
"""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from cache_schemas.publish import write_bytes
from pipeline.datasets.nuscenes.devkit import official_scenes
from pipeline.datasets.nuscenes.toy_scene import LABEL_FOLDER, WORLD, label_file, write_labels, write_scene
from pipeline.datasets.nuscenes.toy_tables import CAMERAS, build_tables, map_file
from pipeline.datasets.town.parameters import Parameters, scene_names
from pipeline.datasets.town.tree import (
    Format,
    Progress,
    Record,
    ToySummary,
    file_size,
    replace_file,
    write_tree,
)

_MINI_LABEL_FOLDER = "lidarseg/v1.0-mini"
_NEEDED_BY = "a toy tree in nuScenes' files"


def _scenes(split: str) -> tuple[list[str], str]:
    """All scenes of an official split, those of its mini list first, so that v1.0-mini and mini_val exist."""
    official = official_scenes(_NEEDED_BY)
    mini = [name for name in official[f"mini_{split}"] if name in official[split]]
    names = mini + [name for name in official[split] if name not in mini]
    return names, f"nuScenes has {len(names)} {split} scenes"


def write_toy(
    root: Path,
    *,
    train: int = 10,
    val: int = 4,
    scans: int = 6,
    image: tuple[int, int] = (252, 448),
    beams: int = 32,
    azimuths: int = 360,
    seed: int = 0,
    processes: int | None = None,
    labels: bool = True,
    progress: Progress | None = None,
) -> ToySummary:
    """Writes, or completes, a toy tree under `root`; image: (rows, cols); processes: default one a core.

    With labels=False no label files are written; a later call with labels=True adds them and renders nothing
    anew. Scenes of the tree that are not asked for stay.

    Raises:
        BadInput: if the tree was written with other parameters, or the numbers make no sense.
    """
    parameters = Parameters(scans, (image[0], image[1]), beams, azimuths, seed, WORLD)
    form = Format(
        cameras=len(CAMERAS),
        others=lambda root: root.glob("v1.0-*/scene.json"),
        scene=partial(write_scene, labels=labels),
        finish=_write_tables,
        lacks_labels=_lacks_labels,
        labels=write_labels if labels else None,
    )
    names = scene_names(train, val, _scenes)
    return write_tree(Path(root), form, names, parameters, processes, progress)


def _label_files(record: Record) -> dict[str, int]:
    """A scene's label files by sample_data token, and their sizes: one byte a point of five float32."""
    sizes = dict(record["files"])
    return {
        row["token"]: sizes[row["filename"]] // 20
        for row in record["tables"]["sample_data"]
        if row["fileformat"] == "pcd"
    }


def _lacks_labels(root: Path, record: Record) -> bool:
    return any(file_size(root / label_file(name)) != size for name, size in _label_files(record).items())


def _write_tables(root: Path, records: dict[str, Record]) -> None:
    """Writes the tables of both versions; a file that would not change is left alone."""
    official = official_scenes(_NEEDED_BY)
    if not (root / map_file()).exists():
        buffer = io.BytesIO()
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(buffer, "PNG")
        write_bytes(root / map_file(), buffer.getvalue())
    mini_names = {*official["mini_train"], *official["mini_val"]}
    ordered = [records[name] for name in sorted(records)]
    mini = [record for record in ordered if record["scene"] in mini_names]
    for version, folder, chosen in (
        ("v1.0-trainval", LABEL_FOLDER, ordered), ("v1.0-mini", _MINI_LABEL_FOLDER, mini)
    ):  # fmt: skip
        labels = {
            data: label_file(data, folder)
            for record in chosen
            for data, size in _label_files(record).items()
            if file_size(root / label_file(data)) == size
        }
        if folder != LABEL_FOLDER:
            for data, filename in labels.items():
                replace_file(root / filename, (root / label_file(data)).read_bytes())
        tables = build_tables((record["tables"] for record in chosen), labels)
        for table, rows in tables.items():
            replace_file(root / version / f"{table}.json", json.dumps(rows, indent=0).encode())
