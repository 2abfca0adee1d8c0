"""What a probe stands on: a way from a batch to one feature per row. Distilled student, or one of its baselines."""

from __future__ import annotations

import json

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from cache_schemas.canonical import sha256_file
from cache_schemas.errors import GriddleError
from pipeline.common.log import log
from pipeline.geometry.grid import plane_grid_of
from pipeline.plan.experiment import Experiment
from pipeline.plan.finetunes import FinetuneRun
from pipeline.plan.intensity import intensity_of
from pipeline.plan.labelled import LabelledRun
from pipeline.plan.parts import Run
from pipeline.streaming.grids import joined
from pipeline.streaming.scan_batches import ScanBatch
from pipeline.streaming.seen_points import SeenBatch
from pipeline.streaming.view_batches import PretrainSteps, stream
from pipeline.streaming.view_source import ViewSource
from pipeline.students.distilled import build
from pipeline.students.loading import load_exactly, tensors_below
from pipeline.students.packed import FEATURES
from pipeline.students.stochastic_depth import masks
from pipeline.students.waffleiron import WaffleIron
from pipeline.training.run_folder import WEIGHTS


class RawInputs(nn.Module):
    """The points' own five inputs, as the student gets them."""

    channels = len(FEATURES)

    def forward(self, batch: ScanBatch, step: int) -> Tensor:
        """Returns (P, 5)."""
        return batch.clouds.features


class TeacherFeatures(nn.Module):
    """The teachers' patch grids, read at the points that cameras see; several side by side, each l2-normalised."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, batch: SeenBatch, step: int) -> Tensor:
        """Returns (P, channels)."""
        return joined([target.sample(batch.view) for target in batch.targets])


class StudentFeatures(nn.Module):
    """A student without the head that leads to its teacher."""

    def __init__(self, backbone: WaffleIron, seed: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.channels = backbone.width
        self._seed = seed

    def forward(self, batch: ScanBatch, step: int) -> Tensor:
        """Returns (P, channels). Only where it is trained itself it drops branches, as pretraining does."""
        rate, drop = self.backbone.drop_path, None
        if rate and self.training:
            drop = masks(self._seed, step, batch.keys, self.backbone.depth, rate)
            drop = drop.to(batch.clouds.features.device)
        features: Tensor = self.backbone(batch.clouds, drop)
        return features


def student_features(experiment: Experiment, probe: LabelledRun, device: torch.device) -> StudentFeatures:
    """The student of a probe or a finetuning on its device: distilled, calibrated, or at its random start.

    Raises:
        GriddleError: if the distilled weights are not there, or are not those of this student.
    """
    run = probe.run
    if probe.is_pretrained:
        backbone = _distilled(experiment, run).to(device)
    else:
        backbone = build(run.student, run.seed, channels=1).backbone.to(
            device
        )  # its draw does not depend on the head's channels
    if probe.calibration_batches:
        calibrate(experiment, run, backbone, probe.calibration_batches, device)
    # No weight depends on how far the planes reach.
    backbone.plane_shapes = plane_grid_of(probe.points).shapes
    if isinstance(probe, FinetuneRun):
        backbone.drop_path = probe.block.stochastic_depth
    return StudentFeatures(backbone, run.seed)


@torch.no_grad()
def calibrate(
    experiment: Experiment, run: Run, backbone: nn.Module, batches: int, device: torch.device
) -> None:
    """Let the batch norms see the run's first pretraining batches: statistics move, weights do not."""
    source = ViewSource(experiment.cache, run.readings, teachers=())
    steps = PretrainSteps(
        source,
        source.scans()[0],
        run,
        (),
        {name: intensity_of(experiment, name) for name in run.student.datasets},
    )
    backbone.eval()
    for module in backbone.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    log(f"  calibrating batch norms on {batches} pretraining batches, without gradients")
    for batch in stream(steps, 0, batches, experiment.config.workers, pin=device.type == "cuda"):
        backbone(batch.to(device).clouds, None)
    backbone.eval()


def _distilled(experiment: Experiment, run: Run) -> WaffleIron:
    folder = experiment.run_path(run)
    path = folder / WEIGHTS
    try:
        provenance = json.loads((folder / "provenance.json").read_bytes())
        weights = load(path.read_bytes())
        backbone = build(run.student, run.seed, channels=1).backbone
        load_exactly(backbone, tensors_below("backbone.", weights))
        if (provenance["run_id"], provenance["weights_sha256"]) != (run.id, sha256_file(path)):
            raise ValueError("they are not the ones that provenance.json is about")
    except FileNotFoundError as error:
        raise GriddleError(
            f"{error.filename} is not there: run `griddle pretrain --run {folder.name}` first"
        ) from error
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise GriddleError(
            f"{path} does not hold the weights of student {run.name} ({error}).\n"
            f"Delete {folder} and run the same snakemake command again: it trains this student anew."
        ) from error
    return backbone
