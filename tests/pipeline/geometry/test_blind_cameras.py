"""Of a camera that sees nothing, the likely cause: one mistake at a time in a calibration that is right."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
import pytest

from pipeline.geometry.blind_cameras import why_blind
from pipeline.geometry.calibration import STRICT, RigidStep
from pipeline.geometry.projection import see

TO_CAMERA = (0.0, -1.0, 0.0, 0.0, 0.0, -1.0, 1.0, 0.0, 0.0)
"""From x forward, y left, z up."""


@dataclass(frozen=True)
class Image:
    height: int = 100
    width: int = 200
    intrinsics: tuple[float, ...] = (100.0, 0, 100, 0, 100, 50, 0, 0, 1)
    steps: tuple[RigidStep, ...] = (RigidStep(TO_CAMERA, (0.1, -0.2, -0.3)),)


def ahead() -> np.ndarray:
    random = np.random.default_rng(0)
    columns = random.uniform(5, 40, 500), random.uniform(-3, 3, 500), random.uniform(-1, 1, 500)
    return np.column_stack(columns).astype(np.float32)


AWAY = RigidStep((1.0, 0, 0, 0), (411_000.0, 1_180_000.0, 0.0))
BEHIND = RigidStep((0.0, 0, 1.0, 0), (0.0, 0.0, 0.0))


@pytest.mark.parametrize(
    ("image", "cause"),
    [
        (Image(steps=(AWAY, *Image().steps)), r"1,249,5\d\d m from the lidar: .* not in metres"),
        (Image(steps=(*Image().steps, BEHIND)), r"all 500 points are behind it: .*`inverse`"),
        (
            replace(Image(), intrinsics=(900.0, 0, 1100, 0, 900, 590, 0, 0, 1)),
            r"500 of 500 points .* another image size",
        ),
    ],
)
def test_the_likely_cause(image: Image, cause: str) -> None:
    assert len(see(ahead(), Image(), STRICT).point) == 500
    assert len(see(ahead(), image, STRICT).point) == 0
    why = why_blind(ahead(), image)
    assert re.search(cause, why), why
