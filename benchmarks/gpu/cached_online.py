"""A student trained from the cache beside one trained with its teacher in the loop, on a device, on real pictures.

The online side is written from the published description, apart from the package: timm's own forward pass, read by a hook;
the patch grid enlarged to the image with corners aligned, features picked at whole pixels, equation 1 written out. The
pixels are drawn at random: what a camera sees of a lidar is the CPU's matter, and tested there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import resize

from benchmarks.gpu.cells import Wrong
from benchmarks.gpu.lines import Row
from benchmarks.gpu.odd_clouds import SHAPES, scattered
from benchmarks.gpu.packed import Packed
from benchmarks.gpu.pictures import MODELS, partition_of, store_of, teacher_of
from cache_schemas.features import features_schema
from cache_schemas.reading import PartitionReader
from pipeline.losses.distillation import distillation_loss
from pipeline.preprocessing.features import FeatureWriter
from pipeline.preprocessing.target import Target
from pipeline.streaming.grids import PatchGrid, TargetBatch, coordinates_in
from pipeline.students.heads import LinearHead
from pipeline.students.packed import PackedClouds, pack
from pipeline.students.waffleiron import WaffleIron
from pipeline.teachers.loaded import LoadedTeacher

COLOURS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
MOVED = {"float32": 1e-5, "float16": 3e-4}
"""What features, gradients and loss may be off, by storage: those of tests/pipeline/test_cached_equals_online.py."""


def cached_and_online(
    packed: Packed, device: torch.device, folder: Path, storage: str, size: tuple[int, int], pictures: int
) -> Row:
    """Features, loss and gradients of both ways, as shares of their norms."""
    teacher = teacher_of(MODELS["S"], size, device, packed.weights, storage=storage)
    partition = partition_of(packed, "pictures", pictures)
    rng = np.random.default_rng(0)
    clouds = [scattered(500 + 100 * number, number) for number in range(pictures)]
    pixels = [
        rng.uniform(0, [image.width, image.height], (len(cloud.features), 2)).astype(np.float32)
        for image, cloud in zip(partition.images, clouds, strict=True)
    ]
    batch = pack(clouds).to(device, non_blocking=False)
    store = store_of(teacher.config)
    with FeatureWriter(teacher, teacher.config.model) as writer:
        writer.write(packed.recordings, Target(store, partition, "member", folder)).result()
    reader = PartitionReader(folder, features_schema(storage), partition.name, "member")
    cached = _cached(reader, teacher, partition.images, pixels).to(device).sample(batch.cloud_of_row())
    network = _timms(teacher)
    online = torch.cat(
        [
            _online(network, teacher, packed.recordings / image.path, pixel)
            for image, pixel in zip(partition.images, pixels, strict=True)
        ]
    )
    student = _student(cached.shape[1], device)
    loss, gradients = _step(student, batch, lambda found: distillation_loss(found, [cached]))
    true_loss, true_gradients = _step(student, batch, lambda found: _equation_1(found, online))
    row: Row = {
        "teacher": teacher.config.model,
        "weights": "trained" if packed.weights else "untrained",
        "storage": storage,
        "pictures": pictures,
        "features": _apart(cached, online),
        "loss": abs(loss - true_loss),
        "gradients": _apart(gradients, true_gradients),
        "bound": MOVED[storage],
    }
    if not max(row["features"], row["loss"], row["gradients"]) <= MOVED[storage]:
        raise Wrong("cached and online differ", **row)
    return row


def _cached(
    reader: PartitionReader, teacher: LoadedTeacher, images: Any, pixels: list[np.ndarray]
) -> TargetBatch:
    values = reader.read("features")  # (V, rows, cols, C)
    at = [
        coordinates_in(
            [PatchGrid(grid, None)],
            pixel,
            original=(image.width, image.height),
            teachers=[teacher.config],
            sampling="published",
        )[0]
        for grid, image, pixel in zip(values, images, pixels, strict=True)
    ]
    coordinates = np.concatenate(at, dtype=np.float32)
    return TargetBatch(torch.from_numpy(values), None, torch.from_numpy(coordinates))


def _timms(teacher: LoadedTeacher) -> Any:
    """The network as timm makes it, with the teacher's weights."""
    network = timm.create_model(
        teacher.config.model, img_size=teacher.config.image_size, num_classes=0
    ).eval()
    network.load_state_dict(teacher.model.state_dict())
    return network.to(teacher.device)


@torch.no_grad()
def _online(network: Any, teacher: LoadedTeacher, path: Path, pixel: np.ndarray) -> Tensor:
    """The teacher's features (n, C) at pixels (n, 2), column and row, of one picture."""
    size = teacher.config.image_size
    image = np.array(Image.open(path)) / 255.0
    whole = np.floor(np.flip(pixel.astype(np.float64), axis=1))
    place = np.floor(whole * [size[0] / image.shape[0], size[1] / image.shape[1]]).astype(np.int64)
    tensor = torch.tensor(image.astype(np.float32).transpose(2, 0, 1)[None])
    mean, deviation = (torch.tensor(values)[:, None, None] for values in COLOURS)
    kept: list[Tensor] = []
    handle = network.blocks[-1].register_forward_hook(lambda module, inputs, output: kept.append(output))
    network(((resize(tensor, list(size), antialias=False) - mean) / deviation).to(teacher.device))
    handle.remove()
    grid = kept[0][:, network.num_prefix_tokens :].transpose(1, 2)  # (1, C, patches)
    grid = grid.reshape(1, -1, size[0] // teacher.patch, size[1] // teacher.patch)
    dense = F.interpolate(grid, scale_factor=teacher.patch, mode="bilinear", align_corners=True)
    rows, columns = torch.from_numpy(place).T.to(teacher.device)
    return dense[0, :, rows, columns].T


def _student(channels: int, device: torch.device) -> nn.ModuleList:
    torch.manual_seed(0)
    backbone = WaffleIron(width=16, depth=3, plane_shapes=SHAPES, backend="torch")
    return nn.ModuleList([backbone, LinearHead(16, channels)]).to(device)


def _step(student: nn.ModuleList, clouds: PackedClouds, loss: Any) -> tuple[float, Tensor]:
    """The loss, and all gradients one after the other."""
    backbone, head = student
    value = loss(head(backbone(clouds)))
    gradients = torch.autograd.grad(value, list(student.parameters()))
    return value.item(), torch.cat([gradient.flatten() for gradient in gradients])


def _equation_1(found: Tensor, wanted: Tensor) -> Tensor:
    apart = F.normalize(found, p=2, dim=1) - F.normalize(wanted, p=2, dim=1)
    return torch.norm(apart, dim=1, p=2).mean()


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).norm() / other.double().norm())
