"""The features that a probe learns from: modules from a batch to one feature per row, of a student or of a baseline."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cache_schemas.errors import GriddleError
from pipeline.common.log import log
from pipeline.common.run_files import PROVENANCE, WEIGHTS
from pipeline.geometry.grid import plane_grid_of
from pipeline.plan.experiment import Experiment
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
from pipeline.training.weights_folder import checked_weights


class RawInputs(nn.Module):
    """The five inputs of each point, as the student gets them."""

    channels = len(FEATURES)

    def forward(self, batch: ScanBatch, step: int) -> Tensor:
        """Returns (P, 5)."""
        return batch.clouds.features


class TeacherFeatures(nn.Module):
    """The teachers' patch grids, sampled at the points that cameras see. Several are l2-normalised and concatenated."""

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
        """Returns (P, channels). Branches are dropped, as in pretraining, only if the student is trained."""
        rate, drop = self.backbone.drop_path, None
        if rate and self.training:
            drop = masks(self._seed, step, batch.keys, self.backbone.depth, rate)
            drop = drop.to(batch.clouds.features.device)
        features: Tensor = self.backbone(batch.clouds, drop)
        return features


def point_features(
    experiment: Experiment, run: LabelledRun, device: torch.device
) -> StudentFeatures | RawInputs:
    """What the head of a run gets of every point: the student's features, or the inputs as they are.

    Raises:
        GriddleError: as `student_features`.
    """
    return RawInputs() if run.kind == "inputs" else student_features(experiment, run, device)


def student_features(experiment: Experiment, run: LabelledRun, device: torch.device) -> StudentFeatures:
    """The student of a probe or a finetuning, on the device: distilled, calibrated, or with its random initial weights.

    Raises:
        GriddleError: if the distilled weights are not there, or are not those of this student.
    """
    if run.is_pretrained:
        backbone = _distilled(experiment, run.run).to(device)
    else:
        backbone = build(run.student, run.seed, channels=1).backbone.to(
            device
        )  # its draw does not depend on the head's channels
    if run.calibration_batches:
        calibrate(experiment, run.run, backbone, run.calibration_batches, device)
    # No weight depends on how far the planes reach.
    backbone.plane_shapes = plane_grid_of(run.points).shapes
    if run.stochastic_depth is not None:
        backbone.drop_path = run.stochastic_depth
    return StudentFeatures(backbone, run.seed)


@torch.no_grad()
def calibrate(
    experiment: Experiment, run: Run, backbone: nn.Module, batches: int, device: torch.device
) -> None:
    """Update the batch norms' statistics on the run's first pretraining batches. Weights do not change."""
    source = ViewSource(experiment.cache, run.readings, teachers=())
    steps = PretrainSteps(
        source,
        source.scans()[0],
        run,
        (),
        {name: intensity_of(experiment, name, run.identity["intensity"]) for name in run.student.datasets},
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
    for path in (folder / PROVENANCE, folder / WEIGHTS):
        if not path.exists():
            raise GriddleError(f"{path} is not there: run `griddle pretrain --run {folder.name}` first")
    backbone = build(run.student, run.seed, channels=1).backbone
    with checked_weights(folder, run.id) as tensors:
        load_exactly(backbone, tensors_below("backbone.", tensors))
    return backbone
