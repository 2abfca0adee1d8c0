"""Sun and sky of a scene, and the shadows that things cast.

Shadows come from a shadow map: a camera far away towards the sun, whose rays find what the sun sees first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipeline.common.random import generator
from pipeline.datasets.town.camera import Pinhole
from pipeline.datasets.town.frames import Pose, looking_along
from pipeline.datasets.town.raycast import cast
from pipeline.datasets.town.town import Town

_TEXEL = 0.16  # metres of one ray of the shadow map
_SUN = 900.0  # metres from which the shadow map looks; far enough for nearly parallel rays
_BEFORE, _BEHIND, _BESIDE, _ABOVE = 70.0, 45.0, 32.0, 9.0  # metres around the drive that get shadows


@dataclass(frozen=True)
class Light:
    sun: np.ndarray  # (3,) float32, unit, towards the sun
    sunshine: np.ndarray  # (3,) float32, linear RGB
    ambient: np.ndarray  # (3,) float32, light of the open sky
    zenith: np.ndarray  # (3,) float32, sky colour overhead
    horizon: np.ndarray  # (3,) float32, sky and haze colour at the horizon
    cloudiness: float  # 0 to 1
    haze: float  # metres over which two thirds of the view are lost
    gain: np.ndarray  # (3,) float32, exposure and white balance of all cameras of the scene
    eye: Pinhole
    eye_inverse: Pose  # eye←town
    first_hit: np.ndarray  # (rows, cols) float32, metres from the eye to what the sun sees

    def shadow(self, point: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """Share of sunshine that reaches each point, (N,) float32; point, normal: (3, N), town frame."""
        # A step off the surface keeps it from shading itself.
        lifted = point + 0.08 * normal
        rotation, shift = self.eye_inverse.rotation, self.eye_inverse.translation
        x, y, z = (
            sum(float(rotation[row, axis]) * lifted[axis] for axis in range(3)) + float(shift[row])
            for row in range(3)
        )
        far = np.sqrt(x * x + y * y + z * z) - 0.15
        u, v = x / z * self.eye.fx + self.eye.cx - 0.5, y / z * self.eye.fy + self.eye.cy - 0.5
        inside = (u > 0) & (u < self.eye.cols - 2) & (v > 0) & (v < self.eye.rows - 2)
        u, v = np.where(inside, u, 0), np.where(inside, v, 0)
        col, row = u.astype(np.int32), v.astype(np.int32)
        u, v = (u - col).astype(np.float32), (v - row).astype(np.float32)
        flat, corner = self.first_hit.ravel(), row * self.eye.cols + col
        lit = [flat[corner + k] > far for k in (0, 1, self.eye.cols, self.eye.cols + 1)]
        upper, lower = lit[0] * (1 - u) + lit[1] * u, lit[2] * (1 - u) + lit[3] * u
        return np.where(inside, upper * (1 - v) + lower * v, np.float32(1))


def make_light(town: Town, *seed: str | int) -> Light:
    """The light of a seed (names and numbers): from a clear morning to a grey noon."""
    random = generator(*seed, "light")
    azimuth, height = random.uniform(0, 2 * math.pi), math.radians(random.uniform(28, 62))
    sun = np.array(
        [math.cos(height) * math.cos(azimuth), math.cos(height) * math.sin(azimuth), math.sin(height)]
    )
    cloudiness = float(random.uniform(0.05, 0.95))
    clear = 1.0 - 0.75 * cloudiness
    warmth = random.uniform(-0.12, 0.12)
    warm = np.array([1 + warmth, 1.0, 1 - warmth])
    grey, blue = np.array([0.72, 0.74, 0.77]), np.array([0.28, 0.44, 0.72])
    horizon = grey * random.uniform(0.85, 1.15) * np.array([1 + 0.5 * warmth, 1, 1 - 0.5 * warmth])
    gain = random.uniform(0.75, 1.25) * np.exp(random.normal(0, 0.04, 3))
    eye, pose = _towards_street(town, sun)
    return Light(
        sun=sun.astype(np.float32),
        sunshine=(2.4 * clear * warm).astype(np.float32),
        ambient=((0.55 + 0.35 * cloudiness) * (1.6 - 0.6 * warm)).astype(np.float32),
        zenith=(grey * cloudiness * 0.9 + blue * (1 - cloudiness)).astype(np.float32),
        horizon=horizon.astype(np.float32),
        cloudiness=cloudiness,
        haze=float(random.uniform(250, 900)),
        gain=gain.astype(np.float32),
        eye=eye,
        eye_inverse=pose.inverse(),
        first_hit=cast(town.primitives, eye.rays(pose)).distance,
    )


def _towards_street(town: Town, sun: np.ndarray) -> tuple[Pinhole, Pose]:
    """A camera at the sun that just holds the street around the drive."""
    x = (-_BEHIND, town.length + _BEFORE)
    middle = np.array([sum(x) / 2, 0.0, 0.0])
    pose = looking_along(-sun, middle + _SUN * sun, np.array([1.0, 0.0, 0.0]))
    box = np.array([(a, b, c) for a in x for b in (-_BESIDE, _BESIDE) for c in (0.0, _ABOVE)])
    seen = pose.inverse().apply(box)
    scale = _SUN / _TEXEL
    u, v = seen[:, 0] / seen[:, 2] * scale, seen[:, 1] / seen[:, 2] * scale
    rows, cols = int(v.max() - v.min()) + 2, int(u.max() - u.min()) + 2
    return Pinhole(rows, cols, scale, scale, -float(u.min()), -float(v.min())), pose
