"""A scene and the car that records it: sensors on a rig, what each measures at an instant, and image files."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.common.random import generator
from pipeline.datasets.town.appearance import Scene, photograph
from pipeline.datasets.town.camera import Pinhole
from pipeline.datasets.town.drive import Drive, plan_drive, scan_times
from pipeline.datasets.town.frames import Pose, from_angles, looking_along
from pipeline.datasets.town.lidar import Lidar, LidarScan, scan
from pipeline.datasets.town.town import Town, build_town

SPACING = 8.0  # metres between scans
Lens = tuple[float, float, float]  # focal length, and column and row of the centre, px
Angles = tuple[float, float, float]  # yaw, pitch, roll, radians


@dataclass(frozen=True)
class Rig:
    """The sensors of a car, by name: what each is, and its place, ego←sensor."""

    lidars: dict[str, tuple[Lidar, Pose]]
    cameras: dict[str, tuple[Pinhole, Pose]]


@dataclass(frozen=True)
class SceneWorld:
    """A scene before anything is recorded in it."""

    seed: tuple[str | int, ...]
    town: Town
    drive: Drive
    times: list[float]  # of the scans, s
    rig: Rig

    @property
    def cameras(self) -> dict[str, tuple[Pinhole, Pose]]:
        return self.rig.cameras

    def sweep(self, number: int, lidar: str, ego: Pose) -> LidarScan:
        """What a lidar measures for a scan; ego: town←ego at that instant."""
        sensor, mount = self.rig.lidars[lidar]
        return scan(self.town, sensor, ego @ mount, generator(*self.seed, number, lidar))

    def picture(self, scene: Scene, number: int, camera: str, ego: Pose) -> np.ndarray:
        """What a camera sees for a scan, (rows, cols, 3) uint8; ego: town←ego at that instant."""
        pinhole, mount = self.rig.cameras[camera]
        return photograph(scene, pinhole, ego @ mount, generator(*self.seed, number, camera))


def open_scene(seed: tuple[str | int, ...], scans: int, rig: Rig) -> SceneWorld:
    """The world of a seed (names and numbers); the same for the same seed."""
    town = build_town(*seed, length=SPACING * scans)
    drive = plan_drive(town, *seed)
    return SceneWorld(seed, town, drive, scan_times(drive, scans, SPACING, generator(*seed, "times")), rig)


def jitter(random: np.random.Generator) -> Angles:
    """No two cars are built quite alike."""
    yaw, pitch, roll = np.radians(random.normal(0, 0.3, 3)).tolist()
    return yaw, pitch, roll


def mount_camera(
    random: np.random.Generator,
    at: tuple[float, float, float],
    heading: float,
    lens: Lens,
    full_size: tuple[int, int],
    image: tuple[int, int],
) -> tuple[Pinhole, Pose]:
    """A camera on a rig, and its place, ego←camera.

    Args:
        at: metres on the car, to a centimetre or so.
        heading: degrees from straight ahead, to the left.
        lens: of an image of `full_size` (rows, cols), to a few pixels.
        image: rows and cols that the camera gives.
    """
    yaw = math.radians(heading)
    forward = np.array([math.cos(yaw), math.sin(yaw), 0])
    right = np.array([math.sin(yaw), -math.cos(yaw), 0])
    pose = looking_along(forward, np.array(at) + random.normal(0, 0.01, 3), right)
    turn = from_angles((0, 0, 0), *jitter(random))
    focal, cx, cy = np.array(lens) + random.normal(0, 3.0, 3)
    return scaled(focal, cx, cy, full_size, image), Pose(turn.rotation @ pose.rotation, pose.translation)


def scaled(focal: float, cx: float, cy: float, full_size: tuple[int, int], image: tuple[int, int]) -> Pinhole:
    """A lens that is given for an image of `full_size`, in front of a smaller `image` (rows, cols both)."""
    rows, cols = image[0] / full_size[0], image[1] / full_size[1]
    return Pinhole(*image, focal * cols, focal * rows, cx * cols, cy * rows)


def image_file(pixels: np.ndarray, kind: str) -> bytes:
    """An image (rows, cols, 3) uint8 as the bytes of a file: JPEG or PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return buffer.getvalue()
