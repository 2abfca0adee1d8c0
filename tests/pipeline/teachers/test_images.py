"""From an image file to the teacher's input: torchvision's own resize of a tensor is the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import resize

from cache_schemas.errors import BadInput
from pipeline.datasets.records import ImageRecord
from pipeline.teachers.images import read_image, to_input


@pytest.mark.parametrize("antialias", [False, True])
def test_resize_is_torchvisions(antialias: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8)
    published = torch.tensor((pixels / 255.0).astype(np.float32).transpose(2, 0, 1))
    expected = resize(published, [22, 45], antialias=antialias)
    assert torch.equal(to_input(pixels, (22, 45), antialias), expected)


def record(path: Path, height: int = 9, width: int = 16) -> ImageRecord:
    return ImageRecord("CAM", path.name, path.stat().st_size, height, width, (1.0,) * 9, ())


def test_a_grey_image_becomes_rgb(tmp_path: Path) -> None:
    Image.new("L", (16, 9), 77).save(tmp_path / "grey.png")
    pixels = read_image(tmp_path, record(tmp_path / "grey.png"))
    assert pixels.shape == (9, 16, 3)
    assert (pixels == 77).all()


def test_other_formats_and_sizes_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (16, 9)).save(tmp_path / "a.bmp")
    with pytest.raises(BadInput, match="is a BMP file"):
        read_image(tmp_path, record(tmp_path / "a.bmp"))
    Image.new("RGB", (16, 9)).save(tmp_path / "a.png")
    with pytest.raises(BadInput, match="is 16 x 9 pixels, its calibration is for 17 x 9"):
        read_image(tmp_path, record(tmp_path / "a.png", width=17))
