"""The published loader as it is: ScaLR's own dataset class, of a checkout of its code, over scans of ours.

Only the class's `__init__` is not run: it wants tables of all of nuScenes, and reads from them what is set here.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from pipeline.datasets.records import ImageRecord, RigidStep, ScanRecord

CAMERAS = ["CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT"]


class AuthorsLoader:
    """`sample(scan, camera)` runs the published `NuScenesDistill.__getitem__`, whose random camera is held to one."""

    def __init__(self, checkout: Path, root: Path, scans: Sequence[ScanRecord]) -> None:
        if not (checkout / "datasets" / "nuscenes_for_scalr.py").is_file():
            raise click.ClickException(f"{checkout} is no checkout of github.com/valeoai/ScaLR")
        sys.path.insert(0, str(checkout))
        package = ModuleType("datasets")  # its own `__init__` imports what other datasets need
        package.__path__ = [str(checkout / "datasets")]
        sys.modules["datasets"] = package
        from datasets.im_pc_dataset import ImPcDataset
        from datasets.nuscenes_for_scalr import MEAN_INT, STD_INT, NuScenesDistill

        dataset = NuScenesDistill.__new__(NuScenesDistill)
        # As distill.py and configs/pretrain/WI_768_pretrain.yaml construct it.
        ImPcDataset.__init__(
            dataset,
            rootdir=str(root),
            phase="train",
            input_feat=["intensity", "xyz", "radius"],
            voxel_size=0.1,
            dim_proj=[2, 1, 0],
            grids_shape=[(256, 256), (256, 32), (256, 32)],
            fov_xyz=((-64, -64, -8), (64, 64, 8)),
            num_neighbors=16,
            max_points=20_000,
            im_size=(224, 448),
        )
        dataset.mean_int, dataset.std_int = MEAN_INT, STD_INT
        dataset.list_keyframes = [_keyframe(scan) for scan in scans]
        self._dataset = dataset
        self.version = subprocess.run(
            ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()

    def sample(self, scan: int, camera: str) -> Any:
        self._dataset.camera_list = [camera]
        return self._dataset[scan]


def _keyframe(scan: ScanRecord) -> dict[str, Any]:
    """A row of the published tables: the lidar's file and poses, and each camera's."""
    sensor, ego, *_ = scan.images[0].steps
    row: dict[str, Any] = {
        "point": {"filename": scan.path, "cs_record": _pose(sensor), "poserecord": _pose(ego)}
    }
    for image in scan.images:
        row[image.camera] = _camera(image)
    return row


def _camera(image: ImageRecord) -> dict[str, Any]:
    _, _, ego, sensor = image.steps
    matrix = [list(image.intrinsics[i : i + 3]) for i in (0, 3, 6)]
    return {
        "filename": image.path,
        "poserecord": _pose(ego),
        "cs_record": {**_pose(sensor), "camera_intrinsic": matrix},
    }


def _pose(step: RigidStep) -> dict[str, Any]:
    return {"rotation": list(step.rotation), "translation": list(step.translation)}
