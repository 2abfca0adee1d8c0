"""One toy scene in the files of PandaSet: a car with its two lidars and six cameras in a toy town."""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np

from cache_schemas.publish import write_json
from pipeline.common.random import generator
from pipeline.datasets.town.appearance import Scene
from pipeline.datasets.town.frames import Pose, from_angles
from pipeline.datasets.town.lidar import Lidar, LidarScan
from pipeline.datasets.town.light import make_light
from pipeline.datasets.town.parameters import Parameters
from pipeline.datasets.town.primitives import Label
from pipeline.datasets.town.recording import Rig, SceneWorld, image_file, jitter, mount_camera, open_scene
from pipeline.datasets.town.tree import Record, put, record_path

WORLD = 1  # raised by hand when the same parameters make other bytes
VAL_FROM = 501  # the first sequence of val
PANDAR64, PANDAR_GT = "pandar64", "pandar_gt"
SENSORS = (PANDAR64, PANDAR_GT)  # the place is the number in column d
CLASS_OF = {
    Label.ROAD: 7, Label.SIDEWALK: 11, Label.TERRAIN: 6, Label.BUILDING: 41, Label.VEGETATION: 5,
    Label.CAR: 13, Label.TRUCK: 16, Label.PEDESTRIAN: 30, Label.POLE: 42, Label.BARRIER: 35,
}  # fmt: skip
"""The ids of label files."""
CLASS_NAMES = (
    "Smoke", "Exhaust", "Spray or rain", "Reflection", "Vegetation", "Ground", "Road", "Lane Line Marking",
    "Stop Line Marking", "Other Road Marking", "Sidewalk", "Driveway", "Car", "Pickup Truck", "Medium-sized Truck",
    "Semi-truck", "Towed Object", "Motorcycle", "Other Vehicle - Construction Vehicle", "Other Vehicle - Uncommon",
    "Other Vehicle - Pedicab", "Emergency Vehicle", "Bus", "Personal Mobility Device", "Motorized Scooter", "Bicycle",
    "Train", "Trolley", "Tram / Subway", "Pedestrian", "Pedestrian with Object", "Animals - Bird", "Animals - Other",
    "Pylons", "Road Barriers", "Signs", "Cones", "Construction Signs", "Temporary Construction Barriers",
    "Rolling Containers", "Building", "Other Static Object",
)  # fmt: skip
"""Of the ids from 1 on, as `classes.json` has them."""
_CLASS_TABLE = np.array([CLASS_OF[label] for label in Label], np.int64)

_FULL_SIZE = (1080, 1920)  # rows, cols that the focal lengths below are for
# Camera: instant, ms after the lidar's; place on the car, m; heading, degrees; focal length and centre, px.
_RIG = {
    "back_camera": (0, (0.64, -0.03, 1.75), 180.0, (933.5, 896.5, 507.4)),
    "front_camera": (-50, (1.75, 0.0, 1.91), 0.0, (1970.0, 970.0, 483.3)),
    "front_left_camera": (-64, (2.41, 0.64, 1.63), 57.7, (929.8, 972.2, 508.0)),
    "front_right_camera": (-36, (2.38, -0.60, 1.70), -57.7, (930.0, 965.1, 463.4)),
    "left_camera": (-79, (1.44, 0.53, 1.68), 90.0, (930.4, 991.7, 541.6)),
    "right_camera": (-21, (1.49, -0.70, 1.65), -90.0, (922.5, 945.1, 517.6)),
}  # fmt: skip
CAMERAS = tuple(_RIG)
# Degrees of Pandar64's beams, from the highest down: dense from +2 to -6.
_ELEVATIONS = (
    15.0,
    11.0,
    8.0,
    5.0,
    3.0,
    *np.linspace(2.0, -6.0, 49).tolist(),
    *range(-7, -15, -1),
    -19.0,
    -25.0,
)
_GT_VIEW = 60.0, 20.0  # degrees that the solid-state lidar looks wide and high
_EGO = from_angles((0.9, 0.0, 0.1), -math.pi / 2)  # car←PandaSet's ego frame: x right, y forward, z up
_FINEST = 2.0**-12  # metres; of coordinates, so that files are half as large
_PLACES = {"train": (37.776, -122.399), "val": (37.503, -122.259)}  # San Francisco; El Camino Real


@dataclass(frozen=True)
class PandaSetWorld(SceneWorld):
    """A scene before anything is recorded in it; place: world←town, whose origin is the ego frame's first place."""

    place: Pose


def open_world(name: str, parameters: Parameters) -> PandaSetWorld:
    """Builds the world of a scene; the same for the same name and parameters."""
    seed = ("toy", parameters.seed, "pandaset", name)
    random = generator(*seed, "rig")
    heading = random.uniform(-math.pi, math.pi)
    beams = np.linspace(0, len(_ELEVATIONS) - 1, parameters.beams).round().astype(int)
    wide, high = _GT_VIEW
    lidars = {
        PANDAR64: (
            Lidar(tuple(_ELEVATIONS[k] for k in beams), parameters.azimuths),
            from_angles((0.9, 0.0, 1.95), *jitter(random)),
        ),
        PANDAR_GT: (
            Lidar(
                tuple(np.linspace(high / 2, -high / 2, parameters.beams).tolist()),
                max(1, parameters.azimuths // 2),
                start=wide / 2,
                sweep=-wide,
                reach=150.0,
                gain=0.36,
                fade=60.0,
            ),
            from_angles((1.8, 0.0, 1.75), *jitter(random)),
        ),
    }
    cameras = {
        camera: mount_camera(random, at, turn, lens, _FULL_SIZE, parameters.image)
        for camera, (_, at, turn, lens) in _RIG.items()
    }
    world = open_scene(seed, parameters.scans, Rig(lidars, cameras))
    first = world.drive.pose(world.times[0]) @ _EGO
    place = from_angles((0.0, 0.0, 0.0), heading) @ Pose(np.eye(3), -first.translation)
    return PandaSetWorld(**vars(world), place=place)


def camera_time(time: float, camera: str) -> float:
    """When a camera looks, for the scan at `time`, s."""
    return time + _RIG[camera][0] / 1000


def write_scene(root: Path, name: str, parameters: Parameters) -> Record:
    """Renders a scene and writes its recordings, labels and tables of poses, then its record. Gives the record."""
    world = open_world(name, parameters)
    scene = Scene(world.town, make_light(world.town, *world.seed))
    begin = _begin(world)
    files: list[tuple[str, int]] = []

    def keep(file: str, content: bytes) -> None:
        put(root / name / file, content)
        files.append((f"{name}/{file}", len(content)))

    poses: dict[str, list[Pose]] = {folder: [] for folder in ("lidar", *map("camera/{}".format, CAMERAS))}
    times: dict[str, list[float]] = {folder: [] for folder in poses}
    points = 0
    for number, time in enumerate(world.times):
        ego = world.drive.pose(time)
        sweeps = [world.sweep(number, lidar, ego) for lidar in SENSORS]
        points += sum(len(sweep.points) for sweep in sweeps)
        poses["lidar"].append(world.place @ ego @ _EGO)
        times["lidar"].append(begin + time)
        table = _points(world, sweeps, world.place @ ego, begin + time)
        labels = np.concatenate([_CLASS_TABLE[sweep.label] for sweep in sweeps])
        keep(f"lidar/{number:02d}.pkl.gz", _pickled(table, index="index"))
        keep(f"annotations/semseg/{number:02d}.pkl.gz", _pickled({"class": labels}, index=None))
        for camera in CAMERAS:
            at = camera_time(time, camera)
            ego = world.drive.pose(at)
            poses[f"camera/{camera}"].append(world.place @ ego @ world.cameras[camera][1])
            times[f"camera/{camera}"].append(begin + at)
            keep(
                f"camera/{camera}/{number:02d}.jpg",
                image_file(world.picture(scene, number, camera, ego), "JPEG"),
            )
    for folder in poses:
        keep(f"{folder}/poses.json", _json([_pose(pose) for pose in poses[folder]]))
        keep(f"{folder}/timestamps.json", _json(times[folder]))
    for camera in CAMERAS:
        lens = world.cameras[camera][0]
        keep(
            f"camera/{camera}/intrinsics.json",
            _json({key: getattr(lens, key) for key in ("fx", "fy", "cx", "cy")}),
        )
    keep("meta/gps.json", _json([_gps(name, world, pose) for pose in poses["lidar"]]))
    keep("meta/timestamps.json", _json(times["lidar"]))
    keep(
        "annotations/semseg/classes.json",
        _json({str(k): kind for k, kind in enumerate(CLASS_NAMES, start=1)}),
    )
    record = {"scene": name, "parameters": parameters.recorded(), "points": points, "files": files}
    write_json(record_path(root, name), record)
    return record


def _begin(world: SceneWorld) -> float:
    """By day in one summer: the instant the car passes the town's x = 0, s since 1970."""
    day, minute = generator(*world.seed, "date").integers((60, 9 * 60)).tolist()
    first = datetime(2019, 5, 1, 9, tzinfo=timezone(timedelta(hours=-7)))
    return (first + timedelta(days=day, minutes=minute)).timestamp()


def _points(world: PandaSetWorld, sweeps: list[LidarScan], car: Pose, time: float) -> dict[str, np.ndarray]:
    """The columns of a lidar file, sensor by sensor; car: world←car."""
    mounts = [world.rig.lidars[lidar][1] for lidar in SENSORS]
    places = np.concatenate(
        [
            (car @ mount).apply(sweep.points.astype(np.float64))
            for mount, sweep in zip(mounts, sweeps, strict=True)
        ]
    )
    x, y, z = np.round(places / _FINEST).T * _FINEST
    counts = [len(sweep.points) for sweep in sweeps]
    return {
        "x": x,
        "y": y,
        "z": z,
        "i": np.concatenate([sweep.intensity for sweep in sweeps]).astype(np.float64),
        "t": np.full(len(x), time),
        "d": np.repeat(np.arange(len(SENSORS)), counts),
    }


def _pickled(columns: dict[str, np.ndarray], index: str | None) -> bytes:
    """A DataFrame as PandaSet's files hold one: pickled, gzipped; index: the name of its row numbers."""
    import pandas as pd

    frame = pd.DataFrame(columns)
    frame.index.name = index
    buffer = io.BytesIO()
    frame.to_pickle(buffer, compression={"method": "gzip", "compresslevel": 6, "mtime": 0}, protocol=3)
    return buffer.getvalue()


def _pose(pose: Pose) -> dict[str, dict[str, float]]:
    return {
        "position": dict(zip("xyz", pose.translation.tolist(), strict=True)),
        "heading": dict(zip("wxyz", pose.quaternion(), strict=True)),
    }


def _gps(name: str, world: PandaSetWorld, ego: Pose) -> dict[str, float]:
    """Where on earth the car is, as if the world's x were east and y north."""
    latitude, longitude = _PLACES["val" if int(name) >= VAL_FROM else "train"]
    east, north, up = ego.translation.tolist()
    velocity = ego.rotation[:, 1] * world.drive.speed
    return {
        "lat": latitude + north / 111_320,
        "long": longitude + east / (111_320 * math.cos(math.radians(latitude))),
        "height": 3.0 + up,
        "xvel": float(velocity[0]),
        "yvel": float(velocity[1]),
    }


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
