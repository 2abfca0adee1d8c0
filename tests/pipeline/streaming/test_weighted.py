"""Epochs in which some datasets are drawn more often: shares, fairness over epochs, and draws that do not repeat."""

from collections import Counter

import numpy as np
import pytest

from pipeline.config.model import Student
from pipeline.streaming.order import ScanPlace, batch_of_step
from pipeline.streaming.weighted import draws_in_epoch, weighted_epoch

SIZES = {"big": 30, "small": 10}


def scans() -> list[ScanPlace]:
    return [
        ScanPlace(number, dataset, f"{dataset}-{number}", tuple(range(6 if dataset == "big" else 1)))
        for dataset, size in SIZES.items()
        for number in range(size)
    ]


def test_an_epoch_is_as_long_as_without_weights_and_shares_follow_them() -> None:
    assert draws_in_epoch((30, 10), (1, 1)) == (30, 10)
    assert draws_in_epoch((30, 10), (1, 3)) == (20, 20)
    assert draws_in_epoch((28130, 19130, 3920, 3920), (1, 1, 1, 1)) == (28130, 19130, 3920, 3920)
    for weights in [(1, 0.3), (2.7, 1), (1, 1000)]:
        draws = draws_in_epoch((30, 10), weights)
        exact = 40 * np.array([30 * weights[0], 10 * weights[1]]) / (30 * weights[0] + 10 * weights[1])
        assert sum(draws) == 40
        assert np.abs(np.array(draws) - exact).max() < 1


@pytest.mark.parametrize("draws", [(20, 20), (33, 7), (0, 40)])
def test_a_dataset_is_gone_through_whole_before_any_of_its_scans_comes_again(draws: tuple[int, int]) -> None:
    seen: list[Counter[int]] = [Counter(), Counter()]
    for epoch in range(9):
        places, _ = weighted_epoch((30, 10), draws, 7, epoch)
        assert len(places) == 40
        for dataset, (first, last) in enumerate(((0, 30), (30, 40))):
            mine = places[(places >= first) & (places < last)].tolist()
            assert len(mine) == draws[dataset]
            seen[dataset].update(mine)
            counts = [seen[dataset][scan] for scan in range(first, last)]
            assert max(counts) - min(counts) <= 1


def test_a_scan_drawn_again_is_drawn_otherwise_and_the_number_of_cameras_changes_no_share() -> None:
    drawn = [
        d
        for step in range(40)
        for d in batch_of_step(scans(), seed=1, step=step, batch=4, variants=2, weights={"small": 9.0})
    ]
    by_dataset = Counter(d.scan.dataset for d in drawn)
    assert by_dataset == {"big": 40, "small": 120}  # 4 epochs of 10 and 30 draws
    keys = Counter((d.scan.name, d.epoch) for d in drawn)
    assert set(keys.values()) == {1}  # camera, variant and augmentation hang on these


def test_weights_of_one_draw_the_same_scans_as_none() -> None:
    def epoch(weights: dict[str, float] | None) -> set[str]:
        steps = [
            batch_of_step(scans(), seed=1, step=s, batch=8, variants=1, weights=weights) for s in range(5)
        ]
        return {d.scan.name for batch in steps for d in batch}

    assert epoch({"small": 1.0}) == epoch(None) == {scan.name for scan in scans()}


def test_weights_name_datasets_of_the_student_and_go_with_random_order() -> None:
    with pytest.raises(ValueError, match="weights names 'other'"):
        Student(datasets=["a"], teacher="t", weights={"other": 2.0})
    with pytest.raises(ValueError, match="do not go together"):
        Student(datasets=["a"], teacher="t", weights={"a": 2.0}, order="blocks")
