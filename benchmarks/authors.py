"""The published loaders as they are: ScaLR's own dataset classes, of a checkout of its code, over scans of ours.

Only the classes' `__init__` is not run: it wants the whole dataset, and reads from it what is set here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import click
import numpy as np
from scipy.spatial.transform import Rotation

from pipeline.datasets.records import ImageRecord, ScanRecord
from pipeline.geometry.calibration import RigidStep

published_option = click.option(
    "--published",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="A checkout of github.com/valeoai/ScaLR.",
)


class AuthorsLoader:
    """`sample(scan, camera)` runs the published `__getitem__` of a dataset's class, whose random camera is held to one."""

    def __init__(self, checkout: Path, reader: str, root: Path, scans: Sequence[ScanRecord]) -> None:
        import_published(checkout)
        self._dataset = _PREPARE[reader](root, scans)
        self.version = subprocess.run(
            ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()

    def sample(self, scan: int, camera: str) -> Any:
        self._dataset.camera_list = [camera]
        return self._dataset[scan]


def import_published(checkout: Path) -> None:
    """Let their packages `datasets` and `models` be imported from a checkout."""
    if not (checkout / "datasets" / "nuscenes_for_scalr.py").is_file():
        raise click.ClickException(f"{checkout} is no checkout of github.com/valeoai/ScaLR")
    if "datasets" in sys.modules:
        return
    sys.path.insert(0, str(checkout))
    package = ModuleType("datasets")  # its own `__init__` imports what other datasets need
    package.__path__ = [str(checkout / "datasets")]
    sys.modules["datasets"] = package
    if find_spec("transforms3d") is None:
        sys.modules["transforms3d"] = _transforms3d()


def _transforms3d() -> ModuleType:
    """The two functions of that package which the published PandaSet loader calls, for where it is not installed."""
    package = ModuleType("transforms3d")

    def quat2mat(q: Any) -> np.ndarray:
        matrix: np.ndarray = Rotation.from_quat([q[1], q[2], q[3], q[0]]).as_matrix()
        return matrix

    def compose(translation: Any, rotation: np.ndarray, scales: Any) -> np.ndarray:
        out = np.eye(4)
        out[:3, :3] = rotation * np.asarray(scales)
        out[:3, 3] = translation
        return out

    package.quaternions = SimpleNamespace(quat2mat=quat2mat)  # type: ignore[attr-defined]
    package.affines = SimpleNamespace(compose=compose)  # type: ignore[attr-defined]
    return package


def _empty(kind: Any, root: Path) -> Any:
    """A dataset as distill.py and configs/pretrain/WI_768_pretrain.yaml construct it, but for its list of scans."""
    from datasets.im_pc_dataset import ImPcDataset

    dataset = kind.__new__(kind)
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
    return dataset


def _nuscenes(root: Path, scans: Sequence[ScanRecord]) -> Any:
    from datasets.nuscenes_for_scalr import MEAN_INT, STD_INT, NuScenesDistill

    dataset = _empty(NuScenesDistill, root)
    dataset.mean_int, dataset.std_int = MEAN_INT, STD_INT
    dataset.list_keyframes = [_keyframe(scan) for scan in scans]
    return dataset


def _semantic_kitti(root: Path, scans: Sequence[ScanRecord]) -> Any:
    from datasets.semantic_kitti_for_scalr import MEAN_INT, STD_INT, SemanticKITTIDistill

    dataset = _empty(SemanticKITTIDistill, root)
    dataset.mean_int, dataset.std_int = MEAN_INT, STD_INT
    dataset.im_idx = [str(root / scan.path) for scan in scans]
    return dataset


def _pandaset(lidar: int, root: Path, scans: Sequence[ScanRecord]) -> Any:
    from datasets.pandaset_for_scalr import (
        MEAN_INT_64,
        MEAN_INT_GT,
        STD_INT_64,
        STD_INT_GT,
        PandasetDistill,
    )

    dataset = _empty(PandasetDistill, root)
    dataset.mean_int, dataset.std_int = ((MEAN_INT_64, STD_INT_64), (MEAN_INT_GT, STD_INT_GT))[lidar]
    dataset.which_pandar = lidar
    dataset.im_idx = [str(root / scan.path) for scan in scans]
    # It takes the n-th pose for the n-th file, which is right only where no frame is missing.
    poses = [json.loads((root / scan.path).with_name("poses.json").read_bytes()) for scan in scans]
    dataset.pc_poses = [
        of[int(Path(scan.path).name.split(".")[0])] for of, scan in zip(poses, scans, strict=True)
    ]
    return dataset


_PREPARE: dict[str, Callable[[Path, Sequence[ScanRecord]], Any]] = {
    "nuscenes": _nuscenes,
    "semantic_kitti": _semantic_kitti,
    "pandaset64": partial(_pandaset, 0),
    "pandasetgt": partial(_pandaset, 1),
}


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
