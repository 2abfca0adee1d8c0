"""The authors' side of the proof: their network, losses, schedules and parameter groups, in a loop that needs no GPU.

Their loops (utils/distiller.py, utils/finetuner.py) are for CUDA alone. What this loop takes from a checkout of theirs is
everything that it calculates with: `Segmenter`, `SemSegLoss`, `WarmupCosine` or its successor, `param_groups_lrd`.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.proof_cases import CLASSES, STEPS, Case, Outcome, Phase, batches, drawn, drop_masks, targets
from pipeline.streaming.scan_batches import ScanBatch
from pipeline.students import authors

GRIDS = [[64, 64], [64, 16], [64, 16]]
"""Of FIELD in cells of 50 cm."""
BRANCH = {"scalr": "origin/main", "scalr_plus": "origin/scalr_plus"}


def their_name(ours: str, head: str) -> str:
    """Their name of one of our tensors; head: `scalr pretrain`, `scalr_plus pretrain` or `labels`."""
    if head == "labels":
        return authors.their_name(re.sub(r"^head\.", "probe.", ours), "classes")
    return authors.their_name(ours, "linear" if head == "scalr pretrain" else "mlp")


class Authors:
    """Their modules of one recipe, from a git checkout of theirs, and of WaffleIron where ScaLR does not bring its own."""

    def __init__(self, recipe: str, checkout: Path, waffleiron: Path, scratch: Path) -> None:
        tree = scratch / recipe
        archive = subprocess.run(
            ["git", "-C", str(checkout), "archive", BRANCH[recipe]], capture_output=True, check=True
        ).stdout
        with tarfile.open(fileobj=BytesIO(archive)) as files:
            files.extractall(tree, filter="data")
        self.recipe = recipe
        self.commit = subprocess.run(
            ["git", "-C", str(checkout), "rev-parse", "--short", BRANCH[recipe]],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        with _imports_from([tree, waffleiron]):
            self.network = importlib.import_module("waffleiron").Segmenter
            self.backbone = importlib.import_module("waffleiron.backbone")
            self.loss = importlib.import_module("utils.metrics").SemSegLoss
            self.schedules = importlib.import_module("utils.scheduler")
            data = ModuleType(
                "datasets"
            )  # finetune.py names two of its things; it wants more packages than we have
            data.LIST_DATASETS = data.Collate = None  # type: ignore[attr-defined]
            sys.modules["datasets"] = data
            self.groups = importlib.import_module("finetune").param_groups_lrd

    def run(
        self,
        case: Case,
        phase: Phase,
        start: Mapping[str, Tensor] | None,
        dtype: torch.dtype,
        *,
        turned: bool = False,
        keep: bool = False,
    ) -> Outcome:
        """20 steps of a phase. start: weights that their pretraining ended with, by their names.

        turned: with the clouds of each batch in reverse order, which changes nothing but rounding: how far their own code
        lies from itself. keep: also the weights that each step started from.
        """
        model = self._network(case, phase).to(dtype)
        if start is None:
            shapes = {name: tuple(value.shape) for name, value in self._drawn_shapes(case).items()}
            own = drawn(shapes, dtype)
            head = f"{case.recipe} pretrain"
            state = {their_name(name, head): value for name, value in own.items()}
            model.load_state_dict(
                {name: state[name].reshape(like.shape) for name, like in model.state_dict().items()}
            )
        else:
            model.load_state_dict(start)
        if phase != "pretrain":
            model.classif = _new_head(case.width).to(dtype)  # as finetune.py makes it
        if phase == "probe":
            for name, parameter in model.named_parameters():
                parameter.requires_grad = name.startswith("classif")
        optimiser = self._optimiser(case, phase, model)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, self._schedule(case, phase))
        if phase == "probe":
            model.eval()
            model.classif.train()
        else:
            model.train()
        criterion = self.loss(CLASSES, lovasz_weight=1.0)
        losses, rates, passed = [], [], []
        groups = _named_groups(optimiser, model)
        for step, batch in enumerate(batches(case, dtype)):
            if keep:
                passed.append({k: v.detach().clone() for k, v in model.state_dict().items()})
            rates.append(sorted({group["lr"] for group in optimiser.param_groups}))
            with self._drawing(case, phase, step, batch, turned):
                inputs = _padded(batch)
                out = model(*(_turned(tensor, turned) for tensor in inputs))  # (B, C, N)
            rows = _turned(out, turned).transpose(1, 2)[inputs[2] > 0]  # (P, C), clouds one after the other
            if phase == "pretrain":
                # utils/distiller.py
                k, q = (
                    F.normalize(rows, p=2, dim=1),
                    F.normalize(targets(case, step, batch, dtype), p=2, dim=1),
                )
                loss = torch.norm(k - q, dim=1, p=2).mean()
            else:
                with _float_means(dtype):
                    loss = criterion(rows, batch.labels)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            scheduler.step()
            losses.append(float(loss.detach()))
        weights = {k: v.detach() for k, v in model.state_dict().items()}
        return Outcome(losses, rates, groups, weights, tuple(passed))

    def _network(self, case: Case, phase: Phase) -> Any:
        drop = {
            "pretrain": 0.2 if case.plus else 0.0,
            "probe": 0.0,
            "finetune": case.finetune.stochastic_depth,
        }
        options: dict[str, Any] = {"layer_norm": case.norm == "layer"}
        if case.plus:
            options = {"gelu": True, "mlp_classif": True, "mlp_hidden_size": case.hidden}
        return self.network(
            input_channels=5,
            feat_channels=case.width,
            nb_class=case.teacher,
            depth=case.depth,
            grid_shape=GRIDS,
            drop_path_prob=drop[phase],
            **options,
        )

    def _drawn_shapes(self, case: Case) -> dict[str, Tensor]:
        from pipeline.students.distilled import Distilled

        return Distilled(case.student, case.teacher).state_dict()

    def _optimiser(self, case: Case, phase: Phase, model: Any) -> torch.optim.Optimizer:
        """distill.py and finetune.py, get_optimizer."""
        if phase == "finetune":
            block = case.finetune
            groups = self.groups(model, block.weight_decay, layer_decay=block.layer_decay)
            for group in groups:
                group["lr"] = group["lr_scale"] * block.lr
            return torch.optim.AdamW(groups, lr=block.lr, weight_decay=block.weight_decay)
        block = case.pretrain if phase == "pretrain" else case.probe
        return torch.optim.AdamW(model.parameters(), lr=block.lr, weight_decay=block.weight_decay)

    def _schedule(self, case: Case, phase: Phase) -> Any:
        if phase == "pretrain" and case.plus:
            per_epoch = STEPS // case.pretrain.epochs
            return self.schedules.LinWarmup_ReciprocalSqrt_LinCoolDown(
                warmup_end=1 * per_epoch,
                cooldown_start=4 * per_epoch,
                timescale=0.45 * per_epoch,
                max_it=STEPS,
            )
        warmup, floor = {
            "pretrain": (4, 1e-5 / 2e-3),
            "probe": (2 * (STEPS // 10), case.probe.min_lr / case.probe.lr),
            "finetune": (1 * (STEPS // 10), 0.0 / case.finetune.lr),
        }[phase]
        return self.schedules.WarmupCosine(warmup, STEPS, floor)

    @contextmanager
    def _drawing(self, case: Case, phase: Phase, step: int, batch: ScanBatch, turned: bool) -> Iterator[None]:
        """Their DropPath draws with torch.rand, layer by layer, spatial mix first: let it draw our masks."""
        rate = {"pretrain": case.student.network.stochastic_depth, "probe": 0.0, "finetune": 0.2}[phase]
        factors = drop_masks(case, step, batch, rate)
        if factors is None:
            yield
            return
        factors = _turned(factors, turned)
        waiting = [
            (factors[:, d, i] > 0).to(torch.float64) * 0.999 for d in range(case.depth) for i in (0, 1)
        ]

        def rand(shape: tuple[int, ...], dtype: torch.dtype, device: Any) -> Tensor:
            return waiting.pop(0).to(dtype).reshape(shape)

        plain = self.backbone.torch
        self.backbone.torch = SimpleNamespace(
            rand=rand, **{k: getattr(plain, k) for k in ("zeros", "gather", "ones_like")}
        )
        try:
            yield
        finally:
            self.backbone.torch = plain
        assert not waiting, "their network draws once for each mix"


@contextmanager
def _float_means(dtype: torch.dtype) -> Iterator[None]:
    """Their Lovasz-softmax makes its labels float32, which cannot meet probabilities in float64: let it make those."""
    plain = torch.Tensor.float
    torch.Tensor.float = lambda tensor: tensor.to(dtype)  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        torch.Tensor.float = plain  # type: ignore[method-assign]


def _turned(tensor: Tensor, turned: bool) -> Tensor:
    return tensor.flip(0) if turned else tensor


def _new_head(width: int) -> torch.nn.Module:
    classif = torch.nn.Conv1d(width, CLASSES, 1)
    torch.nn.init.constant_(classif.bias, 0)
    torch.nn.init.constant_(classif.weight, 0)
    return torch.nn.Sequential(torch.nn.BatchNorm1d(width), classif)


def _padded(batch: ScanBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A batch as their collate lays it, padded to the longest cloud: features (B, 5, N), cells (B, 3, N), occupied (B, N),
    neighbours (B, K + 1, N), the point itself first. Padding: features and cells 0, neighbours the last row."""
    clouds = batch.clouds
    count, longest = clouds.count, int(clouds.sizes().max())
    features = clouds.features.new_zeros(count, longest, clouds.features.shape[1])
    cells = clouds.cells.new_zeros(count, longest, clouds.cells.shape[1])
    occupied = clouds.features.new_zeros(count, longest)
    near = clouds.neighbours.new_full((count, longest, clouds.neighbours.shape[1] + 1), longest - 1)
    for cloud, (begin, end) in enumerate(pairwise(clouds.offsets.tolist())):
        size = end - begin
        features[cloud, :size] = clouds.features[begin:end]
        cells[cloud, :size] = clouds.cells[begin:end]
        occupied[cloud, :size] = 1
        near[cloud, :size, 0] = torch.arange(size)
        near[cloud, :size, 1:] = clouds.neighbours[begin:end] - begin
    return features.transpose(1, 2), cells.transpose(1, 2), occupied, near.transpose(1, 2)


def _named_groups(optimiser: torch.optim.Optimizer, model: Any) -> dict[str, tuple[float, float]]:
    """Of each tensor that learns, by their name, its share of the rate and its weight decay."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group.get("lr_scale", 1.0), group["weight_decay"])
        for group in optimiser.param_groups
        for parameter in group["params"]
        if parameter.requires_grad
    }


@contextmanager
def _imports_from(folders: list[Path]) -> Iterator[None]:
    """Their packages have common names: import them from there, and leave none of them in the way of the next."""
    names = ("waffleiron", "utils", "finetune", "datasets", "models")

    def ours(name: str) -> bool:
        return name.split(".")[0] in names

    kept = {name: module for name, module in sys.modules.items() if ours(name)}
    for name in kept:
        del sys.modules[name]
    sys.path[:0] = [str(folder) for folder in folders]
    try:
        yield
    finally:
        del sys.path[: len(folders)]
        for name in [name for name in sys.modules if ours(name)]:
            del sys.modules[name]
        sys.modules.update(kept)
