"""Our side of the proof against the published code: the same small trainings, from weights and data that numpy draws.

A case is one recipe, norm and width. Its batches are made by our own loader from scans that are drawn here. All clouds of a
batch have as many points, unless the case is `padded`: the authors' batch statistics see their padding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.common.random import generator
from pipeline.config.model import Points, Student
from pipeline.config.training import Finetune, LabelledAugment, Optimiser, Probe
from pipeline.losses.distillation import distillation_loss
from pipeline.losses.lovasz import segmentation_loss
from pipeline.streaming.scan_batches import ScanBatch, ScanSteps
from pipeline.streaming.scan_source import LabelledPlace, ScanPoints
from pipeline.students.distilled import Distilled
from pipeline.students.heads import ProbeHead
from pipeline.students.stochastic_depth import masks
from pipeline.training.finetune import optimiser_of, set_rates
from pipeline.training.probe import probe_rate
from pipeline.training.schedule import rate_of

STEPS = 20
CLASSES = 5
INTENSITY = (18.742355, 22.04632)
FIELD = ((-16.0, 16.0), (-16.0, 16.0), (-4.0, 4.0))
Phase = Literal["pretrain", "probe", "finetune"]
PHASES: tuple[Phase, ...] = ("pretrain", "probe", "finetune")


@dataclass(frozen=True)
class Case:
    """One student of one recipe.

    Attributes:
        recipe: `scalr`, or `scalr_plus`: GELU, MLP head, stochastic depth in pretraining, reciprocal square root.
        points: of each cloud; clouds: of a batch.
        padded: clouds of several sizes, and a student that is aware of padding.
    """

    recipe: Literal["scalr", "scalr_plus"]
    norm: Literal["batch", "layer"]
    width: int
    depth: int = 6
    points: int = 600
    clouds: int = 2
    teacher: int = 32
    hidden: int = 64
    backend: str = "torch"
    padded: bool = False

    @property
    def name(self) -> str:
        return f"{self.recipe} {self.norm} {self.width}{' padded' if self.padded else ''}"

    @property
    def phases(self) -> tuple[Phase, ...]:
        """With padding only the pretraining: the batch norm of a head for classes sees padding in the authors' code, and the
        features of padding are nothing that we have."""
        return ("pretrain",) if self.padded else PHASES

    @property
    def plus(self) -> bool:
        return self.recipe == "scalr_plus"

    @property
    def student(self) -> Student:
        network = {"width": self.width, "depth": self.depth, "norm": self.norm, "backend": self.backend}
        if self.plus:
            network |= {
                "activation": "gelu",
                "head": "mlp",
                "head_width": self.hidden,
                "averaging": "scalr_plus",
                "stochastic_depth": 0.2,
            }
        if self.padded:
            network |= {"padding_aware": True}
        points = {
            "neighbours": 16,
            "voxel": 0.1,
            "max_points": self.points,
            "field_of_view": FIELD,
            "cell": 0.5,
        }
        return Student.model_validate(
            {"datasets": ["d"], "teacher": "t", "points": points, "network": network}
        )

    @property
    def pretrain(self) -> Optimiser:
        """The published recipe, shortened to 5 epochs of 4 steps."""
        if self.plus:
            return Optimiser(epochs=5, schedule="rsqrt", warmup_epochs=1, cooldown_epoch=4, batch=self.clouds)
        return Optimiser(epochs=5, warmup=4, batch=self.clouds)

    @property
    def probe(self) -> Probe:
        """Shortened to 10 epochs of 2 steps."""
        return Probe(epochs=10, warmup_epochs=2, min_lr=0.0 if self.plus else 1e-5, batch=self.clouds)

    @property
    def finetune(self) -> Finetune:
        """Few labels; shortened to 10 epochs of 2 steps."""
        rates = {"lr": 1e-4, "layer_decay": 0.99} if self.plus else {"lr": 2e-3, "layer_decay": 0.95}
        return Finetune(epochs=10, warmup_epochs="released", batch=self.clouds, **rates)  # type: ignore[arg-type]


TINY = [
    Case("scalr", "layer", 8, depth=3, points=150, teacher=6),
    Case("scalr", "batch", 8, depth=3, points=150, teacher=6),
    Case("scalr", "layer", 8, depth=3, points=150, teacher=6, padded=True),
    Case("scalr_plus", "layer", 8, depth=3, points=150, teacher=6, hidden=12),
]
"""Small enough for every run of the tests."""


class _Scans:
    """Scans that are drawn: a source as the cache is one."""

    def __init__(self, points: int, padded: bool) -> None:
        self._points, self._padded = points, padded

    def read(self, place: LabelledPlace) -> ScanPoints:
        rng = generator(7, "proof", place.name)
        count = 3 * self._points
        if self._padded:
            count = int(self._points * rng.uniform(0.5, 0.9))
        ring = rng.uniform(1, 14, count) * np.exp(1j * rng.uniform(-np.pi, np.pi, count))
        xyz = np.stack([ring.real, ring.imag, rng.normal(0, 0.8, count).clip(-3, 3)], axis=1)
        label = rng.integers(0, CLASSES, count).astype(np.uint8)
        label[rng.random(count) < 0.1] = 255
        return ScanPoints(xyz.astype(np.float32), rng.uniform(0, 255, count).astype(np.float32), label)


def batches(case: Case, dtype: torch.dtype) -> list[ScanBatch]:
    """The batch of every step, with the released augmentation."""
    return _batches(case.points, case.clouds, case.padded, case.student.points, dtype)


@lru_cache(maxsize=4)
def _batches(most: int, clouds: int, padded: bool, points: Points, dtype: torch.dtype) -> list[ScanBatch]:
    steps = ScanSteps(
        _Scans(most, padded),  # type: ignore[arg-type]
        [LabelledPlace(0, row, "d", f"scan-{row}") for row in range(4 * clouds)],
        seed=5,
        batch=clouds,
        points=points,
        augmentation=LabelledAugment(rule="released"),
        intensity={"d": INTENSITY},
    )
    found = [steps[step] for step in range(STEPS)]
    for batch in found:
        equal = len(set(batch.clouds.sizes().tolist())) == 1
        assert equal != padded
    return [
        replace(batch, clouds=replace(batch.clouds, features=batch.clouds.features.to(dtype)))
        for batch in found
    ]


def targets(case: Case, step: int, batch: ScanBatch, dtype: torch.dtype) -> Tensor:
    """The teacher's features (P, C) of a step's points."""
    size = len(batch.clouds.features), case.teacher
    values = generator(7, "proof targets", step).normal(size=size)
    return torch.from_numpy(values).to(dtype)


def drawn(shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights by our names: norms near 1, statistics at their start, all else as large as a layer's default."""
    found: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        rng, leaf = generator(7, "proof weights", name), name.split(".")[-1]
        if leaf == "num_batches_tracked":
            found[name] = torch.zeros((), dtype=torch.int64)
            continue
        if leaf in ("running_mean", "running_var"):
            value = np.full(shape, float(leaf == "running_var"))
        elif leaf == "scale":
            value = rng.uniform(-1, 1, shape)
        elif "norm" in name:
            value = rng.uniform(0.5, 1.5, shape) if leaf == "weight" else rng.uniform(-0.1, 0.1, shape)
        else:
            value = rng.uniform(-1, 1, shape) / np.sqrt(np.prod(shape[1:]) if len(shape) > 1 else 16)
        found[name] = torch.from_numpy(value).to(dtype)
    return found


@dataclass(frozen=True)
class Outcome:
    """Of one training: loss and rates of every step, its groups by name, and the weights at the end.

    Attributes:
        rates: of each step the distinct rates of all groups, rising.
        groups: of each tensor, by our name, its share of the rate and its weight decay.
        passed: where it was asked for, the weights that each step started from.
    """

    losses: list[float]
    rates: list[list[float]]
    groups: dict[str, tuple[float, float]]
    weights: dict[str, Tensor]
    passed: tuple[dict[str, Tensor], ...] = ()


def student_of(case: Case, dtype: torch.dtype) -> Distilled:
    """The student with its distillation head, at its drawn weights."""
    model = Distilled(case.student, case.teacher).to(dtype)
    model.load_state_dict(drawn({k: tuple(v.shape) for k, v in model.state_dict().items()}, dtype))
    return model


def drop_masks(case: Case, step: int, batch: ScanBatch, rate: float) -> Tensor | None:
    return masks(5, step, batch.keys, case.depth, rate) if rate else None


def ours(
    case: Case,
    phase: Phase,
    start: Mapping[str, Tensor] | None,
    dtype: torch.dtype,
    *,
    weights_of: Callable[[int, dict[str, Tensor]], Mapping[str, Tensor]] | None = None,
) -> Outcome:
    """20 steps of a phase with our code. start: weights of a pretrained student by our names, for probe and finetuning.

    weights_of: gives of a step, and of our weights then, those that it has to start from instead.
    """
    model: nn.Module = student_of(case, dtype)
    student = model
    assert isinstance(student, Distilled)
    loss: Callable[[int, ScanBatch], Tensor]
    if phase == "pretrain":
        recipe = case.pretrain
        optimiser: Any = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        model.train()
        rate = case.student.network.stochastic_depth

        def loss(step: int, batch: ScanBatch) -> Tensor:
            drop = drop_masks(case, step, batch, rate)
            return distillation_loss(student(batch.clouds, drop), [targets(case, step, batch, dtype)])

        def set_rate(step: int) -> None:
            for group in optimiser.param_groups:
                group["lr"] = rate_of(recipe, step, STEPS // recipe.epochs)

    else:
        assert start is not None
        student.load_state_dict(start)
        head = ProbeHead(case.width, CLASSES).to(dtype)
        backbone = student.backbone
        model = nn.ModuleDict({"backbone": backbone, "head": head})
        drop_rate = case.finetune.stochastic_depth if phase == "finetune" else 0.0
        backbone.drop_path = drop_rate
        backbone.train(phase == "finetune").requires_grad_(phase == "finetune")
        head.train()
        if phase == "probe":
            optimiser = torch.optim.AdamW(
                head.parameters(), lr=case.probe.lr, weight_decay=case.probe.weight_decay
            )
        else:
            optimiser = optimiser_of(case.finetune, case.depth, model)

        def loss(step: int, batch: ScanBatch) -> Tensor:
            features = backbone(batch.clouds, drop_masks(case, step, batch, drop_rate))
            return segmentation_loss(head(features), batch.labels)

        def set_rate(step: int) -> None:
            if phase == "finetune":
                set_rates(optimiser, case.finetune, step, STEPS // case.finetune.epochs)
                return
            block = case.probe
            for group in optimiser.param_groups:
                group["lr"] = probe_rate(block, step, STEPS // block.epochs, lr=block.lr, epochs=block.epochs)

    names = {id(parameter): name for name, parameter in model.named_parameters()}
    peak = {"pretrain": case.pretrain.lr, "probe": case.probe.lr, "finetune": case.finetune.lr}[phase]
    groups = {
        names[id(parameter)]: (group.get("base", peak) / peak, group["weight_decay"])
        for group in optimiser.param_groups
        for parameter in group["params"]
    }
    losses, rates = [], []
    for step, batch in enumerate(batches(case, dtype)):
        if weights_of is not None:
            model.load_state_dict(weights_of(step, model.state_dict()))
        set_rate(step)
        rates.append(sorted({group["lr"] for group in optimiser.param_groups}))
        value = loss(step, batch)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        optimiser.step()
        losses.append(float(value.detach()))
    return Outcome(losses, rates, groups, {k: v.detach() for k, v in model.state_dict().items()})
