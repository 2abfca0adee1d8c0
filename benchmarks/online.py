"""The published pretraining step, online: load, run the teacher, train the student; the authors' own parts of it.

Their loop (utils/distiller.py) is for CUDA alone. What is taken from their checkouts: a dataset's `__getitem__`,
`CollateDistillation`, `ImageTeacher` (its weights random: they cannot change the time), `Segmenter`, and AdamW and
the loss as that loop writes them, in float32.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import torch
import torch.nn.functional as F
from authors import AuthorsLoader, import_published
from keyframes import CHANNELS, IMAGE, Keyframes
from published import network, waffleiron_of

from pipeline.config.model import Network

PARTS = ("load", "teacher", "student", "optimiser")
THEIR_TEACHERS = {
    "dinov2_vits14": "dinov2_vit_small_p14",
    "dinov2_vitb14": "dinov2_vit_base_p14",
    "dinov2_vitl14": "dinov2_vit_large_p14",
}
GRIDS = [[256, 256], [256, 32], [256, 32]]


class OnlineStep:
    """`step(number)` takes one step over `batch` views of the keyframes; gives each part's seconds, as `PARTS`."""

    def __init__(
        self,
        scalr: Path,
        waffleiron: Path,
        cache: Keyframes,
        teacher: str,
        student: Network,
        batch: int,
        clock: Callable[[], float],
    ) -> None:
        self._loader = AuthorsLoader(scalr, cache.recordings.reader, cache.recordings.root, cache.scans)
        self._cameras = [[image.camera for image in scan.images] for scan in cache.scans]
        self._collate = import_module("datasets.im_pc_dataset").CollateDistillation()
        self._teacher = published_teacher(scalr, teacher)
        self._student = network(
            waffleiron_of(waffleiron),
            width=student.width,
            depth=student.depth,
            out=CHANNELS[teacher],
            shapes=[(a, b) for a, b in GRIDS],
            norm=student.norm,
            head="linear",
            hidden=0,
            activation="relu",
        ).train()
        self._optimiser = torch.optim.AdamW(self._student.parameters(), lr=2e-3, weight_decay=0.03)
        self._batch, self._clock = batch, clock
        self.points = 0

    def step(self, number: int) -> list[float]:
        marks = [self._clock()]
        first = number * self._batch
        batch = self._collate([self._sample(first + i) for i in range(self._batch)])
        marks.append(self._clock())
        features = self._teacher(batch["images"]).permute(0, 2, 3, 1)  # (B, H, W, C)
        marks.append(self._clock())
        found = self._student(
            batch["feat"], batch["cell_ind"], batch["occupied_cells"], batch["neighbors_emb"]
        )  # (B, C, N)
        k, q = [], []
        for view, (points, pixels) in enumerate(
            zip(batch["pairing_points"], batch["pairing_images"], strict=True)
        ):
            k.append(found[view, :, points])
            q.append(features[view : view + 1][tuple(pixels.T.long())])
        ours, target = F.normalize(torch.cat(k, 1), p=2, dim=0), F.normalize(torch.cat(q), p=2, dim=1)
        loss = torch.norm(ours.transpose(1, 0) - target, dim=1, p=2).mean()
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        marks.append(self._clock())
        self._optimiser.step()
        marks.append(self._clock())
        self.points = len(target)
        return [end - begin for begin, end in pairwise(marks)]

    def _sample(self, number: int) -> Any:
        scan = number % len(self._cameras)
        cameras = self._cameras[scan]
        return self._loader.sample(scan, cameras[number % len(cameras)])


def published_teacher(scalr: Path, name: str) -> Any:
    """Their ImageTeacher with random weights, where it would fetch pretrained ones; they cannot change the time."""
    import_published(scalr)
    if not (scalr / "models" / "image_teacher.py").is_file():
        raise click.ClickException(f"{scalr} has no models/image_teacher.py: check out its branch main")
    module = import_module("models.image_teacher")
    vits = sys.modules["models.dinov2_vision_transformer"]
    plain = getattr(vits, name)
    setattr(vits, name, lambda **options: plain(**{**options, "pretrained": False}))
    config = {
        "image_backbone": {
            "images_encoder": THEIR_TEACHERS[name],
            "feat": "x_pre_norm",
            "im_size": list(IMAGE),
        },
        "point_backbone": {"nb_class": CHANNELS[name]},
    }
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it tells its parameters
            made = module.ImageTeacher(config)
    finally:
        setattr(vits, name, plain)
    return made
