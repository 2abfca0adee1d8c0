"""Confusion matrix, per-class IoU and mIoU, as nuScenes' lidarseg evaluation defines them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.common.run_files import ALL_CLASSES

IGNORE = 255
"""Label of a point without a label. The point counts nowhere, whatever was predicted for it."""


class Confusion:
    """Counts over a whole evaluation set: `counts[t, p]` points of true class t were predicted as p."""

    def __init__(self, classes: int) -> None:
        self.counts: npt.NDArray[np.int64] = np.zeros((classes, classes), dtype=np.int64)

    @property
    def classes(self) -> int:
        """Number of classes, without the ignored one."""
        return len(self.counts)

    def add(self, truth: npt.NDArray[np.integer[Any]], prediction: npt.NDArray[np.integer[Any]]) -> None:
        """Count points. truth: (N,) in [0, classes) or IGNORE. prediction: (N,) in [0, classes)."""
        if truth.shape != prediction.shape:
            raise ValueError(f"truth has shape {truth.shape}, prediction {prediction.shape}")
        labelled = truth != IGNORE  # (N,)
        truth, prediction = truth[labelled].astype(np.int64), prediction[labelled].astype(np.int64)  # (L,)
        for name, values in (("truth", truth), ("prediction", prediction)):
            bad = int(((values < 0) | (values >= self.classes)).sum())
            if bad:
                raise ValueError(f"{name}: {bad} of {len(values)} labels lie outside [0, {self.classes})")
        flat = np.bincount(truth * self.classes + prediction, minlength=self.classes**2)  # (classes^2,)
        self.counts += flat.reshape(self.classes, self.classes)

    def iou(self) -> npt.NDArray[np.float64]:
        """Intersection over union of each class; NaN for a class in neither truth nor predictions.

        Returns (classes,) float64 in [0, 1].
        """
        correct = np.diagonal(self.counts)  # (classes,)
        union = self.counts.sum(axis=1) + self.counts.sum(axis=0) - correct  # (classes,)
        return np.where(union > 0, correct / np.maximum(union, 1), np.nan)

    def mean_iou(self) -> float:
        """Mean over the classes that occur in truth or predictions; NaN before anything was counted."""
        iou = self.iou()
        return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")

    def mean_iou_of_all(self) -> float:
        """Mean over all classes; one in neither truth nor predictions counts as 0. NaN before anything was counted.

        So semantic-kitti-api counts (auxiliary/np_ioueval.py: it divides by the union plus 1e-15).
        """
        iou = self.iou()
        return float(np.nan_to_num(iou).mean()) if np.isfinite(iou).any() else float("nan")

    def scores(self, classes: Sequence[str]) -> dict[str, Any]:
        """mIoU in its two definitions and the IoU of each class, for JSON: it has no NaN, so that an unknown value is None."""
        return {
            "miou": _number(self.mean_iou()),
            ALL_CLASSES: _number(self.mean_iou_of_all()),
            "iou": {name: _number(value) for name, value in zip(classes, self.iou(), strict=True)},
        }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
