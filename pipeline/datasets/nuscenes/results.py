"""Predictions in the format of the official nuScenes-lidarseg evaluation.

    <folder>/lidarseg/<split>/<lidar sample_data token>_lidarseg.bin    uint8, challenge classes 1 to 16, file order
    <folder>/<split>/submission.json                                    which sensors and data the submission used

Source: the nuScenes devkit's nuscenes/eval/lidarseg (README.md and validate_submission.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cache_schemas.errors import BadInput
from cache_schemas.publish import write_bytes, write_json
from pipeline.datasets.nuscenes.classes import CLASSES


def write_results(
    folder: Path,
    split: str,
    predictions: Iterable[tuple[str, np.ndarray]],
    *,
    use_camera: bool = False,
    use_external: bool = False,
) -> int:
    """Write (lidar sample_data token, classes (N,) in [0, 16)) of every scan of a split; returns how many.

    Args:
        split: the devkit's name of it, for instance val, test or mini_val.
        use_camera, use_external: whether the submission used images, or data beside nuScenes, as its rules count it.

    Raises:
        BadInput: for classes outside the challenge's, naming the scan: its evaluation would refuse the whole folder.
    """
    count = 0
    for token, classes in predictions:
        bad = int(((classes < 0) | (classes >= len(CLASSES))).sum())
        if bad:
            raise BadInput(
                f"scan {token}: {bad} of {len(classes)} predictions are no class of 0 to {len(CLASSES) - 1}; every "
                f"point must get one, those without a label, too"
            )
        path = folder / "lidarseg" / split / f"{token}_lidarseg.bin"
        write_bytes(path, (classes + 1).astype(np.uint8).tobytes())
        count += 1
    meta = {
        "use_camera": use_camera,
        "use_lidar": True,
        "use_radar": False,
        "use_map": False,
        "use_external": use_external,
    }
    write_json(folder / split / "submission.json", {"meta": meta})
    return count
