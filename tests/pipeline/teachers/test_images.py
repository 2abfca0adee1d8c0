"""From an image file to the teacher's input: Pillow and torchvision's own resize of a tensor are the reference."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import resize

from cache_schemas.errors import BadInput
from pipeline.config.model import Teacher
from pipeline.datasets.records import ImageRecord
from pipeline.teachers import decode
from pipeline.teachers.images import black_input, load_input, read_image, to_input


def published(pixels: np.ndarray, size: tuple[int, int], antialias: bool) -> torch.Tensor:
    """ScaLR's steps in ScaLR's order and types; only antialias, torchvision's default there, is said."""
    images = [pixels / 255.0]
    batch = torch.tensor(np.array(images, dtype=np.float32).transpose(0, 3, 1, 2))
    return resize(batch, list(size), antialias=antialias)[0]


def record(path: Path, height: int = 9, width: int = 16) -> ImageRecord:
    return ImageRecord("CAM", path.name, path.stat().st_size, height, width, (1.0,) * 9, ())


def texture(height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8 with large and small structure."""
    rng = np.random.default_rng(height * width)
    y, x = np.mgrid[:height, :width]
    waves = [127 + 90 * np.sin(x / (3 + c) + y / (7 - c)) for c in range(3)]
    return np.clip(np.stack(waves, -1) + rng.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(
    ("shape", "size"),
    [((90, 160), (22, 45)), ((37, 53), (22, 45)), ((90, 160), (90, 160)), ((9, 16), (28, 14))],
)
def test_resize_is_the_published_one(shape: tuple[int, int], size: tuple[int, int], antialias: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    assert torch.equal(to_input(pixels, size, antialias), published(pixels, size, antialias))


def test_all_256_values_are_divided_as_published() -> None:
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert torch.equal(to_input(pixels, (16, 16), False), published(pixels, (16, 16), False))


@pytest.mark.parametrize("antialias", [False, True])
def test_real_images_give_the_published_input(samples: Path, antialias: bool) -> None:
    found = sorted((samples / "nuscenes/samples").glob("CAM_FRONT*/*.jpg"))[:3]
    found += sorted((samples / "kitti/object/training/image_2").glob("*.png"))[:1]
    assert len(found) == 4
    for path in found:
        with Image.open(path) as opened:
            pixels = np.array(opened)
        of_file = record(path, *pixels.shape[:2])
        expected = published(pixels, (224, 448), antialias)
        assert torch.equal(load_input(path.parent, of_file, (224, 448), antialias), expected), path


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("sampling", [0, 1, 2])
@pytest.mark.parametrize("shape", [(61, 83), (8, 8)])
def test_the_fast_decoder_gives_pillows_pixels(
    shape: tuple[int, int], sampling: int, progressive: bool
) -> None:
    for quality in (40, 95):
        packed = io.BytesIO()
        Image.fromarray(texture(*shape)).save(
            packed, "JPEG", quality=quality, subsampling=sampling, progressive=progressive
        )
        with Image.open(packed) as opened:
            assert np.array_equal(decode._by_torchvision(packed.getvalue()), np.asarray(opened))


def test_where_the_decoders_disagree_pillow_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(texture(9, 16)).save(tmp_path / "a.jpg")
    expected = np.asarray(Image.open(tmp_path / "a.jpg"))
    monkeypatch.setattr(decode, "_by_torchvision", lambda data: expected ^ 1)
    monkeypatch.setattr(decode, "_agrees", {})
    for _ in range(2):
        assert np.array_equal(read_image(tmp_path, record(tmp_path / "a.jpg")), expected)
    assert capsys.readouterr().err.count("torchvision decodes JPEG files otherwise than Pillow here") == 1


def png_of_16_bits(path: Path, height: int = 9, width: int = 16) -> None:
    """RGB with 16 bits a channel, which Pillow cannot write."""
    row = b"\0" + np.arange(width * 3, dtype=">u2").tobytes()
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))]
    parts += [(b"IDAT", zlib.compress(row * height)), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (16, 9)).save(path, exif=exif)


def cut(path: Path) -> None:
    Image.fromarray(texture(9, 16)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])


BAD: list[tuple[str, Callable[[Path], object], str]] = [
    (
        "grey.jpg",
        lambda path: Image.new("L", (16, 9)).save(path),
        r"is grey \(mode L\).*colour camera's own image",
    ),
    ("grey.png", lambda path: Image.new("LA", (16, 9)).save(path), "is grey with transparency"),
    ("deep.png", lambda path: Image.new("I;16", (16, 9)).save(path), "is grey with 16 bits"),
    ("deep_rgb.png", png_of_16_bits, "has 16 bits a channel; a teacher takes RGB with 8"),
    ("print.jpg", lambda path: Image.new("CMYK", (16, 9)).save(path), "is in CMYK"),
    ("palette.png", lambda path: Image.new("P", (16, 9)).save(path), "is of a palette of colours"),
    ("alpha.png", lambda path: Image.new("RGBA", (16, 9)).save(path), "is with transparency"),
    (
        "turned.jpg",
        turned,
        r"is to be shown rotated or mirrored \(EXIF orientation 6\).*griddle index --force",
    ),
    ("turned.png", turned, r"is to be shown rotated or mirrored \(EXIF orientation 6\)"),
    ("other.bmp", lambda path: Image.new("RGB", (16, 9)).save(path), "is a BMP file, not a JPEG or PNG"),
    (
        "wide.png",
        lambda path: Image.new("RGB", (17, 9)).save(path),
        "is 17 x 9 pixels, its calibration is for 16 x 9",
    ),
    ("text.jpg", lambda path: path.write_text("no image"), "is no image that can be read; download it again"),
    ("cut.jpg", cut, "cannot be read as an image .*; download it again"),
    ("cut.png", cut, "cannot be read as an image .*; download it again"),
]


@pytest.mark.parametrize(("name", "write", "message"), BAD, ids=[name for name, _, _ in BAD])
def test_what_no_teacher_takes_is_refused_by_name(
    tmp_path: Path, name: str, write: Callable[[Path], object], message: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(BadInput, match=f"{name} {message}"):
        read_image(tmp_path, record(tmp_path / name))


def test_a_real_grey_image_is_refused(samples: Path) -> None:
    path = samples / "semantickitti/sequence_00/image_0/000000.png"
    with pytest.raises(BadInput, match=r"000000\.png is grey"):
        read_image(path.parent, record(path, 376, 1241))


def test_a_file_of_another_size_than_indexed_or_none_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (16, 9)).save(tmp_path / "a.png")
    indexed = record(tmp_path / "a.png")
    with open(tmp_path / "a.png", "ab") as file:
        file.write(b"more")
    with pytest.raises(BadInput, match=r"a\.png has \d+ bytes, the index says \d+"):
        read_image(tmp_path, indexed)
    (tmp_path / "a.png").unlink()
    with pytest.raises(BadInput, match=r"a\.png is missing"):
        read_image(tmp_path, indexed)


def test_an_image_too_large_to_be_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (16, 9)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(BadInput, match=r"a\.png cannot be read as an image"):
        read_image(tmp_path, record(tmp_path / "a.png"))


def test_an_upright_exif_image_is_taken(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    Image.new("RGB", (16, 9)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path, record(tmp_path / "a.jpg")).shape == (9, 16, 3)


@pytest.mark.parametrize("antialias", [False, True])
def test_draft_is_pillows_reduced_image_resized(tmp_path: Path, antialias: bool) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(texture(120, 200)).save(path, quality=95)
    with Image.open(path) as opened:
        opened.draft("RGB", (60, 40))
        assert opened.size == (100, 60)
        half = np.array(opened)
    of_file = record(path, 120, 200)
    drafted = load_input(tmp_path, of_file, (40, 60), antialias, "draft")
    assert torch.equal(drafted, published(half, (40, 60), antialias))
    assert not torch.equal(drafted, load_input(tmp_path, of_file, (40, 60), antialias))


def test_draft_is_exact_where_nothing_can_be_reduced(tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg"):
        Image.fromarray(texture(60, 100)).save(tmp_path / name)
        of_file, size = record(tmp_path / name, 60, 100), (40, 60)
        exact = load_input(tmp_path, of_file, size, False)
        assert torch.equal(load_input(tmp_path, of_file, size, False, "draft"), exact)


@pytest.mark.parametrize("antialias", [False, True])
def test_whole_numbers_are_near_the_exact_input(tmp_path: Path, antialias: bool) -> None:
    Image.fromarray(texture(120, 200)).save(tmp_path / "a.jpg", quality=95)
    of_file = record(tmp_path / "a.jpg", 120, 200)
    exact = load_input(tmp_path, of_file, (40, 60), antialias)
    rounded = load_input(tmp_path, of_file, (40, 60), antialias, "uint8")
    assert torch.equal(rounded, (rounded * 255).round() / 255)
    assert 0 < (rounded - exact).abs().max() < 2 / 255


def test_another_way_is_no_way(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'fast' is none of"):
        load_input(tmp_path, ImageRecord("CAM", "a.jpg", 1, 9, 16, (), ()), (4, 6), False, "fast")


@pytest.mark.parametrize("antialias", [False, True])
def test_what_a_device_decodes_goes_the_same_way(tmp_path: Path, antialias: bool) -> None:
    """On a CPU the device's decoder is libjpeg-turbo, so all but the GPU's own decoder is held here."""
    path, cpu = tmp_path / "a.jpg", torch.device("cpu")
    Image.fromarray(texture(120, 200)).save(path, quality=95)
    of_file = record(path, 120, 200)
    exact = load_input(tmp_path, of_file, (40, 60), antialias)
    found = load_input(tmp_path, of_file, (40, 60), antialias, "gpu", cpu)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-6)
    path.write_bytes(path.read_bytes()[:40].ljust(of_file.bytes, b"\0"))
    with pytest.raises(BadInput, match=r"cannot be read as an image|is no image"):
        load_input(tmp_path, of_file, (40, 60), antialias, "gpu", cpu)


def test_a_png_is_decoded_as_ever_where_a_gpu_decodes_jpegs(tmp_path: Path) -> None:
    Image.fromarray(texture(60, 100)).save(tmp_path / "a.png")
    of_file = record(tmp_path / "a.png", 60, 100)
    exact = load_input(tmp_path, of_file, (40, 60), False)
    assert torch.equal(load_input(tmp_path, of_file, (40, 60), False, "gpu"), exact)


@pytest.mark.parametrize(("decode", "where"), [("exact", "cpu"), ("gpu", "meta")])
def test_a_black_image_lies_where_images_lie(decode: str, where: str) -> None:
    """`meta` stands for the teacher's device: a batch of images in two places cannot be stacked."""
    teacher = Teacher.model_validate({"model": "dinov2_vits14", "image_size": (28, 42), "decode": decode})
    black = black_input(teacher, torch.device("meta"))
    assert (black.shape, black.device.type) == ((3, 28, 42), where)
