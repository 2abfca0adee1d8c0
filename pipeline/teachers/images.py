"""From an image file to the teacher's input, as the published code does it. Files that a teacher cannot take are refused."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from cache_schemas.errors import BadInput
from pipeline.config.model import Teacher
from pipeline.datasets.files import check_size, read_file
from pipeline.datasets.records import ImageRecord
from pipeline.teachers.decode import Pixels, device_pixels, pixels_of, reduced_pixels
from pipeline.teachers.flow import is_out_of_memory

CPU = torch.device("cpu")

DECODES = ("exact", "draft", "uint8", "gpu")
"""How an image becomes the teacher's input.

exact: as the published code does. draft: JPEGs are decoded at half their size or less where that is still the teacher's
or more. uint8: resized as whole numbers, rounded to 1/255. gpu: JPEGs are decoded and resized on the teacher's GPU.
"""

_MODES = {
    "L": "grey",
    "LA": "grey with transparency",
    "1": "black and white",
    "P": "of a palette of colours",
    "PA": "of a palette of colours",
    "RGBA": "with transparency",
    "CMYK": "in CMYK, colours for printing",
    "I;16": "grey with 16 bits",
    "I;16B": "grey with 16 bits",
    "I": "grey with more than 8 bits",
}
_ORIENTATION = 0x0112

_thread = threading.local()


def load_input(
    root: Path,
    image: ImageRecord,
    size: tuple[int, int],
    antialias: bool,
    decode: str = "exact",
    device: torch.device = CPU,
) -> Tensor:
    """(3, H, W) float32 in [0, 1]: an image file as the teacher's input, in one of `DECODES`.

    Args:
        device: of the teacher; the way `gpu` decodes there, and its result lies there.

    Raises:
        BadInput: as `read_image` does.
    """
    if decode not in DECODES:
        raise ValueError(f"{decode!r} is none of {DECODES}")
    if decode == "gpu":
        return _on_device(root, image, size, antialias, device)
    pixels = read_image(root, image, reduce_to=size if decode == "draft" else None)
    return to_input(pixels, size, antialias, whole_numbers=decode == "uint8")


def black_input(teacher: Teacher, device: torch.device) -> Tensor:
    """(3, H, W) float32 zeros in the place of an image that cannot be read, where `load_input` puts its results."""
    return _done(torch.zeros(3, *teacher.image_size, device=device if teacher.decode == "gpu" else CPU))


def _on_device(
    root: Path, image: ImageRecord, size: tuple[int, int], antialias: bool, device: torch.device
) -> Tensor:
    """A JPEG decoded and resized on a device; a PNG, which GPUs have no decoder for, as `exact` does."""
    path = root / image.path
    data = _checked(path, image)
    if data[:2] != b"\xff\xd8":
        return to_input(read_image(root, image), size, antialias).to(device)
    try:
        pixels = device_pixels(data, device).float().div_(255)  # (3, H0, W0)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise BadInput(f"{path} cannot be read as an image ({error}); download it again.") from error
    resized = torch.nn.functional.interpolate(
        pixels[None], size=size, mode="bilinear", align_corners=False, antialias=antialias
    )[0]
    return _done(resized)


def _done(image: Tensor) -> Tensor:
    """The same image, when a GPU has finished it: who uses it does so on a stream of its own."""
    if image.device.type == "cuda":
        torch.cuda.current_stream(image.device).synchronize()
    return image


def _checked(path: Path, image: ImageRecord) -> bytes:
    """The bytes of an image file that a teacher takes; nothing is decoded.

    Raises:
        BadInput: as `read_image` does, but for what only decoding shows.
    """
    check_size(path, image.bytes)
    try:
        data = read_file(path)
        with Image.open(io.BytesIO(data)) as opened:
            _check(path, opened, data, image)
    except UnidentifiedImageError as error:
        raise BadInput(f"{path} is no image that can be read; download it again.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadInput(f"{path} cannot be read as an image ({error}); download it again.") from error
    return data


def read_image(root: Path, image: ImageRecord, reduce_to: tuple[int, int] | None = None) -> Pixels:
    """(height, width, 3) uint8, RGB.

    Args:
        reduce_to: height and width to which a JPEG may be reduced while it is decoded, by 2, 4 or 8.

    Raises:
        BadInput: naming the file, if it is missing, cut, no JPEG or PNG of 8-bit RGB, to be shown rotated, or of another
            size than the index says.
    """
    path = root / image.path
    data = _checked(path, image)
    try:
        with Image.open(io.BytesIO(data)) as opened:
            return pixels_of(opened, data) if reduce_to is None else reduced_pixels(opened, data, reduce_to)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadInput(f"{path} cannot be read as an image ({error}); download it again.") from error


def to_input(pixels: Pixels, size: tuple[int, int], antialias: bool, whole_numbers: bool = False) -> Tensor:
    """(3, H, W) float32 in [0, 1], bilinearly resized: what ScaLR gives its teacher before normalisation.

    torchvision's `resize` of a tensor is this interpolation; its antialias default changed from off (0.12, ScaLR's
    environment) to on (0.17 and later, ScaLR+'s). ScaLR divides in float64 and rounds to float32, which for the 256
    values that there are is the division in float32.

    Args:
        pixels: (H0, W0, 3) uint8.
        whole_numbers: resize uint8 and round, instead of float32.
    """
    image = torch.from_numpy(pixels).permute(2, 0, 1)  # (3, H0, W0), its memory as (H0, W0, 3)
    if not whole_numbers:
        image = _scratch(image.shape, planes=antialias).copy_(image).div_(255)
    resized = torch.nn.functional.interpolate(
        image[None], size=size, mode="bilinear", align_corners=False, antialias=antialias
    )[0]
    return resized.float().div_(255) if whole_numbers else resized


def _scratch(shape: torch.Size, planes: bool) -> Tensor:
    """(3, H0, W0) float32 to write into, the same for every image of a thread: fresh pages would cost half the time.

    The antialiased kernel is faster on planes, the other one on pixels; their results are the same.
    """
    if getattr(_thread, "kind", None) != (shape, planes):
        channels, height, width = shape
        pixels = torch.empty(height, width, channels).permute(2, 0, 1)
        _thread.kind, _thread.scratch = (shape, planes), torch.empty(shape) if planes else pixels
    scratch: Tensor = _thread.scratch
    return scratch


def _check(path: Path, opened: Image.Image, data: bytes, image: ImageRecord) -> None:
    """Refuse what the published code would not take, or would take for something else than it is."""
    if opened.format not in ("JPEG", "PNG"):
        raise BadInput(f"{path} is a {opened.format} file, not a JPEG or PNG; download it again.")
    if opened.mode != "RGB":
        raise BadInput(
            f"{path} is {_MODES.get(opened.mode, 'not RGB')} (mode {opened.mode}); a teacher takes RGB with 8 bits a "
            f"channel. Give the colour camera's own image; a converted one is another image, and yours to make."
        )
    # Pillow would cut 16 bits to 8 without a word. Byte 24 of a PNG is its bit depth.
    if opened.format == "PNG" and data[24] != 8:
        raise BadInput(
            f"{path} has {data[24]} bits a channel; a teacher takes RGB with 8. Convert it, and run "
            f"`griddle index --force`."
        )
    orientation = _orientation(opened, data)
    if orientation not in (0, 1):
        raise BadInput(
            f"{path} is to be shown rotated or mirrored (EXIF orientation {orientation}): its calibration may be of "
            f"either image. Write it upright without this tag, and run `griddle index --force`."
        )
    if opened.size != (image.width, image.height):
        raise BadInput(
            f"{path} is {opened.size[0]} x {opened.size[1]} pixels, its calibration is for "
            f"{image.width} x {image.height}; it was replaced or resized."
        )


def _orientation(opened: Image.Image, data: bytes) -> int:
    # Asking Pillow for the EXIF data of a PNG decodes it; hardly one has any.
    if opened.format == "PNG" and b"eXIf" not in data and b"tiff:Orientation" not in data:
        return 1
    return int(opened.getexif().get(_ORIENTATION, 1))
