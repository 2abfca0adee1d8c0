"""What a camera records of its hits: pattern, colour, light, shadow, haze, sky, lens and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.datasets.town.camera import Pinhole
from pipeline.datasets.town.frames import Pose
from pipeline.datasets.town.light import Light
from pipeline.datasets.town.raycast import RayGrid, cast
from pipeline.datasets.town.surface import Surface, surface_at
from pipeline.datasets.town.textures import PATTERNS, SIDE, lookup
from pipeline.datasets.town.town import Town

_GAMMA = 2.0
_MEAN = 0.33  # brightness, after gamma, that automatic exposure aims half-way at
_NOISE = 0.012  # standard deviation of a pixel's noise at mid-grey, of 1


@dataclass(frozen=True)
class Scene:
    """All that a camera can see."""

    town: Town
    light: Light


def photograph(scene: Scene, camera: Pinhole, pose: Pose, random: np.random.Generator) -> np.ndarray:
    """The image of a camera, (rows, cols, 3) uint8 RGB; pose: town←camera."""
    rays = camera.rays(pose)
    hits = cast(scene.town.primitives, rays)
    seen = hits.primitive.ravel() >= 0
    directions = rays.directions.reshape(3, -1)
    image = np.empty((3, camera.rows * camera.cols), np.float32)
    image[:, ~seen] = _sky(scene.light, directions[:, ~seen])
    distance, primitive = hits.distance.ravel()[seen], hits.primitive.ravel()[seen]
    image[:, seen] = _lit(scene, rays, directions[:, seen], distance, primitive, 1.0 / camera.fx)
    return _develop(image.reshape(3, camera.rows, camera.cols), scene.light, random)


def _sky(light: Light, directions: np.ndarray) -> np.ndarray:
    """Sky colour along directions (3, N), (3, N) float32 linear RGB."""
    x, y, z = directions
    height = np.clip(z, 0.02, 1.0)
    share = np.sqrt(height)
    colour = light.horizon[:, None] * (1 - share) + light.zenith[:, None] * share
    texels = np.clip(0.6 / height, 1, 64).astype(np.float32)
    cover = lookup(np.int32(PATTERNS["clouds"]), x / height * 0.1, y / height * 0.1, texels)
    cloud = np.clip((cover - 1 + light.cloudiness) * 3, 0, 1) * np.clip(z * 8, 0, 1) * 0.6
    return colour * (1 - cloud) + 0.95 * cloud


def _lit(
    scene: Scene,
    rays: RayGrid,
    directions: np.ndarray,
    distance: np.ndarray,
    primitive: np.ndarray,
    pixel: float,
) -> np.ndarray:
    """Light that N hits send to the camera, (3, N) float32; pixel: radians a pixel is wide."""
    town, light = scene.town, scene.light
    surface = surface_at(town.primitives, rays.origin, directions, distance, primitive)
    facing = np.clip(-(surface.normal * directions).sum(axis=0), 0.05, 1.0)
    albedo = _albedo(town, surface, primitive, distance * pixel / np.sqrt(facing))

    slope = (surface.normal * light.sun[:, None]).sum(axis=0)
    sunlit = np.maximum(slope, 0.0)
    some = sunlit > 0
    sunlit[some] *= light.shadow(surface.point[:, some], surface.normal[:, some])
    # Less sky is open to a wall than to a roof, and least to its foot.
    open_sky = (0.65 + 0.35 * surface.normal[2]) * np.where(
        surface.level, 1.0, 0.7 + 0.3 * np.clip(surface.point[2], 0, 1)
    )
    shine = town.looks.gloss[primitive] * (0.08 + 0.6 * (1 - facing) ** 3)
    mirrored = light.horizon * 0.5 + light.zenith * 0.5
    haze = np.exp(-distance / light.haze)
    out = np.empty_like(albedo)
    for channel in range(3):
        received = light.sunshine[channel] * sunlit + light.ambient[channel] * open_sky
        sent = albedo[channel] * received * (1 - shine) + mirrored[channel] * shine * open_sky
        out[channel] = sent * haze + light.horizon[channel] * (1 - haze)
    return out


def _albedo(town: Town, surface: Surface, primitive: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    """Colour of N hits in even light, (3, N); footprint: (N,) metres of surface in one pixel."""
    looks = town.looks
    tile_u, tile_v = looks.tile[:, 0][primitive], looks.tile[:, 1][primitive]
    u = surface.along / tile_u + looks.offset[:, 0][primitive]
    v = surface.up / tile_v + looks.offset[:, 1][primitive]
    mix = lookup(looks.pattern[primitive], u, v, footprint * SIDE / np.minimum(tile_u, tile_v))
    mix[surface.level & looks.flat_top[primitive]] = 0.0
    weather = town.weather(surface.point)
    albedo = np.empty((3, len(primitive)), np.float32)
    for channel in range(3):
        colour, accent = looks.colour[:, channel], looks.accent[:, channel]
        base = colour[primitive]
        albedo[channel] = (base + mix * (accent[primitive] - base)) * weather
    return albedo


def _develop(image: np.ndarray, light: Light, random: np.random.Generator) -> np.ndarray:
    """From linear light (3, rows, cols) to the camera's 8 bits (rows, cols, 3)."""
    _, rows, cols = image.shape
    image = image * light.gain[:, None, None]
    mean = float(image.mean())
    image *= np.float32((_MEAN**_GAMMA / mean) ** 0.5)  # exposure follows what the camera sees, half-way
    for axis in (1, 2):  # the lens spreads each point over its neighbours
        image = 0.7 * image + 0.15 * (np.roll(image, 1, axis) + np.roll(image, -1, axis))
    y, x = np.linspace(-1, 1, rows)[:, None], np.linspace(-1, 1, cols)[None, :]
    image *= (1 - 0.12 * (x * x + y * y)).astype(np.float32)
    image = 1 - np.exp(-1.3 * np.maximum(image, 0))  # bright surfaces keep their pattern
    image = image ** np.float32(1 / _GAMMA)
    image += _NOISE * random.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0)
