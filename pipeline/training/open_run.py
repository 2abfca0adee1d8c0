"""`open_run`: a trained student as a function from points to features. It needs the run's folder, and no cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from cache_schemas.errors import BadInput
from pipeline.common.run_files import CONFIG
from pipeline.config.load import load_config
from pipeline.config.model import Student
from pipeline.geometry.full_scan import full_scan
from pipeline.plan.run_record import read_recorded
from pipeline.plan.starting_weights import Facts, student_of_weights
from pipeline.streaming.scan_batches import evaluation_sample
from pipeline.streaming.scan_source import ScanPoints
from pipeline.students.distilled import Distilled
from pipeline.students.loading import load_exactly
from pipeline.students.packed import pack
from pipeline.training.weights_folder import checked_weights, complete_run


def open_run(path: str | Path, device: str = "cpu") -> OpenedRun:
    """A pretrained student, from its run's folder `<workdir>/runs/<student>-<run id>`, or one that `griddle weights import`
    wrote.

    Raises:
        BadInput: if the folder holds no run that is complete.
        GriddleError: if its weights, its config.yaml or its provenance are not those that were written.
    """
    folder = Path(path)
    with complete_run(
        folder, "and run the same snakemake command again if its training was cut off"
    ) as provenance:
        name, student = _student(folder, provenance)
        run_id, intensity = provenance["run_id"], provenance["intensity"]
    with checked_weights(folder) as weights:
        tensors = {name: value for name, value in weights.items() if not name.startswith("probe.")}
        last = next((n for n in ("head.linear.bias", "head.linear_out.bias") if n in tensors), None)
        model = Distilled(student, channels=len(tensors[last]) if last else 1)
        model.backbone.backend = "auto"  # of this machine, not of the one that trained it
        if last:
            load_exactly(model, tensors)
        else:
            backbone = {name.removeprefix("backbone."): value for name, value in tensors.items()}
            load_exactly(model.backbone, backbone)
    return OpenedRun(name, run_id, student, intensity, model.eval().to(device), last is not None)


def _student(folder: Path, provenance: Facts) -> tuple[str, Student]:
    """Its name and block of the config; imported weights have the block in their provenance, and their folder's name."""
    if "imported" in provenance:
        return folder.name, student_of_weights(folder, provenance, list(provenance["intensity"]))
    read_recorded(folder, CONFIG)
    ((name, student),) = load_config(folder / CONFIG).students.items()
    return name, student


@dataclass(frozen=True)
class OpenedRun:
    """A trained student.

    Attributes:
        name: the student's, in its config.
        run_id: of its training.
        student: its block of the config.
        intensity: mean and deviation by which each dataset's intensities are normalised.
        model: student and head, in evaluation mode; its weights may be moved to another device.
        headed: whether the head to the teacher was trained, too. Weights that came with classes have none.
    """

    name: str
    run_id: str
    student: Student
    intensity: dict[str, tuple[float, float]]
    model: Distilled
    headed: bool = True

    @torch.no_grad()
    def features(
        self,
        xyz: npt.ArrayLike,
        intensity: npt.ArrayLike,
        *,
        dataset: str | None = None,
        space: str = "student",
    ) -> np.ndarray:
        """One feature for every point of a whole scan: (N, channels) float32.

        As in a probe, one point per voxel in the field of view goes through the student, and every point takes the feature
        of the nearest of these.

        xyz: (N, 3) metres, in the frame of the dataset that it learnt from. intensity: (N,) as that dataset records
        it. dataset: which one, where it learnt from several. space: `student`, or `teacher` for what the head makes
        of it.

        Raises:
            BadInput: for another shape, an unknown dataset, or if no point lies in the field of view.
        """
        scan = _scan(xyz, intensity)
        points = self.student.points
        sample = evaluation_sample(
            scan, full_scan(scan.xyz, points), points=points, intensity=self._scale(dataset)
        )
        device = next(self.model.parameters()).device
        clouds = pack([sample.cloud]).to(device)
        if space not in ("student", "teacher"):
            raise BadInput(f"space is 'student' or 'teacher', not {space!r}")
        if space == "teacher" and not self.headed:
            raise BadInput(f"{self.name} has no head to a teacher's features: its weights came with classes")
        network = self.model.backbone if space == "student" else self.model
        features: torch.Tensor = network(clouds, None)
        return features.float().cpu().numpy()[sample.nearest]

    def _scale(self, dataset: str | None) -> tuple[float, float]:
        """Mean and deviation of a dataset's intensity."""
        known = list(self.intensity)
        if dataset is None and len(known) > 1:
            raise BadInput(
                f"{self.name} learnt from {', '.join(known)}: say of which this scan is, dataset=..."
            )
        chosen = dataset or known[0]
        if chosen not in self.intensity:
            raise BadInput(f"{self.name} learnt from {', '.join(known)}, not from {chosen!r}")
        mean, deviation = self.intensity[chosen]
        return mean, deviation


def _scan(xyz: npt.ArrayLike, intensity: npt.ArrayLike) -> ScanPoints:
    points, values = np.asarray(xyz, np.float32), np.asarray(intensity, np.float32)
    if points.ndim != 2 or points.shape[1] != 3 or values.shape != points.shape[:1]:
        raise BadInput(f"xyz must be (N, 3) and intensity (N,), not {points.shape} and {values.shape}")
    if not np.isfinite(points).all() or not np.isfinite(values).all():
        raise BadInput("xyz and intensity must be finite")
    return ScanPoints(points, values, np.full(len(points), 255, np.uint8))
