"""Lidars: the rays they send, and what comes back.

A lidar is described by its beams, mount and response; nothing here knows a dataset. A solid-state lidar
that looks forward is the same class with fewer azimuths and a narrower field of view.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.datasets.town.frames import Pose
from pipeline.datasets.town.raycast import Hits, RayGrid, cast
from pipeline.datasets.town.surface import surface_at
from pipeline.datasets.town.textures import lookup
from pipeline.datasets.town.town import Town


@dataclass(frozen=True)
class Lidar:
    """Beams turn about the sensor's z axis, from azimuth `start` through `sweep` degrees (negative: clockwise)."""

    elevations: tuple[float, ...]  # degrees, one a beam; the beam's place is its ring number
    azimuths: int
    start: float = 180.0  # degrees from the sensor's x axis
    sweep: float = -360.0  # degrees
    reach: float = 75.0  # metres
    range_noise: float = 0.02  # metres, standard deviation
    drop_out: float = 0.03  # share of returns lost whatever they hit
    full_scale: float = 255.0  # intensity is reported from 0 to this,
    step: float = 1.0  # in multiples of this
    gain: float = 0.32  # reported share of full scale for a white wall nearby, met head-on
    fade: float = 45.0  # metres at which half the intensity is left
    grazing: float = 0.35  # exponent of the cosine of incidence

    def rays(self, pose: Pose, phase: float = 0.0) -> RayGrid:
        """Rows are beams, columns azimuths; pose: town←sensor; phase: steps by which the sweep is late."""
        azimuth = np.radians(self.start + self.sweep * (np.arange(self.azimuths) + phase) / self.azimuths)[
            None, :
        ]
        elevation = np.radians(np.asarray(self.elevations))[:, None]
        flat = np.cos(elevation)
        x, y, z = flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)
        directions = np.empty((3, len(self.elevations), self.azimuths), np.float32)
        for axis, (along_x, along_y, along_z) in enumerate(pose.rotation.tolist()):
            directions[axis] = along_x * x + along_y * y + along_z * z
        return RayGrid(pose.translation, directions, lambda corners: self._windows(pose, phase, corners))

    def _windows(self, pose: Pose, phase: float, corners: np.ndarray) -> np.ndarray:
        """All beams of the columns whose azimuths a bounding box spans; see RayGrid.windows."""
        local = pose.inverse().apply(corners)
        middle = local.mean(axis=1)
        centre = np.arctan2(middle[:, 1], middle[:, 0])
        off = np.arctan2(local[..., 1], local[..., 0]) - centre[:, None]
        off = (off + np.pi) % (2 * np.pi) - np.pi
        low, high = off.min(axis=1), off.max(axis=1)
        around = high - low > 0.98 * np.pi  # the sensor's axis runs through the box, or nearly

        turn = 360.0 / abs(self.sweep) * self.azimuths  # columns that a full turn would have
        ends = np.degrees(centre + np.stack([low, high]))
        ends = np.sort((ends - self.start) / self.sweep * self.azimuths - phase, axis=0)
        first = np.floor(ends[0])
        shift = np.floor(first / turn) * turn
        begin, end = first - shift, np.ceil(ends[1]) + 1 - shift  # begin in [0, turn)

        index = np.arange(len(corners))
        begin, end = np.where(around, 0, begin), np.where(around, self.azimuths, end)
        windows = []
        for wrap in (0.0, turn):  # what runs over the end of the sweep goes on at its start
            a = np.clip(begin - wrap, 0, self.azimuths).astype(np.int64)
            b = np.clip(np.ceil(end - wrap), 0, self.azimuths).astype(np.int64)
            some = b > a
            rows = np.zeros(int(some.sum()), np.int64)
            windows.append(
                np.column_stack([index[some], rows, rows + len(self.elevations), a[some], b[some]])
            )
        return np.concatenate(windows)


@dataclass(frozen=True)
class LidarScan:
    """N returns in firing order: azimuth by azimuth, ring by ring."""

    points: np.ndarray  # (N, 3) float32, metres, sensor frame
    intensity: np.ndarray  # (N,) float32, whole steps from 0 to the lidar's full scale
    ring: np.ndarray  # (N,) uint8
    label: np.ndarray  # (N,) uint8, primitives.Label
    instance: np.ndarray  # (N,) int32, of the primitive


def scan(town: Town, lidar: Lidar, pose: Pose, random: np.random.Generator) -> LidarScan:
    """One sweep, all of it at one instant; pose: town←sensor."""
    rays = lidar.rays(pose, phase=random.random())
    hits = cast(town.primitives, rays)
    returned = (hits.distance < lidar.reach).T  # (azimuths, beams): firing order
    returned &= random.random(returned.shape) >= lidar.drop_out

    distance, primitive = hits.distance.T[returned], hits.primitive.T[returned]
    directions = rays.directions.transpose(0, 2, 1)[:, returned]
    ring = np.broadcast_to(np.arange(len(lidar.elevations), dtype=np.uint8), returned.shape)[returned]
    echo, scatter = _echo(town, lidar, Hits(distance, primitive), rays.origin, directions, random)

    # A weak echo is lost more often than a strong one.
    kept = random.random(len(echo)) < np.clip(echo * 150.0, 0.25, 1.0)
    noisy = distance + scatter + lidar.range_noise * random.standard_normal(len(echo))
    points = (directions[:, kept] * noisy[kept]).T @ pose.rotation
    intensity = np.clip(
        np.round(echo[kept] * lidar.full_scale / lidar.step) * lidar.step, 0, lidar.full_scale
    )
    return LidarScan(
        points=points.astype(np.float32), intensity=intensity.astype(np.float32),
        ring=ring[kept], label=town.primitives.label[primitive[kept]],
        instance=town.primitives.instance[primitive[kept]],
    )  # fmt: skip


def _echo(
    town: Town,
    lidar: Lidar,
    hits: Hits,
    origin: np.ndarray,
    directions: np.ndarray,
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Share of full scale that returns, and metres by which a rough surface moves it, each (N,)."""
    looks = town.looks
    surface = surface_at(town.primitives, origin, directions, hits.distance, hits.primitive)
    facing = np.clip(-(surface.normal * directions).sum(axis=0), 0.02, 1.0)
    pattern = lookup(
        looks.pattern[hits.primitive],
        surface.along / looks.tile[hits.primitive, 0] + looks.offset[hits.primitive, 0],
        surface.up / looks.tile[hits.primitive, 1] + looks.offset[hits.primitive, 1],
        np.full(len(facing), 2.0, np.float32),
    )
    weather = town.weather(surface.point)
    speckle = np.exp(0.25 * random.standard_normal(len(facing)))
    echo = looks.reflectivity[hits.primitive] * (0.6 + 0.8 * pattern) * weather * speckle
    echo = lidar.gain * echo * facing**lidar.grazing / (1.0 + (hits.distance / lidar.fade) ** 2)
    scatter = np.abs(random.standard_normal(len(facing))) * looks.roughness[hits.primitive]
    return echo, scatter
