"""Calibration that projects without an error, and puts every point on another pixel: refused, with what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.datasets.records import ImageRecord
from pipeline.geometry.calibration import RigidStep, plain_numbers
from pipeline.geometry.calibration_checks import check_intrinsics, check_step

TO_CAMERA = (0.0, -1.0, 0.0, 0.0, 0.0, -1.0, 1.0, 0.0, 0.0)
HERE = (0.0, 0.0, 0.0)
PINHOLE = (70.0, 0.0, 64.0, 0.0, 70.0, 32.0, 0.0, 0.0, 1.0)
HEIGHT, WIDTH = 64, 128


def turned(angle: float, digits: int = 16) -> tuple[float, ...]:
    """TO_CAMERA turned a little, written with so many digits after the point."""
    c, s = np.cos(angle), np.sin(angle)
    about = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return tuple(np.round(about @ np.reshape(TO_CAMERA, (3, 3)), digits).ravel().tolist())


def test_what_is_right_is_taken() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        quaternion = rng.normal(size=4)
        check_step(RigidStep(tuple(quaternion / np.linalg.norm(quaternion)), (1e3, -2e6, 0.0)))
        check_step(RigidStep(turned(rng.uniform(0, 6)), HERE))
        check_step(RigidStep(turned(rng.uniform(0, 6), digits=4), HERE))
    check_step(RigidStep((0.7071, 0.0, 0.0, 0.7071), HERE))
    check_intrinsics(PINHOLE, HEIGHT, WIDTH)
    check_intrinsics((1266.4, 0.0, 816.3, 0.0, 1266.4, 491.5, 0.0, 0.0, 1.0), 900, 1600)


@pytest.mark.parametrize(
    ("rotation", "translation", "words"),
    [
        ((0, 1, 0, 0, 0, -1, 1, 0, 0), HERE, "mirrors"),
        ((0, -2, 0, 0, 0, -2, 2, 0, 0), HERE, "is no rotation"),
        ((64, -70, 0, 32, 0, -70, 1, 0, 0), HERE, "is no rotation"),
        ((0,) * 9, HERE, "is no rotation"),
        ((1, 0, 0, 1, 0, 0, 1, 0, 0), HERE, "is no rotation"),
        ((1, 0.05, 0, 0, 1, 0, 0, 0, 1), HERE, "is no rotation"),
        ((1.1, -1.1, 1.1, -1.1), HERE, r"has length 2\.2"),
        ((0.55, -0.55, 0.55, -0.55), HERE, r"has length 1\.1"),
        ((0.0,) * 4, HERE, "has length 0"),
        ((1, 0, 0, 0), (1e300, 0, 0), "more than 10,000 km"),
        ((1, 0, 0, 0), (0, float("nan"), 0), "not finite"),
        ((1, float("inf"), 0, 0), HERE, "not finite"),
    ],
)
def test_no_rigid_motion(rotation: tuple[float, ...], translation: tuple[float, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_step(RigidStep(rotation, translation))


@pytest.mark.parametrize(
    ("intrinsics", "words"),
    [
        ((70, 0, 0, 0, 70, 0, 64, 32, 1), "are transposed"),
        ((0.0, 0, 64, 0, 70, 32, 0, 0, 1), "must be positive"),
        ((70, 0, 64, 0, -70, 32, 0, 0, 1), "must be positive"),
        ((70, 0, 64, 0, 70, 32, 0, 0, 2), "the last row"),
        ((70, 0, 64, 0, 70, 32, 0, 0.5, 1), "the last row"),
        ((70, 7, 64, 0, 70, 32, 0, 0, 1), "sheared"),
        ((70, 0, 64, 7, 70, 32, 0, 0, 1), "sheared"),
        ((70, 0, 200, 0, 70, 32, 0, 0, 1), "outside the picture of 128 x 64"),
        ((70, 0, 32, 0, 70, 64.5, 0, 0, 1), "row and column are exchanged"),
        ((70, 0, -1, 0, 70, 32, 0, 0, 1), "outside the picture"),
        ((0,) * 9, "the last row"),
        ((float("nan"), 0, 64, 0, 70, 32, 0, 0, 1), "finite"),
        ((70, 0, 64, 0, 70, 32), "3 x 3"),
    ],
)
def test_no_camera_of_that_picture(intrinsics: tuple[float, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_intrinsics(intrinsics, HEIGHT, WIDTH)


def test_arrays_are_taken_for_numbers() -> None:
    matrix = np.reshape(TO_CAMERA, (3, 3))
    for given in (
        matrix,
        matrix.tolist(),
        tuple(map(tuple, matrix)),
        list(TO_CAMERA),
        matrix.astype(np.float32),
    ):
        assert RigidStep(given, np.zeros(3)) == RigidStep(TO_CAMERA, HERE)
    assert hash(RigidStep(matrix, [0, 0, 0])) == hash(RigidStep(TO_CAMERA, HERE))
    whole = (1, 0, 0, 0)
    assert plain_numbers(whole) is whole, "records that were made of whole numbers keep their digests"
    with pytest.raises(ValueError, match="a rotation has 4 numbers"):
        RigidStep(np.eye(4), HERE)


def test_intrinsics_may_be_a_matrix(tmp_path: object) -> None:
    from pathlib import Path

    from PIL import Image

    root = Path(str(tmp_path))
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / "a.png")
    for given in (np.reshape(PINHOLE, (3, 3)), np.reshape(PINHOLE, (3, 3)).tolist(), PINHOLE):
        record = ImageRecord.of_file(root, "a.png", camera="c", intrinsics=given, steps=())
        assert record.intrinsics == PINHOLE
