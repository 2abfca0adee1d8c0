"""How near the stored features are to the computed ones: cosines that a feature manifest reports."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LARGEST = 64
"""One channel in so many counts as largest, at least one: a few massive channels can hide the loss of all others."""


def losses(computed: npt.NDArray[np.float32], stored: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """(3, C): over one image, a channel's sums of computed², computed · lost and lost², where lost = stored - computed.

    If two vectors are nearly the same, rounding their products hides how far their cosine is from 1. These sums keep it,
    even in float32.

    Args:
        computed, stored: (rows, cols, C).
    """
    a = np.ascontiguousarray(computed.reshape(-1, computed.shape[-1]))  # (rows * cols, C)
    lost = np.ascontiguousarray(stored.reshape(a.shape)) - a
    sums = [np.einsum("pc,pc->c", left, right) for left, right in ((a, a), (a, lost), (lost, lost))]
    return np.stack(sums).astype(np.float64)


class Fidelity:
    """Sums over images, one after the other and in float64, so that no batching changes the result.

    The cosine is of all stored values against all computed ones, each taken as one long vector.
    """

    def __init__(self, channels: int) -> None:
        self._sums = np.zeros((3, channels))

    def add(self, computed: npt.NDArray[np.float32], stored: npt.NDArray[np.float32]) -> None:
        """One image: (rows, cols, C) each."""
        self.add_losses(losses(computed, stored))

    def add_losses(self, sums: npt.NDArray[np.float64]) -> None:
        """One image, by its `losses`, which may have been found in another thread."""
        self._sums += sums

    def report(self) -> dict[str, float | int]:
        """`cosine` of everything, and `cosine_without_largest` of all but the `largest_channels` of greatest energy."""
        energy = self._sums[0]
        count = max(1, len(energy) // LARGEST)
        rest = np.sort(np.argsort(-energy, kind="stable")[count:])
        return {
            "cosine": self._cosine(np.arange(len(energy))),
            "cosine_without_largest": self._cosine(rest),
            "largest_channels": count,
        }

    def _cosine(self, channels: np.ndarray) -> float:
        energy, along, lost = self._sums[:, channels].sum(axis=1)
        stored = energy + 2 * along + lost
        return round(float((energy + along) / np.sqrt(energy * stored)), 9) if energy and stored else 1.0
