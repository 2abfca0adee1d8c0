"""The student trained from the cache equals the student trained online: same loss, same gradients.

The online path is written here from the published description, from the dataset's files alone: teacher in the loop,
patch grid upsampled with aligned corners to the image, features picked at integer pixels (ScaLR, section 3.2 and the
released datasets/im_pc_dataset.py, utils/distiller.py, models/image_teacher.py).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms.functional import resize

from cache_schemas.reading import PartitionReader
from cache_schemas.scans import SCANS
from cache_schemas.views import VIEWS
from pipeline.config.model import Config
from pipeline.index import make_index
from pipeline.plan import Plan
from pipeline.streaming.batches import PretrainSteps
from pipeline.streaming.source import ViewSource
from pipeline.students.distilled import build
from pipeline.training.pretrain import loss_of

MODEL, SIZE, PATCH = "vit_small_patch14_dinov2.lvd142m", (224, 448), 14
CAMERAS = 6


@pytest.fixture(scope="module")
def cached(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, PretrainSteps]:
    """The stores of one real keyframe with float32 features, and the batches that are made of them."""
    from pipeline.datasets.reader import reader_named
    from pipeline.features import write_features
    from pipeline.lots import do_lot
    from pipeline.scans import write_scans
    from pipeline.teachers.vit import load_teacher
    from pipeline.views import write_views

    work = tmp_path_factory.mktemp("work")
    config = Config.model_validate(
        {
            "datasets": {
                "nuscenes": {
                    "reader": "nuscenes",
                    "root": str(samples / "nuscenes"),
                    "version": "v1.0-trainval",
                }
            },
            "teachers": {
                "t": {"model": MODEL, "weights": "untrained", "image_size": SIZE, "storage": "float32"}
            },
            "students": {
                "s": {
                    "datasets": ["nuscenes"],
                    "teacher": "t",
                    # So wide that no point is cropped: the online path need not repeat the augmentation.
                    "points": {"field_of_view": [[-256, 256], [-256, 256], [-32, 32]], "cell": 4},
                    "network": {"width": 16, "depth": 3},
                    "pretrain": {"batch": 1, "epochs": 8, "warmup": 1},
                }
            },
        }
    )
    dataset, teacher = config.datasets["nuscenes"], config.teachers["t"]
    make_index(work, "nuscenes", dataset)
    plan = Plan(config, work)
    reader, root = reader_named("nuscenes"), Path(dataset.root)
    loaded = load_teacher(teacher, torch.device("cpu"))
    for lot in plan.lots("scans"):
        do_lot(plan, lot, lambda p, m, f, s=lot.store: write_scans(reader, root, s, p, m, f))
    for lot in plan.lots("views"):

        def views(partition, member, folder, lot=lot):
            scans = PartitionReader(
                plan.cache / lot.store.scans_folder,
                SCANS,
                partition.name,
                partition.member_digests()["scans"],
            )
            rule = reader.traits.mask("published")
            points = lot.store.source
            return write_views(
                lot.store, reader.traits.cameras, rule, points, partition, member, folder, scans
            )

        do_lot(plan, lot, views)
    for lot in plan.lots("features"):
        do_lot(plan, lot, lambda p, m, f, s=lot.store: write_features(loaded, root, s, p, m, f))
    run = plan.runs["s"]
    source = ViewSource(plan.cache, run.readings, teacher.storage)
    scans, _ = source.scans()
    return plan, PretrainSteps(source, scans, run, teacher.image_size, {"nuscenes": reader.traits.intensity})


def online_target(plan: Plan, view: int, points: np.ndarray) -> torch.Tensor:
    """The teacher's features (n, C) at points (n, 4) of the keyframe, by the published steps, from the image file."""
    record = keyframe(plan)
    image_record = record["scans"][0]["images"][view]
    image = np.array(Image.open(Path(plan.config.datasets["nuscenes"].root) / image_record["path"])) / 255.0
    tensor = torch.tensor(image.astype(np.float32).transpose(2, 0, 1)[None])
    pixel = devkit_pixels(points, image_record)
    rescale = [SIZE[0] / image.shape[0], SIZE[1] / image.shape[1]]
    pixel = np.floor(np.multiply(pixel, rescale)).astype(np.int64)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher = timm.create_model(MODEL, num_classes=0, img_size=SIZE).eval()
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        x = (resize(tensor, list(SIZE), antialias=False) - mean) / std
        rows = teacher.norm_pre(teacher._pos_embed(teacher.patch_embed(x)))
        for block in teacher.blocks:
            rows = block(rows)
        grid = rows[:, teacher.num_prefix_tokens :].transpose(1, 2)
        grid = grid.reshape(1, -1, SIZE[0] // PATCH, SIZE[1] // PATCH)
        dense = F.interpolate(grid, scale_factor=PATCH, mode="bilinear", align_corners=True)
    return dense[0, :, pixel[:, 0], pixel[:, 1]].T


def keyframe(plan: Plan) -> dict[str, Any]:
    """The index's record of the train keyframe."""
    index = plan.indices["nuscenes"]
    entry = next(entry for entry in index.partitions if entry.split == "train")
    return json.loads((index.folder / entry.file).read_bytes())


def devkit_pixels(points: np.ndarray, image: dict[str, Any]) -> np.ndarray:
    """Integer (row, column) of points (n, 4), by the devkit's own point cloud, step by step."""
    from nuscenes.utils.data_classes import LidarPointCloud
    from nuscenes.utils.geometry_utils import view_points
    from pyquaternion import Quaternion

    cloud = LidarPointCloud(points.T.copy())
    for step in image["steps"]:
        rotation, translation = Quaternion(step["rotation"]).rotation_matrix, np.array(step["translation"])
        if step["inverse"]:
            cloud.translate(-translation)
            cloud.rotate(rotation.T)
        else:
            cloud.rotate(rotation)
            cloud.translate(translation)
    intrinsics = np.array(image["intrinsics"]).reshape(3, 3)
    projected = view_points(cloud.points[:3], intrinsics, normalize=True)[:2].T
    return np.floor(np.flip(projected, axis=1)).astype(np.int64)


def points_of(plan: Plan, view: int, variant: int) -> np.ndarray:
    """The kept points (n, 4) of a view, from the lidar file."""
    reading = plan.runs["s"].readings[0]
    views = PartitionReader(plan.cache / reading.views[0], VIEWS, reading.partition, reading.views[1])
    seen, kept = (views.read(name).astype(int) for name in ("seen_offsets", "kept_offsets"))
    first = variant * CAMERAS + view
    places = views.read("kept", kept[first], kept[first + 1]).astype(int)
    rows = views.read("point", seen[view], seen[view + 1])[places].astype(int)
    path = Path(plan.config.datasets["nuscenes"].root) / keyframe(plan)["scans"][0]["path"]
    return np.fromfile(path, np.float32).reshape(-1, 5)[rows, :4]


@pytest.mark.parametrize("step", [0, 3])
def test_loss_and_gradients_equal_the_online_path(cached: tuple[Plan, PretrainSteps], step: int) -> None:
    plan, steps = cached
    run = plan.runs["s"]
    batch = steps[step]
    draw = batch.draws[0]
    points = points_of(plan, draw.view, draw.variant)
    assert len(points) == len(batch.coordinates)
    model = build(run, batch.grids.shape[3]).train()

    from_cache = loss_of(model, batch, step, run)
    from_cache.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()

    target = online_target(plan, draw.view, points)
    k = F.normalize(model(batch.clouds, None), p=2, dim=1)
    q = F.normalize(target, p=2, dim=1)
    online = torch.norm(k - q, dim=1, p=2).mean()
    online.backward()

    assert from_cache.item() == pytest.approx(online.item(), abs=1e-5)
    # All parameters together: a bias before a BatchNorm has gradient zero, and its rounding noise no scale.
    cached_gradient = torch.cat([gradient.flatten() for gradient in gradients.values()])
    online_gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    assert (cached_gradient - online_gradient).norm() < 1e-5 * online_gradient.norm()
