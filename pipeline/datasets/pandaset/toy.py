"""Writes toy recordings in the on-disk format of PandaSet.

<root>/<sequence>/lidar/NN.pkl.gz                       points of both lidars; poses, timestamps of all frames
<root>/<sequence>/camera/<name>/NN.jpg                  and intrinsics, poses, timestamps
<root>/<sequence>/annotations/semseg/NN.pkl.gz          labels; names of all classes
<root>/<sequence>/meta/{gps,timestamps}.json            by whose first latitude readers tell train from val
<root>/toy/<sequence>.json                              see pipeline.datasets.town.tree
"""

from __future__ import annotations

from pathlib import Path

from cache_schemas.errors import BadInput
from pipeline.datasets.pandaset.toy_scene import CAMERAS, VAL_FROM, WORLD, write_scene
from pipeline.datasets.town.parameters import Parameters, scene_names
from pipeline.datasets.town.tree import Format, Progress, ToySummary, write_tree

_MOST_SCANS = 100
"""Frames are numbered with two digits."""


def _scenes(split: str) -> tuple[list[str], str]:
    """Sequences from 001 on for train, from 501 on for val: PandaSet has both mixed, and no more than 158."""
    first = 1 if split == "train" else VAL_FROM
    return [f"{first + k:03d}" for k in range(VAL_FROM - 1)], "the names of sequences have three digits"


def write_toy(
    root: Path,
    *,
    train: int = 10,
    val: int = 4,
    scans: int = 6,
    image: tuple[int, int] = (252, 448),
    beams: int = 64,
    azimuths: int = 360,
    seed: int = 0,
    processes: int | None = None,
    progress: Progress | None = None,
) -> ToySummary:
    """Writes, or completes, a toy tree under `root`.

    Args:
        image: rows and cols of all six cameras.
        beams, azimuths: of Pandar64; PandarGT has as many beams, and half as many azimuths in a sixth of the turn.
        processes: default one a core.

    Raises:
        BadInput: if the tree was written with other parameters, or the numbers make no sense.
    """
    if scans > _MOST_SCANS:
        raise BadInput(f"scans {scans}: a sequence of PandaSet has at most {_MOST_SCANS}")
    form = Format(
        cameras=len(CAMERAS),
        others=lambda root: root.glob("*/lidar"),
        scene=write_scene,
        finish=lambda root, records: None,
    )
    parameters = Parameters(scans, (image[0], image[1]), beams, azimuths, seed, WORLD)
    return write_tree(Path(root), form, scene_names(train, val, _scenes), parameters, processes, progress)
