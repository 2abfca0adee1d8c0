"""One sequence of PandaSet as a partition: its frames, their poses, images and labels, each found by its number.

The lists of poses have an entry for every frame that was recorded, the folders a file for every frame that is there.
What belongs together is what bears the same number, never what has the same place in a list.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cache_schemas.access import open_regular, read_regular
from cache_schemas.errors import BadInput
from pipeline.datasets.files import check_pixels, size_of
from pipeline.datasets.listing import is_reachable, names_of
from pipeline.datasets.reader import AbsentPartition
from pipeline.datasets.records import ImageRecord, PartitionRecord, ScanRecord
from pipeline.geometry.calibration import RigidStep

NORTH_OF_EL_CAMINO = 37.6
"""Degrees of latitude: San Francisco, which is train, lies north of it, El Camino Real, which is val, south (ScaLR's
released code, datasets/pandaset_for_scalr.py, by the first entry of `meta/gps.json`)."""
HEIGHT = 1.6
"""Metres that the published code lowers points by, so that the road lies some 1.7 m below the origin (ibidem)."""
DOWN = RigidStep((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, -HEIGHT))
UP = RigidStep(DOWN.rotation, DOWN.translation, inverse=True)

MOST_BYTES = 2**26
"""Of a file of poses; real ones have some 20 kB."""

_FRAME = re.compile(r"(\d+)\.pkl(?:\.gz)?")


class _Problem(Exception):
    """Why a sequence cannot be used, in words for the user."""


def frames(folder: Path) -> dict[int, str]:
    """The files of a folder of tables by number; the compressed one where both are there.

    Raises:
        BadInput: if the folder cannot be reached.
    """
    files = {}
    for name in names_of(folder):  # NN.pkl sorts before NN.pkl.gz
        match = _FRAME.fullmatch(name)
        if match:
            files[int(match[1])] = name
    return dict(sorted(files.items()))


def read_sequence(root: Path, name: str, cameras: Sequence[str]) -> PartitionRecord | AbsentPartition:
    """A sequence with the scans of the lidar that these cameras serve; with a `problem` if it cannot be used."""
    split = "train"  # until its place is known
    try:
        for folder in (name, f"{name}/lidar", *(f"{name}/camera/{camera}" for camera in cameras)):
            is_reachable(root / folder)
        split = _split(root / name / "meta" / "gps.json")
        poses = _poses(root / name / "lidar" / "poses.json")
        if not frames(root / name / "lidar"):
            return AbsentPartition(name, split, len(poses))
        return PartitionRecord(name, split, tuple(_scans(root, name, cameras, poses)))
    except (_Problem, BadInput) as problem:
        return PartitionRecord(name, split, (), str(problem))


def _split(path: Path) -> str:
    entries = _json(path)
    try:
        return "train" if float(entries[0]["lat"]) > NORTH_OF_EL_CAMINO else "val"
    except (LookupError, TypeError, ValueError) as error:
        raise _Problem(f"{path} does not begin with a latitude `lat`, which says the split") from error


def _scans(root: Path, name: str, cameras: Sequence[str], poses: list[RigidStep]) -> list[ScanRecord]:
    lidar, labels = frames(root / name / "lidar"), frames(root / name / "annotations" / "semseg")
    seen = {camera: _Camera(root, name, camera) for camera in cameras}
    times = _times(root / name / "lidar" / "timestamps.json")
    unlabelled = [number for number in lidar if number not in labels]
    if labels and unlabelled:
        raise _Problem(
            f"{len(unlabelled)} of its {len(lidar)} frames lack labels, the first {name}/annotations/semseg/"
            f"{lidar[unlabelled[0]]}"
        )
    poseless = [number for number in lidar if number >= len(poses)]
    if poseless:
        raise _Problem(
            f"{len(poseless)} of its {len(lidar)} frames lack a pose, the first {lidar[poseless[0]]}: "
            f"{name}/lidar/poses.json has {len(poses)} entries, from frame 0 on"
        )
    for camera in seen.values():
        camera.check(list(lidar))
    scans = []
    for number, file in lidar.items():
        label = f"{name}/annotations/semseg/{labels[number]}" if labels else None
        pose = poses[number]
        steps = (RigidStep(pose.rotation, pose.translation, inverse=True), DOWN)
        scans.append(
            ScanRecord(
                # With its sequence: draws are keyed by a scan's name, and every sequence has a frame 00.
                name=f"{name}/{file.split('.')[0]}",
                result_name=f"{name}/{file.split('.')[0]}",
                path=f"{name}/lidar/{file}",
                bytes=size_of(root / name / "lidar" / file),
                label_path=label,
                label_bytes=size_of(root / label) if label else None,
                images=tuple(camera.image(number, pose) for camera in seen.values()),
                steps=steps,
                time=times.get(number),
            )
        )
    return scans


class _Camera:
    """One camera of a sequence."""

    def __init__(self, root: Path, sequence: str, name: str) -> None:
        self.name, self._root = name, root
        self._folder = f"{sequence}/camera/{name}"
        folder = root / self._folder
        self._poses = _poses(folder / "poses.json")
        self._times = _times(folder / "timestamps.json")
        self._intrinsics = _intrinsics(folder / "intrinsics.json")
        self._files = {int(f[:-4]): f for f in names_of(folder) if f.endswith(".jpg") and f[:-4].isdigit()}

    def check(self, numbers: list[int]) -> None:
        """Raise unless all these frames have an image and a pose."""
        lacking = [number for number in numbers if number not in self._files]
        if lacking:
            raise _Problem(
                f"{len(lacking)} of its {len(numbers)} frames lack the image of {self.name}, the first "
                f"{self._folder}/{lacking[0]:02d}.jpg"
            )
        lacking = [number for number in numbers if number >= len(self._poses)]
        if lacking:
            raise _Problem(
                f"{len(lacking)} of its {len(numbers)} frames lack a pose of {self.name}, the first {lacking[0]:02d}: "
                f"{self._folder}/poses.json has {len(self._poses)} entries, from frame 0 on"
            )

    def image(self, number: int, scan_pose: RigidStep) -> ImageRecord:
        """Scan → ego at the lidar's time → world → camera."""
        path = f"{self._folder}/{self._files[number]}"
        height, width = _size(self._root / path)
        pose = self._poses[number]
        return ImageRecord(
            camera=self.name,
            path=path,
            bytes=size_of(self._root / path),
            height=height,
            width=width,
            intrinsics=self._intrinsics,
            steps=(UP, scan_pose, RigidStep(pose.rotation, pose.translation, inverse=True)),
            time=self._times.get(number),
        )


def _size(path: Path) -> tuple[int, int]:
    """(height, width) of an image, by its header."""
    from PIL import Image

    try:
        with open_regular(path) as file, Image.open(file) as image:
            height, width = image.height, image.width
    except Exception as error:  # Pillow raises nearly anything for what is no image
        raise _Problem(f"{path} is no image ({error}); extract it again") from error
    try:
        check_pixels(path, height, width)
    except BadInput as error:
        raise _Problem(str(error)) from error
    return height, width


def _poses(path: Path) -> list[RigidStep]:
    """From a sensor's frame to the world, frame by frame: quaternion w, x, y, z and position in metres."""
    entries = _json(path)
    try:
        poses = [
            RigidStep(
                tuple(float(entry["heading"][axis]) for axis in "wxyz"),
                tuple(float(entry["position"][axis]) for axis in "xyz"),
            )
            for entry in entries
        ]
    except (LookupError, TypeError, ValueError) as error:
        raise _Problem(
            f"{path} is no list of poses, each with `heading` w, x, y, z and `position` x, y, z "
            f"({type(error).__name__}: {error})"
        ) from error
    for number, pose in enumerate(poses):
        if not abs(math.hypot(*pose.rotation) - 1) < 1e-3 or not all(map(math.isfinite, pose.translation)):
            raise _Problem(f"{path}: the pose of frame {number:02d} is no rotation and position: {pose}")
    return poses


def _intrinsics(path: Path) -> tuple[float, ...]:
    """3 x 3, row by row, in pixels."""
    entry = _json(path)
    try:
        fx, fy, cx, cy = (float(entry[key]) for key in ("fx", "fy", "cx", "cy"))
    except (LookupError, TypeError, ValueError) as error:
        raise _Problem(f"{path} does not give fx, fy, cx and cy ({type(error).__name__}: {error})") from error
    return (fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0)


def _times(path: Path) -> dict[int, float]:
    """Seconds, by frame. They are for checks alone: none of a file that is not there or is something else."""
    try:
        entries = _json(path)
    except _Problem:
        return {}
    items = enumerate(entries) if isinstance(entries, list) else ()
    return {
        number: float(value)
        for number, value in items
        if isinstance(value, int | float) and abs(value) < 1e12
    }


def _json(path: Path) -> Any:
    try:
        return json.loads(read_regular(path, MOST_BYTES))
    except FileNotFoundError as error:
        is_reachable(path)  # a link that leads nowhere is named
        raise _Problem(f"{path} is missing") from error
    except OSError as error:
        raise _Problem(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise _Problem(f"{path} is no valid JSON, perhaps cut short ({error}); extract it again") from error
