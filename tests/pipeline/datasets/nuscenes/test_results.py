"""Our result files are what the devkit wants, and its score of them is ours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.eval.lidarseg.evaluate import LidarSegEval
from nuscenes.eval.lidarseg.validate_submission import validate_submission

from cache_schemas.errors import BadInput
from pipeline.config.model import Dataset
from pipeline.datasets.index import make_index
from pipeline.datasets.nuscenes.classes import CLASSES
from pipeline.datasets.nuscenes.reader import READER
from pipeline.datasets.nuscenes.results import write_results
from pipeline.datasets.nuscenes.toy import write_toy
from pipeline.training.confusion import Confusion


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy")
    write_toy(root, train=0, val=2, scans=2, image=(36, 64), beams=16, azimuths=120, processes=1)
    return root


@pytest.mark.parametrize("never", [CLASSES.index("car"), CLASSES.index("bus")])
def test_the_devkits_score_is_ours(tree: Path, tmp_path: Path, never: int) -> None:
    """Predictions that are half right; once a class of the truth is never predicted, once an absent one is."""
    dataset = Dataset(reader="nuscenes", root=str(tree), version="v1.0-mini")
    index, _ = make_index(tmp_path, "toy", dataset)
    rng = np.random.default_rng(0)
    predictions, confusion = [], Confusion(len(CLASSES))
    for entry in index.partitions:
        for scan in index.load_partition(entry).scans:
            truth = READER.read_labels(tree, scan)
            guess = rng.integers(0, len(CLASSES), len(truth))
            guess[guess == never] = 0
            right = (rng.random(len(truth)) < 0.5) & (truth != 255) & (truth != never)
            prediction = np.where(right, truth, guess)
            predictions.append((scan.result_name, prediction))
            confusion.add(truth, prediction)
    assert write_results(tmp_path / "results", "mini_val", predictions) == 4
    nusc = NuScenes("v1.0-mini", str(tree), verbose=False)
    validate_submission(nusc, str(tmp_path / "results"), "mini_val", verbose=False)
    official = LidarSegEval(nusc, str(tmp_path / "results"), "mini_val").evaluate()
    assert official["miou"] == pytest.approx(confusion.mean_iou(), abs=1e-6)
    assert 0.05 < official["miou"] < 0.9
    theirs = [value for name, value in official["iou_per_class"].items() if name != "ignore"]
    np.testing.assert_allclose(np.array(theirs), confusion.iou(), atol=1e-6)


def test_what_was_used_is_said(tmp_path: Path) -> None:
    write_results(tmp_path, "val", [("a", np.array([0, 15]))], use_external=True)
    assert (tmp_path / "lidarseg/val/a_lidarseg.bin").read_bytes() == bytes([1, 16])
    meta = json.loads((tmp_path / "val/submission.json").read_text())["meta"]
    assert [key for key, used in meta.items() if used] == ["use_lidar", "use_external"]


@pytest.mark.parametrize("bad", [255, 16, -1])
def test_a_point_without_a_class_is_refused(tmp_path: Path, bad: int) -> None:
    with pytest.raises(BadInput, match="scan a: 1 of 2 predictions"):
        write_results(tmp_path, "val", [("a", np.array([0, bad]))])
