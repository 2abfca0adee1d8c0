"""One toy scene in the files of SemanticKITTI: a car with KITTI's lidar and colour camera in a toy town."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cache_schemas.publish import write_json
from pipeline.common.random import generator
from pipeline.datasets.town.appearance import Scene
from pipeline.datasets.town.camera import Pinhole
from pipeline.datasets.town.frames import Pose, from_angles, looking_along
from pipeline.datasets.town.lidar import Lidar, LidarScan
from pipeline.datasets.town.light import make_light
from pipeline.datasets.town.parameters import Parameters
from pipeline.datasets.town.primitives import Label
from pipeline.datasets.town.recording import Lens, Rig, SceneWorld, image_file, jitter, open_scene, scaled
from pipeline.datasets.town.tree import Record, put, record_path

WORLD = 1  # raised by hand when the same parameters make other bytes
LIDAR, CAMERA = "velodyne", "image_2"
ID_OF = {
    Label.ROAD: 40, Label.SIDEWALK: 48, Label.TERRAIN: 72, Label.BUILDING: 50, Label.VEGETATION: 70,
    Label.CAR: 10, Label.TRUCK: 18, Label.PEDESTRIAN: 30, Label.POLE: 80, Label.BARRIER: 51,
}  # fmt: skip
"""The ids of label files, in their low 16 bits."""
_ID_TABLE = np.array([ID_OF[label] for label in Label], np.uint32)
_THINGS = [Label.CAR, Label.TRUCK, Label.PEDESTRIAN]  # counted: the high 16 bits number them

# KITTI's three recording days: sequences 00 to 02 and from 13 on, 03, and 04 to 12.
_FIRST_DAY: tuple[tuple[int, int], Lens] = (376, 1241), (718.856, 607.193, 185.216)
_DAYS = {"03": ((375, 1242), (721.538, 609.559, 172.854))} | dict.fromkeys(
    (f"{number:02d}" for number in range(4, 13)), ((370, 1226), (707.091, 601.887, 183.110))
)
_OF_CAMERA = ((0.0, 0.0, 0.0), (-0.537, 0.0, 0.0), (0.060, -0.001, 0.004), (-0.473, 0.003, 0.005))
"""Metres from the left grey camera's frame to those of cameras 0 to 3, all rectified."""


def scene_name(sequence: str, stretch: int) -> str:
    return f"{sequence}-{stretch:02d}"


def sequence_folder(root: Path, sequence: str) -> Path:
    return root / "dataset" / "sequences" / sequence


def elevations(beams: int) -> tuple[float, ...]:
    """Degrees, from the highest beam down, as the HDL-64E has them: the upper half from +2 in steps of a third, the
    lower half down to -24.8 in steps of half a degree."""
    upper = np.linspace(2.0, -8.33, (beams + 1) // 2)
    lower = np.linspace(-8.83, -24.8, beams // 2)
    return tuple(np.concatenate([upper, lower]).tolist())


def _grey_camera(sequence: str, parameters: Parameters) -> tuple[Pinhole, Pose, Pose]:
    """The lens of all cameras of a sequence, and the places of lidar and left grey camera on its car, ego←sensor."""
    random = generator("toy", parameters.seed, "semantic_kitti", sequence, "rig")
    full_size, lens = _DAYS.get(sequence, _FIRST_DAY)
    share = parameters.image[0] / _FIRST_DAY[0][0], parameters.image[1] / _FIRST_DAY[0][1]
    rows, cols = round(full_size[0] * share[0]), round(full_size[1] * share[1])
    lidar = from_angles((0.76, 0.0, 1.73), *jitter(random))
    camera = looking_along(np.array([1.0, 0, 0]), np.array([1.03, 0.0, 1.65]), np.array([0, -1.0, 0]))
    turn = from_angles((0, 0, 0), *jitter(random))
    return (
        scaled(*lens, full_size, (rows, cols)),
        lidar,
        Pose(turn.rotation @ camera.rotation, camera.translation),
    )


def calibration_text(sequence: str, parameters: Parameters) -> str:
    """`calib.txt`: P0 to P3, from the left grey camera's frame to pixels, and Tr, from the lidar's frame to that."""
    pinhole, lidar, camera = _grey_camera(sequence, parameters)
    matrix = np.array(pinhole.intrinsic())
    rows = {f"P{k}": np.column_stack([matrix, matrix @ to]) for k, to in enumerate(_OF_CAMERA)}
    turn = camera.inverse() @ lidar
    rows["Tr"] = np.column_stack([turn.rotation, turn.translation])
    return "".join(f"{key}: {' '.join(f'{v:.12e}' for v in row.ravel())}\n" for key, row in rows.items())


def open_world(name: str, parameters: Parameters) -> SceneWorld:
    """Builds the world of a scene; the same for the same name and parameters."""
    pinhole, lidar, grey = _grey_camera(name.split("-")[0], parameters)
    colour = grey @ Pose(np.eye(3), -np.array(_OF_CAMERA[2]))
    velodyne = Lidar(
        elevations=elevations(parameters.beams),
        azimuths=parameters.azimuths,
        full_scale=1.0,
        step=0.01,
        gain=1.1,
        fade=120.0,
    )
    seed = ("toy", parameters.seed, "semantic_kitti", name)
    return open_scene(seed, parameters.scans, Rig({LIDAR: (velodyne, lidar)}, {CAMERA: (pinhole, colour)}))


def label_bytes(sweep: LidarScan) -> bytes:
    number = np.where(np.isin(sweep.label, _THINGS), sweep.instance + 1, 0).astype(np.uint32) & 0xFFFF
    return (_ID_TABLE[sweep.label] | number << 16).astype("<u4").tobytes()


def write_scene(root: Path, name: str, parameters: Parameters) -> Record:
    """Renders a scene and writes its recordings and labels, then its record. Gives the record."""
    world = open_world(name, parameters)
    scene = Scene(world.town, make_light(world.town, *world.seed))
    sequence, stretch = name.split("-")
    folder, first = sequence_folder(root, sequence), int(stretch) * parameters.scans
    files: list[tuple[str, int]] = []
    points = 0
    for number, time in enumerate(world.times):
        ego = world.drive.pose(time)
        sweep = world.sweep(number, LIDAR, ego)
        points += len(sweep.points)
        for kind, suffix, content in (
            (LIDAR, ".bin", np.column_stack([sweep.points, sweep.intensity]).astype("<f4").tobytes()),
            ("labels", ".label", label_bytes(sweep)),
            (CAMERA, ".png", image_file(world.picture(scene, number, CAMERA, ego), "PNG")),
        ):
            path = folder / kind / f"{first + number:06d}{suffix}"
            put(path, content)
            files.append((path.relative_to(root).as_posix(), len(content)))
    record = {
        "scene": name,
        "sequence": sequence,
        "stretch": int(stretch),
        "times": world.times,
        "parameters": parameters.recorded(),
        "points": points,
        "files": files,
    }
    write_json(record_path(root, name), record)
    return record
