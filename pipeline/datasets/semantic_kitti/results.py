"""Predictions in the format of SemanticKITTI's official evaluation.

    <folder>/sequences/<sequence>/predictions/<scan>.label      uint32, the ids of the label files, in file order

For the test server, zip the folder `sequences` with its folders as entries (`zip -r`), all of 11 to 21. Source:
PRBonn/semantic-kitti-api, validate_submission.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cache_schemas.errors import BadInput
from cache_schemas.publish import write_bytes
from pipeline.datasets.semantic_kitti.classes import CLASSES, ID_OF_CLASS


def write_results(folder: Path, split: str, predictions: Iterable[tuple[str, np.ndarray]]) -> int:
    """Write (`SEQUENCE/SCAN`, classes (N,) in [0, 19)) of every scan; returns how many.

    Args:
        split: in no path here: the sequences tell it.

    Raises:
        BadInput: for classes outside the benchmark's, naming the scan: its evaluation would not say so.
    """
    ids = np.array(ID_OF_CLASS, "<u4")
    count = 0
    for name, classes in predictions:
        bad = int(((classes < 0) | (classes >= len(CLASSES))).sum())
        if bad:
            raise BadInput(
                f"scan {name}: {bad} of {len(classes)} predictions are no class of 0 to {len(CLASSES) - 1}; every "
                f"point must get one, those without a label, too"
            )
        sequence, scan = name.split("/")
        write_bytes(folder / "sequences" / sequence / "predictions" / f"{scan}.label", ids[classes].tobytes())
        count += 1
    return count
