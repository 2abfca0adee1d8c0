"""Whether the pictures of a partition are pictures: not of one colour, and no two the same.

Only a few pixels of each are looked at. Of 471 real images (12 of nuScenes, 3 of KITTI, 456 of PandaSet's sequence 002, all
by day) each goes over 185 of 255 levels or more, toy images over 46, and no two are the same. There was no recording by
night to look at: so a dark picture is warned of only if its pixels are the same but for 4 levels.
"""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np

from cache_schemas.errors import BadInput
from pipeline.datasets.data_warnings import Finding, Warnings
from pipeline.datasets.files import check_size, read_file
from pipeline.datasets.records import ImageRecord

LEVELS = 4 / 255
"""A picture whose pixels differ by no more is of one colour."""
ACROSS = 32
"""Pixels of a thumbnail along each side, at least, where the picture has as many."""


class Pictures:
    """The pictures of one partition. Several threads may note some at once."""

    def __init__(self) -> None:
        self._noted: dict[int, tuple[str, float, int]] = {}  # by row: path, levels, checksum

    def note(self, row: int, path: str, pixels: np.ndarray) -> None:
        """Look at a picture: some of its pixels, from 0 to 1, in any shape that is the same for all."""
        values = np.ascontiguousarray(pixels, np.float32)
        self._noted[row] = path, float(values.max() - values.min()), zlib.crc32(values.tobytes())

    def warn(self, warnings: Warnings) -> None:
        """Note pictures of one colour, and those that are the same as one before them, in the order of rows."""
        first: dict[int, str] = {}
        for row, (path, levels, checksum) in sorted(self._noted.items()):
            if levels <= LEVELS:
                warnings.note(
                    row, path, [Finding("images", "the picture is black, or all of one colour")], path
                )
            elif first.get(checksum, path) != path:  # one file may serve several scans
                finding = Finding("images", f"it is the same picture as {first[checksum]}")
                warnings.note(row, path, [finding], path)
            first.setdefault(checksum, path)


def stride(length: int) -> int:
    """Every which pixel along a side of this length is looked at."""
    return max(1, length // ACROSS)


def thumbnail(root: Path, image: ImageRecord) -> np.ndarray:
    """Some pixels of an image file, from 0 to 1, (rows, cols, 3) float32. JPEGs are decoded at an eighth of their size.

    Raises:
        BadInput: if it is missing, cut, no image, or of another size than the index says.
    """
    from PIL import Image

    path = root / image.path
    check_size(path, image.bytes)
    try:
        with Image.open(io.BytesIO(read_file(path))) as opened:
            if opened.size != (image.width, image.height):
                raise BadInput(
                    f"{path} is {opened.size[0]} x {opened.size[1]} pixels, its calibration is for "
                    f"{image.width} x {image.height}; it was replaced or resized."
                )
            opened.draft("RGB", (max(1, image.width // 8), max(1, image.height // 8)))
            pixels = np.asarray(opened.convert("RGB"))
    except BadInput:
        raise
    except Exception as error:  # Pillow raises nearly anything for what is no image
        raise BadInput(f"{path} cannot be read as an image ({error}); download it again.") from error
    return pixels[:: stride(pixels.shape[0]), :: stride(pixels.shape[1])].astype(np.float32) / 255
