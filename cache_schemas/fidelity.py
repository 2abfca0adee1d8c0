"""How near the stored features are to the computed ones: cosines that a feature manifest reports."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LARGEST = 64
"""One channel in so many counts as largest, at least one: a few massive channels can hide the loss of all others."""


class Fidelity:
    """Sums over images, one after the other and in float64, so that no batching changes the result.

    The cosine is of all stored values against all computed ones, each taken as one long vector.
    """

    def __init__(self, channels: int) -> None:
        self._stored = np.zeros(channels)
        self._computed = np.zeros(channels)
        self._both = np.zeros(channels)

    def add(self, computed: npt.NDArray[np.float32], stored: npt.NDArray[np.float32]) -> None:
        """One image: (rows, cols, C) each."""
        a = computed.reshape(-1, computed.shape[-1]).astype(np.float64)
        b = stored.reshape(-1, stored.shape[-1]).astype(np.float64)
        self._computed += np.einsum("pc,pc->c", a, a)
        self._stored += np.einsum("pc,pc->c", b, b)
        self._both += np.einsum("pc,pc->c", a, b)

    def report(self) -> dict[str, float | int]:
        """`cosine` of everything, and `cosine_without_largest` of all but the `largest_channels` of greatest energy."""
        count = max(1, len(self._computed) // LARGEST)
        rest = np.sort(np.argsort(-self._computed, kind="stable")[count:])
        return {
            "cosine": self._cosine(np.arange(len(self._computed))),
            "cosine_without_largest": self._cosine(rest),
            "largest_channels": count,
        }

    def _cosine(self, channels: np.ndarray) -> float:
        length = float(np.sqrt(self._computed[channels].sum() * self._stored[channels].sum()))
        return round(float(self._both[channels].sum()) / length, 9) if length else 1.0
