"""One toy scene in the files of nuScenes: recordings, labels, and a record that says it is complete."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np

from cache_schemas.publish import write_json
from pipeline.common.random import generator
from pipeline.datasets.nuscenes.toy_tables import CAMERAS, LIDAR, LOCATION, sensor_token, token
from pipeline.datasets.town.appearance import Scene
from pipeline.datasets.town.frames import Pose, from_angles
from pipeline.datasets.town.lidar import Lidar, LidarScan
from pipeline.datasets.town.light import make_light
from pipeline.datasets.town.parameters import Parameters
from pipeline.datasets.town.primitives import Label
from pipeline.datasets.town.recording import Rig, SceneWorld, image_file, jitter, mount_camera, open_scene
from pipeline.datasets.town.tree import put, record_path

WORLD = 2  # raised by hand when the same parameters make other bytes
LABEL_FOLDER = "lidarseg/v1.0-trainval"
CLASS_OF = {  # lidarseg's class numbers, see toy_tables.CATEGORIES
    Label.ROAD: 24, Label.SIDEWALK: 26, Label.TERRAIN: 27, Label.BUILDING: 28, Label.POLE: 28,
    Label.VEGETATION: 30, Label.CAR: 17, Label.TRUCK: 23, Label.PEDESTRIAN: 2, Label.BARRIER: 9,
}  # fmt: skip
_CLASS_TABLE = np.array([CLASS_OF[label] for label in Label], np.uint8)

_FULL_SIZE = (900, 1600)  # rows, cols that the focal lengths below are for
# Channel: instant, ms after the lidar's; place on the car, m; heading, degrees; focal length and centre, px.
_RIG = {
    "CAM_FRONT": (-35, (1.70, 0.02, 1.51), 0.3, (1265.0, 815.0, 490.0)),
    "CAM_FRONT_RIGHT": (-28, (1.55, -0.49, 1.50), -56.0, (1260.0, 808.0, 495.0)),
    "CAM_BACK_RIGHT": (-20, (1.01, -0.48, 1.56), -110.5, (1260.0, 807.0, 500.0)),
    "CAM_BACK": (-10, (0.03, 0.0, 1.58), 179.8, (810.0, 828.0, 482.0)),
    "CAM_BACK_LEFT": (-1, (1.04, 0.48, 1.59), 108.5, (1257.0, 793.0, 493.0)),
    "CAM_FRONT_LEFT": (-43, (1.52, 0.49, 1.51), 55.0, (1272.0, 826.0, 480.0)),
}  # fmt: skip
_ELEVATIONS = (-30.67, 10.67)  # degrees, lowest and highest beam


@dataclass(frozen=True)
class NuScenesWorld(SceneWorld):
    """A scene before anything is recorded in it; place: global←town."""

    place: Pose


def open_world(name: str, parameters: Parameters) -> NuScenesWorld:
    """Builds the world of a scene; the same for the same name and parameters."""
    seed = ("toy", parameters.seed, name)
    random = generator(*seed, "rig")
    place = from_angles((*random.uniform(200, 2000, 2), 0.0), random.uniform(-math.pi, math.pi))
    yaw, pitch, roll = jitter(random)
    # nuScenes' lidar frame: x right, y forward, z up.
    mount = from_angles((0.94, 0.0, 1.84), yaw - math.pi / 2, pitch, roll)
    cameras = {
        channel: mount_camera(random, at, heading, lens, _FULL_SIZE, parameters.image)
        for channel, (_, at, heading, lens) in _RIG.items()
    }
    lidar = Lidar(
        elevations=tuple(np.linspace(*_ELEVATIONS, parameters.beams).tolist()), azimuths=parameters.azimuths
    )
    world = open_scene(seed, parameters.scans, Rig({LIDAR: (lidar, mount)}, cameras))
    return NuScenesWorld(**vars(world), place=place)


@dataclass(frozen=True)
class Recording:
    """One sensor at one instant."""

    channel: str
    keyframe: int
    timestamp: int  # microseconds
    filename: str  # relative to the root
    ego: Pose  # town←ego at that instant

    def token(self, name: str) -> str:
        return token("sample_data", name, self.keyframe, self.channel)


def recordings(name: str, world: NuScenesWorld) -> tuple[str, list[list[Recording]]]:
    """The scene's log name, and for each scan its recordings: the lidar's first, then the cameras'."""
    # By day in one summer: the instant the car passes the town's x = 0.
    day, minute = generator(*world.seed, "date").integers((100, 9 * 60)).tolist()
    first = datetime(2018, 6, 1, 9, tzinfo=timezone(timedelta(hours=-4)))
    begin = first + timedelta(days=day, minutes=minute)
    log = f"n008-{begin:%Y-%m-%d-%H-%M-%S}-0400"
    origin = int(begin.timestamp()) * 1_000_000
    scans: list[list[Recording]] = []
    for keyframe, time in enumerate(world.times):
        random = generator(*world.seed, keyframe, "instants")
        scans.append([])
        for channel in (LIDAR, *CAMERAS):
            # Never later than the lidar by more than its own jitter: the order of channels in time stays.
            after = 0 if channel == LIDAR else _RIG[channel][0] * 1000 + int(random.integers(-800, 800))
            timestamp = origin + int(time * 1e6) + after
            suffix = "pcd.bin" if channel == LIDAR else "jpg"
            filename = f"samples/{channel}/{log}__{channel}__{timestamp}.{suffix}"
            ego = world.drive.pose((timestamp - origin) / 1e6)
            scans[-1].append(Recording(channel, keyframe, timestamp, filename, ego))
    return log, scans


def lidar_scan(world: NuScenesWorld, recording: Recording) -> LidarScan:
    """What the lidar measures at a recording's instant."""
    return world.sweep(recording.keyframe, LIDAR, recording.ego)


def label_bytes(sweep: LidarScan) -> bytes:
    return _CLASS_TABLE[sweep.label].tobytes()


def write_scene(root: Path, name: str, parameters: Parameters, labels: bool) -> dict:
    """Renders a scene and writes its recordings, then its record, then its labels. Gives the record.

    So there is never a label file without a record: the devkit wants as many files as rows.
    """
    world = open_world(name, parameters)
    scene = Scene(world.town, make_light(world.town, *world.seed))
    log, scans = recordings(name, world)
    files: list[list] = []
    label_files: dict[str, bytes] = {}
    points = 0
    for group in scans:
        for recording in group:
            if recording.channel == LIDAR:
                sweep = lidar_scan(world, recording)
                points += len(sweep.points)
                content = np.column_stack([sweep.points, sweep.intensity, sweep.ring]).astype("<f4").tobytes()
                label_files[label_file(recording.token(name))] = label_bytes(sweep)
            else:
                seen = world.picture(scene, recording.keyframe, recording.channel, recording.ego)
                content = image_file(seen, "JPEG")
            put(root / recording.filename, content)
            files.append([recording.filename, len(content)])
    record = {
        "scene": name,
        "parameters": parameters.recorded(),
        "points": points,
        "files": files,
        "tables": _rows(name, log, world, scans),
    }
    write_json(record_path(root, name), record)
    if labels:
        for filename, content in label_files.items():
            put(root / filename, content)
    return record


def write_labels(root: Path, name: str, parameters: Parameters) -> None:
    """Writes the label files alone, for a scene that was written without."""
    world = open_world(name, parameters)
    for group in recordings(name, world)[1]:
        put(root / label_file(group[0].token(name)), label_bytes(lidar_scan(world, group[0])))


def _rows(name: str, log: str, world: NuScenesWorld, scans: list[list[Recording]]) -> dict[str, list[dict]]:
    """The scene's rows of each table."""
    sample = [token("sample", name, k) for k in range(len(scans))]
    mounts = {LIDAR: (None, world.rig.lidars[LIDAR][1]), **world.cameras}
    data, poses = [], []
    for group in scans:
        for recording in group:
            camera, _ = mounts[recording.channel]
            own = recording.token(name)
            chain = [token("sample_data", name, k, recording.channel) for k in range(len(scans))]
            rows, cols = (camera.rows, camera.cols) if camera else (0, 0)
            data.append(
                {
                    "token": own,
                    "sample_token": sample[recording.keyframe],
                    "ego_pose_token": own,
                    "calibrated_sensor_token": token("calibrated_sensor", name, recording.channel),
                    "timestamp": recording.timestamp,
                    "fileformat": "jpg" if camera else "pcd",
                    "is_key_frame": True,
                    "height": rows,
                    "width": cols,
                    "filename": recording.filename,
                    **_links(chain, recording.keyframe),
                }
            )
            ego = world.place @ recording.ego
            poses.append({"token": own, "timestamp": recording.timestamp, **_pose_row(ego)})
    return {
        "log": [
            {
                "token": token("log", name),
                "logfile": log,
                "vehicle": log[:4],
                "date_captured": log[5:15],
                "location": LOCATION,
            }
        ],
        "scene": [
            {
                "token": token("scene", name),
                "log_token": token("log", name),
                "nbr_samples": len(scans),
                "name": name,
                "description": "Toy town, ray-cast",
                "first_sample_token": sample[0],
                "last_sample_token": sample[-1],
            }
        ],
        "sample": [
            {
                "token": sample[k],
                "timestamp": group[0].timestamp,
                "scene_token": token("scene", name),
                **_links(sample, k),
            }
            for k, group in enumerate(scans)
        ],
        "sample_data": data,
        "ego_pose": poses,
        "calibrated_sensor": [
            {
                "token": token("calibrated_sensor", name, channel),
                "sensor_token": sensor_token(channel),
                **_pose_row(pose),
                "camera_intrinsic": camera.intrinsic() if camera else [],
            }
            for channel, (camera, pose) in mounts.items()
        ],
    }


def _links(tokens: list[str], k: int) -> dict[str, str]:
    return {"prev": tokens[k - 1] if k else "", "next": tokens[k + 1] if k + 1 < len(tokens) else ""}


def _pose_row(pose: Pose) -> dict:
    return {"translation": pose.translation.tolist(), "rotation": pose.quaternion()}


def label_file(data_token: str, folder: str = LABEL_FOLDER) -> str:
    return f"{folder}/{data_token}_lidarseg.bin"
