"""The student trained from the cache equals the student trained online: same features, same loss, same gradients.

The online path is written here from the published description, from the dataset's files alone: teachers in the loop,
patch grids upsampled with aligned corners to the image, features picked at integer pixels (ScaLR, sections 3.2 and 4.7,
supplement B.2, and the released datasets/im_pc_dataset.py, utils/distiller.py, models/image_teacher.py). What is read
of a teacher is taken from timm's own forward pass, by hooks; tests/pipeline/teachers/test_originals.py holds that
against the original networks.

Shown on the toy tree, and, by `-m whole`, on a real keyframe where there is one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import resize

from cache_schemas.reading import PartitionReader
from cache_schemas.views import VIEWS
from pipeline.config.load import load_config
from pipeline.config.model import Student
from pipeline.datasets.nuscenes.toy import write_toy
from pipeline.losses.distillation import distillation_loss
from pipeline.plan.parts import Run
from pipeline.plan.plan import Plan, plan_experiment
from pipeline.streaming.view_batches import PretrainBatch, PretrainSteps
from pipeline.streaming.view_source import ViewSource
from pipeline.students.distilled import build
from pipeline.training.pretrain import features_of
from stages.cli import main

CAMERAS = 6
SCENE = "scene-0061"
TINY, SMALL, PUBLISHED = (56, 112), (112, 224), (224, 448)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True)
class Online:
    """A teacher as this test builds and reads it."""

    name: str
    model: str
    patch: int
    sizes: dict[str, tuple[int, int]]
    """Of its input, on the toy tree and on a real keyframe."""
    colours: tuple[tuple[float, ...], tuple[float, ...]]
    read: Callable[[Any, Tensor], Tensor]
    choices: dict[str, Any]
    """Of timm.create_model."""


def last_block(model: Any, images: Tensor) -> Tensor:
    kept: list[Tensor] = []
    handle = model.blocks[-1].register_forward_hook(lambda module, inputs, output: kept.append(output))
    model(images)
    handle.remove()
    return kept[0]


def last_keys(model: Any, images: Tensor) -> Tensor:
    kept: list[Tensor] = []
    handle = model.blocks[-1].attn.qkv.register_forward_hook(
        lambda module, inputs, output: kept.append(output)
    )
    model(images)
    handle.remove()
    return kept[0].chunk(3, dim=-1)[1]


def maskclip(model: Any, images: Tensor) -> Tensor:
    block, kept = model.blocks[-1], []
    handle = block.register_forward_hook(lambda module, inputs, output: kept.append(inputs[0]))
    model(images)
    handle.remove()
    x = kept[0]
    x = x + block.attn.proj(block.attn.qkv(block.norm1(x)).chunk(3, dim=-1)[2])
    x = model.norm(x + block.mlp(block.norm2(x)))
    return x @ model.head.weight.T


NONE = {"num_classes": 0}
BY_8, BY_14, BY_16 = (
    {"toy": toy, "real": real} for toy, real in ((TINY, SMALL), (SMALL, PUBLISHED), (SMALL, SMALL))
)
TEACHERS = {
    teacher.name: teacher
    for teacher in (
        Online("dino_vits8", "vit_small_patch8_224.dino", 8, BY_8, IMAGENET, last_keys, NONE),
        Online("dinov2_vits14", "vit_small_patch14_dinov2.lvd142m", 14, BY_14, IMAGENET, last_block, NONE),
        Online("mae_vitb16", "vit_base_patch16_224.mae", 16, BY_16, IMAGENET, last_block, NONE),
        Online(
            "maskclip_vitb16", "vit_base_patch16_clip_quickgelu_224.openai", 16, BY_16, CLIP, maskclip, {}
        ),
    )
}
TWO = ["dinov2_vits14", "dino_vits8"]
STUDENTS = {name: [name] for name in TEACHERS} | {"two teachers": TWO}
TREES = {"toy": TWO, "real": list(TEACHERS)}
"""The teachers on each; large ones take minutes."""


def on_trees(*rows: tuple[Any, ...]) -> list[Any]:
    """(tree, name of a student, ...) for each tree on which the student's teachers are; the real one is run by -m whole."""
    return [
        pytest.param(tree, *row, marks=[pytest.mark.whole] if tree == "real" else [])
        for tree, teachers in TREES.items()
        for row in rows
        if row[0] not in TEACHERS or row[0] in teachers
    ]


@dataclass(frozen=True)
class Cached:
    """The stores of a scene, and the runs that read them."""

    plan: Plan
    tree: str
    """`toy` or `real`"""

    def run(self, name: str) -> Run:
        return self.plan.runs[name]

    def batch(self, name: str, step: int) -> PretrainBatch:
        run = self.run(name)
        teachers = self.plan.experiment.teachers_of(run.student)
        source = ViewSource(self.plan.experiment.cache, run.readings, teachers)
        scans, _ = source.scans()
        intensity = {"nuscenes": self.plan.experiment.traits["nuscenes"].intensity}
        return PretrainSteps(source, scans, run, teachers, intensity)[step]

    @property
    def keyframe(self) -> dict[str, Any]:
        """The index's record of the first scan."""
        index = self.plan.experiment.indices["nuscenes"]
        entry = next(entry for entry in index.partitions if entry.name == SCENE)
        return json.loads((index.folder / entry.file).read_bytes())["scans"][0]

    def points(self, view: int, variant: int) -> np.ndarray:
        """The kept points (n, 4) of a view, from the lidar file."""
        reading = self.run("dinov2_vits14").readings[0]
        views = PartitionReader(
            self.plan.experiment.cache / reading.views[0], VIEWS, reading.partition, reading.views[1]
        )
        seen, kept = (views.read(name).astype(int) for name in ("seen_offsets", "kept_offsets"))
        first = 2 * (variant * CAMERAS + view)
        places = views.read("kept", kept[first], kept[first + 1]).astype(int)
        rows = views.read("point", seen[view], seen[view + 1])[places].astype(int)
        path = Path(self.plan.experiment.config.datasets["nuscenes"].root) / self.keyframe["path"]
        return np.fromfile(path, np.float32).reshape(-1, 5)[rows, :4]


@pytest.fixture(scope="module", params=["toy", pytest.param("real", marks=pytest.mark.whole)])
def cached(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Cached:
    """Filled by the commands that users run."""
    work = tmp_path_factory.mktemp("work")
    if request.param == "real":
        root = request.getfixturevalue("samples") / "nuscenes"
    else:
        root = work / "toy"
        write_toy(root, train=1, val=1, scans=1, image=(112, 224), azimuths=180, processes=1)
    student = {
        "datasets": ["nuscenes"],
        # So wide that no point is cropped: the online path need not repeat the augmentation.
        "points": {"field_of_view": [[-256, 256], [-256, 256], [-32, 32]], "cell": 4},
        "network": {"width": 16, "depth": 3},
        "pretrain": {"batch": 1, "epochs": 8, "warmup": 1},
    }
    stored = [(name, "float32") for name in TREES[request.param]]
    stored += [("dinov2_vits14", "float16"), ("dinov2_vits14", "int8"), ("dino_vits8", "int8")]
    teachers = {
        f"{name}_{storage}": {
            "model": name,
            "weights": "untrained",
            "image_size": list(TEACHERS[name].sizes[request.param]),
            "storage": storage,
        }
        for name, storage in stored
    }
    students = {
        name.replace(" ", "_"): {**student, "teacher": [f"{teacher}_float32" for teacher in names]}
        for name, names in STUDENTS.items()
        if set(names) <= set(TREES[request.param])
    }
    students |= {name: {**student, "teacher": name} for name in teachers if not name.endswith("float32")}
    dataset = {"reader": "nuscenes", "root": str(root), "version": "v1.0-trainval"}
    config = {
        "workdir": str(work),
        "datasets": {"nuscenes": {**dataset, "partitions": [SCENE]}},
        "teachers": teachers,
        "students": students,
    }
    (work / "config.yaml").write_text(yaml.safe_dump(config))
    for command in ("index", "scans", "views", "features"):
        main([command, "--config", str(work / "config.yaml")])
    return Cached(plan_experiment(load_config(work / "config.yaml")), request.param)


def online(cached: Cached, teacher: Online, view: int, points: np.ndarray) -> Tensor:
    """The teacher's features (n, C) at points (n, 4) of the keyframe, by the published steps, from the image file."""
    record = cached.keyframe["images"][view]
    image = (
        np.array(Image.open(Path(cached.plan.experiment.config.datasets["nuscenes"].root) / record["path"]))
        / 255.0
    )
    tensor = torch.tensor(image.astype(np.float32).transpose(2, 0, 1)[None])
    pixel = devkit_pixels(points, record)
    size = teacher.sizes[cached.tree]
    rescale = [size[0] / image.shape[0], size[1] / image.shape[1]]
    pixel = np.floor(np.multiply(pixel, rescale)).astype(np.int64)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(teacher.model, img_size=size, **teacher.choices).eval()
    mean, std = (torch.tensor(values)[:, None, None] for values in teacher.colours)
    with torch.no_grad():
        rows = teacher.read(model, (resize(tensor, list(size), antialias=False) - mean) / std)
        grid = rows[:, model.num_prefix_tokens :].transpose(1, 2)
        grid = grid.reshape(1, -1, *(side // teacher.patch for side in size))
        dense = F.interpolate(grid, scale_factor=teacher.patch, mode="bilinear", align_corners=True)
    return dense[0, :, pixel[:, 0], pixel[:, 1]].T


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


def equation_1(model: Any, batch: PretrainBatch, wanted: list[Tensor]) -> Tensor:
    """Each part l2-normalised on both sides, side by side, then the norm of the difference (supplement B.2)."""
    parts = model(batch.clouds, None).split([part.shape[1] for part in wanted], dim=1)
    k = torch.cat([F.normalize(part, p=2, dim=1) for part in parts], dim=1)
    q = torch.cat([F.normalize(part, p=2, dim=1) for part in wanted], dim=1)
    return torch.norm(k - q, dim=1, p=2).mean()


@pytest.mark.parametrize(
    ("cached", "name", "step"),
    on_trees(*((name, 0) for name in STUDENTS), ("dinov2_vits14", 3), ("two teachers", 5)),
    indirect=["cached"],
    scope="module",
)
def test_features_loss_and_gradients_equal_the_online_path(cached: Cached, name: str, step: int) -> None:
    student = name.replace(" ", "_")
    run, batch = cached.run(student), cached.batch(student, step)
    draw = batch.draws[0]
    points = cached.points(draw.view, draw.variant)
    assert len(points) == len(batch.clouds.features)
    wanted = [online(cached, TEACHERS[teacher], draw.view, points) for teacher in STUDENTS[name]]
    model = build(run.student, run.seed, sum(part.shape[1] for part in wanted)).train()

    _, found = features_of(model, batch, step, run)
    moved = max(
        ((mine - theirs).norm() / theirs.norm()).item() for mine, theirs in zip(found, wanted, strict=True)
    )
    assert moved < 1e-5

    from_cache = distillation_loss(*features_of(model, batch, step, run))
    from_cache.backward()
    gradients = [parameter.grad.flatten().clone() for parameter in model.parameters()]
    model.zero_grad()
    expected = equation_1(model, batch, wanted)
    expected.backward()

    assert from_cache.item() == pytest.approx(expected.item(), abs=1e-5)
    # All parameters together: a bias before a BatchNorm has gradient zero, and its rounding noise no scale.
    theirs = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    turned = ((torch.cat(gradients) - theirs).norm() / theirs.norm()).item()
    apart = abs(from_cache.item() - expected.item())
    print(f"{name}: features {moved:.1e}, loss {apart:.1e}, gradients {turned:.1e}")
    assert turned < 1e-5


@pytest.mark.parametrize(
    ("name", "bound"),
    [("dinov2_vits14_float16", 3e-4), ("dinov2_vits14_int8", 0.02), ("dino_vits8_int8", 0.02)],
)
def test_smaller_storage_moves_features_loss_and_gradients_a_little(
    cached: Cached, name: str, bound: float
) -> None:
    """docs/teachers.md gives the figures, of this test and the one above; both print theirs under -s."""
    exact_name = name.rsplit("_", 1)[0]
    run, exact_run = cached.run(name), cached.run(exact_name)
    batch = cached.batch(name, 0)
    exact = replace(batch, targets=cached.batch(exact_name, 0).targets)
    (target,), (wanted,) = batch.targets, exact.targets
    view = batch.clouds.cloud_of_row()
    features = (target.sample(view) - wanted.sample(view)).norm() / wanted.sample(view).norm()
    model = build(run.student, run.seed, target.channels).train()
    losses, gradients = [], []
    for one, of in ((batch, run), (exact, exact_run)):
        model.zero_grad()
        loss = distillation_loss(*features_of(model, one, 0, of))
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([parameter.grad.flatten().clone() for parameter in model.parameters()]))
    moved = ((gradients[0] - gradients[1]).norm() / gradients[1].norm()).item()
    print(f"{name}: features {features:.2e}, loss {abs(losses[0] - losses[1]):.2e}, gradients {moved:.2e}")
    assert 0 < features < bound
    assert abs(losses[0] - losses[1]) < bound
    assert 0 < moved < bound


def test_students_of_several_teachers_cache_nothing_twice(cached: Cached) -> None:
    both = {member for r in cached.run("two_teachers").readings for member in r.features}
    alone = {
        member
        for name in ("dinov2_vits14", "dino_vits8")
        for r in cached.run(name).readings
        for member in r.features
    }
    assert both == alone


def test_several_teachers_get_the_two_layer_head(cached: Cached) -> None:
    student: Student = cached.run("two_teachers").student
    assert student.network.head == "joint"
    head = build(cached.run("two_teachers").student, 0, 768).head
    assert [type(layer).__name__ for layer in head.children()] == ["Linear", "LayerNorm", "Linear"]
    assert head.linear_in.out_features == 2 * student.network.width  # type: ignore[union-attr]
    assert cached.run("dinov2_vits14").student.network.head == "linear"
