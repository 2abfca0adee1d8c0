"""Confusion counts and IoU against loops over points, and against nuScenes' own evaluation."""

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.training.confusion import IGNORE, Confusion


def random_labels(seed: int, points: int = 400) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Labels of six classes: 4 is never true but predicted, 5 neither; some points are ignored."""
    rng = np.random.default_rng(seed)
    truth, prediction = rng.integers(0, 4, points), rng.integers(0, 5, points)
    truth[rng.random(points) < 0.2] = IGNORE
    return truth, prediction


def test_counts_and_iou_against_loops() -> None:
    truth, prediction = random_labels(0)
    confusion = Confusion(6)
    confusion.add(truth[:150], prediction[:150])
    confusion.add(truth[150:].astype(np.uint8), prediction[150:].astype(np.int32))
    counts = np.zeros((6, 6), dtype=np.int64)
    for t, p in zip(truth, prediction, strict=True):
        if t != IGNORE:
            counts[t, p] += 1
    np.testing.assert_array_equal(confusion.counts, counts)
    kept = truth != IGNORE
    for c, found in enumerate(confusion.iou()):
        is_true, is_predicted = truth[kept] == c, prediction[kept] == c
        union = (is_true | is_predicted).sum()
        expected = (is_true & is_predicted).sum() / union if union else np.nan
        np.testing.assert_equal(found, expected)
    assert confusion.iou()[4] == 0.0
    assert np.isnan(confusion.iou()[5])
    assert confusion.mean_iou() == pytest.approx(np.mean(confusion.iou()[:5]))


def test_agrees_with_the_nuscenes_devkit() -> None:
    devkit = pytest.importorskip("nuscenes.eval.lidarseg.utils").ConfusionMatrix(7, ignore_idx=0)
    confusion = Confusion(6)
    for seed in range(3):
        truth, prediction = random_labels(seed)
        confusion.add(truth, prediction)
        devkit.update(np.where(truth == IGNORE, 0, truth + 1), prediction + 1)
    np.testing.assert_allclose(confusion.iou(), devkit.get_per_class_iou()[1:], rtol=1e-7)
    assert confusion.mean_iou() == pytest.approx(devkit.get_mean_iou(), rel=1e-7)


def test_nothing_counted_has_no_mean() -> None:
    confusion = Confusion(3)
    confusion.add(np.full(4, IGNORE), np.zeros(4, dtype=np.int64))
    assert np.isnan(confusion.mean_iou())


def test_wrong_labels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"truth: 1 of 2 labels lie outside \[0, 3\)"):
        Confusion(3).add(np.array([0, 3]), np.array([0, 1]))
    with pytest.raises(ValueError, match=r"prediction: 2 of 2 labels lie outside"):
        Confusion(3).add(np.array([0, 1]), np.array([-1, 7]))
    with pytest.raises(ValueError, match="shape"):
        Confusion(3).add(np.array([0, 1]), np.array([0]))


def test_the_mean_over_all_classes_is_that_of_semantic_kittis_evaluation() -> None:
    """The definition written down anew: intersection over union plus 1e-15 of every class, also of those that do not occur."""
    rng = np.random.default_rng(5)
    truth, prediction = rng.choice([0, 1, 3, IGNORE], 200), rng.choice([0, 1, 4], 200)
    confusion = Confusion(6)
    confusion.add(truth, prediction)
    counted = truth != IGNORE
    ratios = []
    for c in range(6):
        hit = np.sum((truth == c) & (prediction == c))
        union = np.sum(((truth == c) | (prediction == c)) & counted) + 1e-15
        ratios.append(hit / union)
    scores = confusion.scores(list("abcdef"))
    assert scores["miou_all_classes"] == pytest.approx(np.mean(ratios))
    assert scores["miou"] == pytest.approx(np.sum(ratios) / 4), "classes 2 and 5 do not occur"
    assert Confusion(6).scores(list("abcdef"))["miou_all_classes"] is None
