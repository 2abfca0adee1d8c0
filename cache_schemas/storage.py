"""How feature values are stored: float32, float16, or int8 with one float16 scale for each group of 32 channels.

ViT features have a few very large channels. With one scale for all channels of a patch they would leave almost no levels
to the others. With groups, a large channel costs only its own group.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cache_schemas.errors import BadInput
from cache_schemas.features import GROUP

_LEVELS = 127


def groups(channels: int) -> int:
    return -(-channels // GROUP)


def encode(values: npt.NDArray[np.float32], storage: str) -> dict[str, np.ndarray]:
    """The arrays of the feature store for values (..., C) float32: `features`, and `scales` (..., G) for int8.

    Raises:
        BadInput: if a value is not finite, or does not fit.
    """
    if storage == "int8":
        return _encode_int8(_finite(values, "float32"))
    with np.errstate(over="ignore"):  # what overflows is refused with its count
        return {"features": _finite(values.astype(storage, copy=False), storage)}


def decode(features: np.ndarray, scales: np.ndarray | None) -> npt.NDArray[np.float32]:
    """Values (..., C) float32 from what `encode` gave."""
    if scales is None:
        return features.astype(np.float32)
    spread = np.repeat(scales.astype(np.float32), GROUP, axis=-1)[..., : features.shape[-1]]  # (..., C)
    return features.astype(np.float32) * spread


def _encode_int8(values: npt.NDArray[np.float32]) -> dict[str, np.ndarray]:
    channels = values.shape[-1]
    count = groups(channels)
    padded = np.zeros((*values.shape[:-1], count * GROUP), np.float32)
    padded[..., :channels] = values
    grouped = padded.reshape(*values.shape[:-1], count, GROUP)  # (..., G, 32)
    with np.errstate(over="ignore"):
        scales = (np.abs(grouped).max(axis=-1) / _LEVELS).astype(np.float16)  # (..., G)
    _finite(scales, "int8")
    # A group so faint that its scale is zero in float16 is stored as zeros: it is below 4e-6.
    steps = np.where(scales == 0, 1, scales).astype(np.float32)[..., None]
    levels = np.clip(np.rint(grouped / steps), -_LEVELS, _LEVELS).astype(np.int8)
    levels[scales == 0] = 0
    return {"features": levels.reshape(padded.shape)[..., :channels].copy(), "scales": scales}


def _finite(values: np.ndarray, storage: str) -> np.ndarray:
    wrong = values.size - int(np.isfinite(values).sum())
    if wrong:
        raise BadInput(
            f"{wrong} feature values are not finite in {storage}; write `storage: float32`, and see that the weights "
            f"are those of this model."
        )
    return values
