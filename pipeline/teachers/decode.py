"""From the bytes of an image file to its pixels: those of Pillow, by the faster decoder; and pixels of reduced size.

The published code opens images with Pillow, so Pillow's pixels are the rule. torchvision's decoder is built on the same
libjpeg-turbo. It gives the same pixels in a quarter of the time, without holding Python's lock. Whether they are the same
on this machine is compared on the first file of each kind.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL.Image import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image, decode_jpeg

from pipeline.common.log import log

Pixels = npt.NDArray[np.uint8]

_agrees: dict[Hashable, bool] = {}
"""For each kind of file seen in this process: whether both decoders gave the same pixels."""


def pixels_of(opened: Image, data: bytes) -> Pixels:
    """(height, width, 3) uint8 RGB of an image of mode RGB.

    Args:
        opened: by Pillow, not yet decoded.
        data: the whole file.

    Raises:
        OSError, SyntaxError: as Pillow does for a file that is cut or broken.
    """
    kind = _kind(opened)
    if not _agrees.get(kind, True):
        return np.array(opened)
    fast = _by_torchvision(data)
    if fast is None:  # what is broken is for Pillow to say
        return np.array(opened)
    if kind not in _agrees:
        _agrees[kind] = np.array_equal(fast, np.asarray(opened))
        if not _agrees[kind]:
            log(
                f"torchvision decodes {opened.format} files otherwise than Pillow here; Pillow does it, slower"
            )
            return np.array(opened)
    return fast


def device_pixels(data: bytes, device: torch.device) -> Tensor:
    """(3, height, width) uint8 RGB of a JPEG, decoded on a device: on a GPU by its own decoder, whose pixels are not Pillow's.

    Raises:
        RuntimeError: for a file that is cut or broken.
    """
    buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    pixels: Tensor = decode_jpeg(buffer, mode=ImageReadMode.RGB, device=device)
    return pixels


def reduced_pixels(opened: Image, data: bytes, size: tuple[int, int]) -> Pixels:
    """As `pixels_of`, but a JPEG is decoded at 1/2, 1/4 or 1/8 of its size where that is still `size` or more.

    Args:
        size: height and width that the image will be resized to.
    """
    whole = opened.size
    opened.draft("RGB", (size[1], size[0]))  # does nothing to a PNG
    return pixels_of(opened, data) if opened.size == whole else np.array(opened)


def _by_torchvision(data: bytes) -> Pixels | None:
    try:
        buffer = torch.from_numpy(np.frombuffer(bytearray(data), np.uint8))
        # (3, H, W), whose memory lies as (H, W, 3)
        decoded = decode_image(buffer, mode=ImageReadMode.RGB, apply_exif_orientation=False)
    except RuntimeError:
        return None
    return np.ascontiguousarray(decoded.permute(1, 2, 0).numpy())


def _kind(opened: Any) -> Hashable:
    """What decides how a file is decoded: its format, and for a JPEG its sampling, its order and its colours."""
    layers = [layer[1:3] for layer in getattr(opened, "layer", ())]
    markers = (opened.info.get(key) for key in ("progressive", "adobe", "adobe_transform"))
    return opened.format, tuple(layers), *markers
