"""Projection against nuscenes-devkit and against 4 x 4 matrices, on real keyframes and at the borders of pixels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import transform_matrix, view_points
from pyquaternion import Quaternion

from pipeline.datasets.nuscenes.reader import READER
from pipeline.datasets.records import ImageRecord, PartitionRecord, ScanRecord
from pipeline.geometry.calibration import STRICT, MaskRule, RigidStep
from pipeline.geometry.projection import pinhole, see, to_camera

PUBLISHED = READER.traits.mask("published")

# Points that FRONT, FRONT_RIGHT, BACK_RIGHT, BACK, BACK_LEFT and FRONT_LEFT see.
COUNTS = {
    "strict": {
        "scene-0061": [3053, 3076, 3369, 4820, 4089, 3696],
        "scene-0003": [2980, 3521, 4098, 4413, 4116, 3611],
    },
    "published": {
        "scene-0061": [3056, 3076, 3370, 4822, 4091, 3700],
        "scene-0003": [2980, 3524, 4100, 4413, 4116, 3613],
    },
}


@dataclass(frozen=True)
class Keyframe:
    scene: str
    scan: ScanRecord
    xyz: np.ndarray
    root: Path


@pytest.fixture(scope="module")
def keyframes(samples: Path) -> dict[str, Keyframe]:
    root = samples / "nuscenes"
    found = {}
    for partition in READER.partitions(root, "v1.0-trainval"):
        assert isinstance(partition, PartitionRecord)
        (scan,) = partition.scans
        found[partition.name] = Keyframe(partition.name, scan, READER.read_points(root, scan)[0], root)
    return found


@pytest.fixture(scope="module")
def devkit(samples: Path) -> NuScenes:
    return NuScenes("v1.0-trainval", str(samples / "nuscenes"), verbose=False)


scenes = pytest.mark.parametrize("scene", ["scene-0061", "scene-0003"])
as_published = pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) >= "2.0.0",
    reason="under numpy 2 the devkit's own arithmetic is another; ours stays the published one",
)


@scenes
@pytest.mark.parametrize("rule", ["strict", "published"])
def test_points_per_camera(scene: str, rule: str, keyframes: dict[str, Keyframe]) -> None:
    keyframe = keyframes[scene]
    seen = [see(keyframe.xyz, image, READER.traits.mask(rule)) for image in keyframe.scan.images]
    assert [len(view.point) for view in seen] == COUNTS[rule][scene]
    assert [image.camera for image in keyframe.scan.images] == list(READER.traits.cameras)


@scenes
@as_published
def test_float32_repeats_the_devkit_bit_for_bit(
    scene: str, keyframes: dict[str, Keyframe], devkit: NuScenes
) -> None:
    keyframe = keyframes[scene]
    lidar = devkit.get("sample_data", devkit.get("sample", keyframe.scan.name)["data"]["LIDAR_TOP"])
    for image in keyframe.scan.images:
        camera = devkit.get("sample_data", devkit.get("sample", keyframe.scan.name)["data"][image.camera])
        cloud = LidarPointCloud.from_file(str(keyframe.root / lidar["filename"]))
        for table in ("calibrated_sensor", "ego_pose"):
            pose = devkit.get(table, lidar[f"{table}_token"])
            cloud.rotate(Quaternion(pose["rotation"]).rotation_matrix)
            cloud.translate(np.array(pose["translation"]))
        for table in ("ego_pose", "calibrated_sensor"):
            pose = devkit.get(table, camera[f"{table}_token"])
            cloud.translate(-np.array(pose["translation"]))
            cloud.rotate(Quaternion(pose["rotation"]).rotation_matrix.T)
        intrinsics = np.array(
            devkit.get("calibrated_sensor", camera["calibrated_sensor_token"])["camera_intrinsic"]
        )
        with np.errstate(all="ignore"):
            theirs = view_points(cloud.points[:3], intrinsics, normalize=True)[:2].T
        mine = to_camera(keyframe.xyz, image.steps, "float32")
        assert mine.dtype == np.float32
        np.testing.assert_array_equal(mine, cloud.points[:3].T)
        pixel, depth = pinhole(mine, image.intrinsics)
        np.testing.assert_array_equal(pixel, theirs)
        np.testing.assert_array_equal(depth, cloud.points[2])


@scenes
@as_published
def test_the_devkit_sees_the_same_points_at_the_same_pixels(
    scene: str, keyframes: dict[str, Keyframe], devkit: NuScenes
) -> None:
    keyframe = keyframes[scene]
    rule = MaskRule(beyond=1.0, along="depth", first=1, last=1, arithmetic="float32")
    data = devkit.get("sample", keyframe.scan.name)["data"]
    for image in keyframe.scan.images:
        pixel, depth, _ = devkit.explorer.map_pointcloud_to_image(data["LIDAR_TOP"], data[image.camera])
        view = see(keyframe.xyz, image, rule)
        np.testing.assert_array_equal(np.floor(view.pixel), np.floor(pixel[:2].T))
        np.testing.assert_allclose(view.pixel, pixel[:2].T, rtol=1.2e-7)
        np.testing.assert_array_equal(view.depth, depth)


def matrix_of(step: RigidStep) -> np.ndarray:
    return transform_matrix(list(step.translation), Quaternion(step.rotation), inverse=step.inverse)


@scenes
def test_float64_agrees_with_one_matrix(scene: str, keyframes: dict[str, Keyframe]) -> None:
    keyframe = keyframes[scene]
    homogeneous = np.column_stack([keyframe.xyz.astype(np.float64), np.ones(len(keyframe.xyz))])
    for image in keyframe.scan.images:
        matrix = np.eye(4)
        for step in image.steps:
            matrix = matrix_of(step) @ matrix
        mine = to_camera(keyframe.xyz, image.steps, "float64")
        assert mine.dtype == np.float64
        np.testing.assert_allclose(mine, (homogeneous @ matrix.T)[:, :3], rtol=0, atol=1e-9)


def random_steps(rng: np.random.Generator) -> tuple[RigidStep, ...]:
    """Quaternions of any length: datasets do not all write them normalised."""
    return tuple(
        RigidStep(
            tuple(rng.normal(size=4) * rng.uniform(0.5, 2)), tuple(rng.normal(size=3) * 1000), bool(inverse)
        )
        for inverse in (0, 1, 1, 0)
    )


def test_float64_agrees_with_one_matrix_for_any_motion() -> None:
    rng = np.random.default_rng(0)
    xyz = rng.normal(size=(50, 3)).astype(np.float32) * 50
    for _ in range(10):
        steps = random_steps(rng)
        matrix = np.eye(4)
        for step in steps:
            w, x, y, z = np.array(step.rotation) / np.linalg.norm(step.rotation)
            forward = np.eye(4)
            forward[:3, :3] = [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
            forward[:3, 3] = step.translation
            matrix = (np.linalg.inv(forward) if step.inverse else forward) @ matrix
        expected = xyz.astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
        np.testing.assert_allclose(to_camera(xyz, steps, "float64"), expected, rtol=0, atol=1e-9)


def camera_at_the_points(width: int, height: int, focal: float) -> ImageRecord:
    """Looks along z from the scan's own origin; its principal point is the image's centre."""
    return ImageRecord(
        camera="C",
        path="",
        bytes=0,
        height=height,
        width=width,
        intrinsics=(focal, 0, width / 2, 0, focal, height / 2, 0, 0, 1),
        steps=(),
    )


def test_the_stored_pixel_has_the_floor_of_the_exact_one() -> None:
    image = camera_at_the_points(1600, 900, 1000.0)
    # Just left of, on and just right of the border between two pixels, nearer to it than float32 can tell.
    off = np.array([-(10.0**-e) for e in range(3, 30)] + [0.0] + [10.0**-e for e in range(3, 30)])
    xyz = np.zeros((len(off), 3), np.float32)
    xyz[:, 0], xyz[:, 1], xyz[:, 2] = off, off[::-1], 2
    view = see(xyz, image, STRICT)
    assert len(view.point) == len(xyz)
    exact = np.column_stack(
        [500.0 * xyz[:, 0].astype(np.float64) + 800, 500.0 * xyz[:, 1].astype(np.float64) + 450]
    )
    np.testing.assert_array_equal(np.floor(view.pixel), np.floor(exact))
    assert (np.floor(exact.astype(np.float32)) != np.floor(exact)).sum() > 10  # plain rounding would fail
    np.testing.assert_allclose(view.pixel, exact, rtol=1.2e-7)
    assert view.pixel.dtype == np.float32


@scenes
def test_real_pixels_have_the_floor_of_the_exact_ones(scene: str, keyframes: dict[str, Keyframe]) -> None:
    keyframe = keyframes[scene]
    for image in keyframe.scan.images:
        for rule in (STRICT, PUBLISHED):
            view = see(keyframe.xyz, image, rule)
            exact, _ = pinhole(to_camera(keyframe.xyz, image.steps, rule.arithmetic), image.intrinsics)
            np.testing.assert_array_equal(np.floor(view.pixel), np.floor(exact[view.point]))


@pytest.mark.parametrize(
    ("rule", "columns"), [(STRICT, (1, 39)), (PUBLISHED, (0, 39))], ids=["strict", "published"]
)
def test_the_border_of_the_image_belongs_to_neither_rule(rule: MaskRule, columns: tuple[int, int]) -> None:
    """Pixels at the border itself, a little inside and a little outside of it; depths likewise."""
    image = camera_at_the_points(40, 20, 1.0)
    first, last = columns
    step = 2.0**-10
    u = np.array([first - step, first, first + step, last - step, last, last + step])
    xyz = np.column_stack([2 * (u - 20), np.zeros(6), np.full(6, 2)]).astype(np.float32)
    assert see(xyz, image, rule).point.tolist() == [2, 3]
    depth = np.array([-2, 0, 1, 1 + step], np.float32)
    assert see(np.column_stack([depth * 0, depth * 0, depth]), image, rule).point.tolist() == [3]


def test_a_scan_without_points_is_seen_by_nobody() -> None:
    view = see(np.empty((0, 3), np.float32), camera_at_the_points(40, 20, 1.0), STRICT)
    assert view.point.shape == (0,)
    assert view.pixel.shape == (0, 2)
    assert (view.point.dtype, view.pixel.dtype, view.depth.dtype) == (np.uint32, np.float32, np.float32)
