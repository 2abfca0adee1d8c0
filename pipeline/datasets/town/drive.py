"""Where the ego car is at any instant."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipeline.common.random import generator
from pipeline.datasets.town.frames import Pose, from_angles
from pipeline.datasets.town.town import Town


@dataclass(frozen=True)
class Drive:
    """A drive along a town's ego lane, at a steady speed, weaving and nodding a little as cars do."""

    speed: float  # metres a second
    lane: float  # y of the lane's middle, metres
    weave: float  # metres to either side
    wave: float  # metres a weave takes
    phase: float  # radians
    tilt: tuple[float, float]  # largest pitch and roll, radians

    def pose(self, time: float) -> Pose:
        """town←ego, `time` seconds after the car passed x = 0."""
        x = self.speed * time
        turn = 2 * math.pi / self.wave
        y = self.lane + self.weave * math.sin(turn * x + self.phase)
        yaw = math.atan(self.weave * turn * math.cos(turn * x + self.phase))
        pitch = self.tilt[0] * math.sin(2.1 * time + self.phase)
        roll = self.tilt[1] * math.sin(1.3 * time + 2 * self.phase)
        return from_angles((x, y, 0.0), yaw, pitch, roll)


def plan_drive(town: Town, *seed: str | int) -> Drive:
    """The drive of a seed (names and numbers) through a town."""
    random = generator(*seed, "drive")
    return Drive(
        speed=random.uniform(6.0, 10.0),
        lane=town.lane,
        weave=random.uniform(0.05, 0.25),
        wave=random.uniform(35, 70),
        phase=random.uniform(0, 2 * math.pi),
        tilt=(random.uniform(0, 0.006), random.uniform(0, 0.006)),
    )


def scan_times(drive: Drive, scans: int, spacing: float, random: np.random.Generator) -> list[float]:
    """Instants (s) of `scans` scans about `spacing` metres apart, the first soon after x = 0."""
    places = spacing * (np.arange(scans) + random.uniform(-0.1, 0.1, scans)) + 0.1 * spacing
    return [float(place) / drive.speed for place in places]
