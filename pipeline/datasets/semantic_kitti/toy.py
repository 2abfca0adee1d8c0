"""Writes toy recordings in the on-disk format of SemanticKITTI, readable by pykitti.

    <root>/dataset/sequences/<sequence>/{velodyne,image_2,labels}/…     recordings
    <root>/dataset/sequences/<sequence>/{calib,times}.txt               of the sequence
    <root>/toy/<scene>.json                                             see pipeline.datasets.town.tree

A scene is a stretch of a sequence: there are more towns than sequences. A sequence's scenes follow one another in its
numbering, recorded by one and the same car.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.datasets.semantic_kitti.classes import SPLIT_OF_SEQUENCE
from pipeline.datasets.semantic_kitti.toy_scene import (
    WORLD,
    calibration_text,
    scene_name,
    sequence_folder,
    write_scene,
)
from pipeline.datasets.town.parameters import Parameters, scene_names
from pipeline.datasets.town.tree import Format, Progress, Record, ToySummary, replace_file, write_tree

_MOST = 100
"""Stretches in a sequence, so that their names have two digits."""
_SEQUENCE_SECONDS = 1000.0
"""Between the beginnings of two stretches, in `times.txt`: the car was elsewhere meanwhile."""


def _scenes(split: str) -> tuple[list[str], str]:
    """All scenes of a split, in turn over its sequences: first one in each, then a second one."""
    sequences = [name for name in sorted(SPLIT_OF_SEQUENCE) if SPLIT_OF_SEQUENCE[name] == split]
    names = [scene_name(sequence, stretch) for stretch in range(_MOST) for sequence in sequences]
    return names, f"there are {len(sequences)} {split} sequences"


def write_toy(
    root: Path,
    *,
    train: int = 10,
    val: int = 4,
    scans: int = 6,
    image: tuple[int, int] = (188, 620),
    beams: int = 64,
    azimuths: int = 360,
    seed: int = 0,
    processes: int | None = None,
    progress: Progress | None = None,
) -> ToySummary:
    """Writes, or completes, a toy tree under `root`.

    Args:
        image: rows and cols in sequences 00 to 02; those of others differ a little, as KITTI's do.
        processes: default one a core.

    Raises:
        BadInput: if the tree was written with other parameters, or the numbers make no sense.
    """
    form = Format(
        cameras=1,
        others=lambda root: root.glob("dataset/sequences/*/velodyne"),
        scene=write_scene,
        finish=_write_sequence_files,
    )
    parameters = Parameters(scans, (image[0], image[1]), beams, azimuths, seed, WORLD)
    return write_tree(Path(root), form, scene_names(train, val, _scenes), parameters, processes, progress)


def _write_sequence_files(root: Path, records: dict[str, Record]) -> None:
    """Calibration and times of every sequence; a file that would not change is left alone."""
    times: dict[str, list[float]] = {}
    for name in sorted(records):
        record = records[name]
        first = _SEQUENCE_SECONDS * record["stretch"]
        times.setdefault(record["sequence"], []).extend(first + time for time in record["times"])
        parameters = Parameters(**record["parameters"])
        calibration = calibration_text(record["sequence"], parameters)
        replace_file(sequence_folder(root, record["sequence"]) / "calib.txt", calibration.encode())
    for sequence, instants in times.items():
        text = "".join(f"{time:.6e}\n" for time in instants)
        replace_file(sequence_folder(root, sequence) / "times.txt", text.encode())
