"""From an image file to the teacher's input, as the published code does it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from cache_schemas.errors import BadInput
from pipeline.datasets.files import check_size
from pipeline.datasets.records import ImageRecord


def read_image(root: Path, image: ImageRecord) -> np.ndarray:
    """(height, width, 3) uint8, RGB.

    Raises:
        BadInput: naming the file, if it is missing, truncated, no image, or of another size than the index says.
    """
    path = root / image.path
    check_size(path, image.bytes)
    try:
        with Image.open(path) as opened:
            if opened.format not in ("JPEG", "PNG"):
                raise BadInput(f"{path} is a {opened.format} file, not a JPEG or PNG; download it again.")
            pixels = np.asarray(opened.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise BadInput(f"{path} cannot be read as an image ({error}); download it again.") from error
    if pixels.shape[:2] != (image.height, image.width):
        raise BadInput(
            f"{path} is {pixels.shape[1]} x {pixels.shape[0]} pixels, its calibration is for "
            f"{image.width} x {image.height}; it was replaced or resized."
        )
    return pixels


def to_input(pixels: np.ndarray, size: tuple[int, int], antialias: bool) -> Tensor:
    """(3, H, W) float32 in [0, 1], bilinearly resized: what ScaLR gives its teacher before normalisation.

    torchvision's `resize` of a tensor is this interpolation; its antialias default changed from off (0.12, ScaLR's
    environment) to on (0.17 and later, ScaLR+'s).
    """
    image = torch.from_numpy(pixels.astype(np.float32) / np.float32(255)).permute(2, 0, 1)  # (3, H0, W0)
    resized = torch.nn.functional.interpolate(
        image[None], size=size, mode="bilinear", align_corners=False, antialias=antialias
    )
    return resized[0]
