"""Whether points can be a lidar's: every kind of finding on made-up scans, and not one on real recordings."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.load import load_config
from pipeline.config.model import Dataset
from pipeline.datasets.data_warnings import Warnings
from pipeline.datasets.index import make_index
from pipeline.datasets.label_checks import check_labels
from pipeline.datasets.look import look
from pipeline.datasets.point_checks import Expected, check_lengths, check_points, misread_turn
from pipeline.datasets.readers import packaged

REPOSITORY = Path(__file__).parents[3]
EXPECTED = Expected((0.28, 0.14), (0.0, 1.0), 120.0)
Cloud = tuple[np.ndarray, np.ndarray]


def cloud(seed: int = 0, points: int = 6000) -> Cloud:
    """Points on the ground and on things about a sensor, with intensities from 0 to 1."""
    random = np.random.default_rng(seed)
    distance, angle = random.uniform(3, 80, points), random.uniform(-np.pi, np.pi, points)
    height = np.where(random.random(points) < 0.6, -1.7, random.uniform(-1.7, 3, points))
    xyz = np.column_stack([distance * np.cos(angle), distance * np.sin(angle), height])
    return xyz.astype(np.float32), random.beta(2, 5, points).astype(np.float32)


def kinds(xyz: np.ndarray, intensity: np.ndarray, expected: Expected = EXPECTED) -> dict[str, bool]:
    """Each kind that was found, and whether it is refused."""
    return {finding.kind: finding.refused for finding in check_points(xyz, intensity, expected)}


def zeros(share: float) -> Callable[[Cloud], Cloud]:
    def change(given: Cloud) -> Cloud:
        xyz, intensity = given[0].copy(), given[1].copy()
        last = len(xyz) - int(share * len(xyz))
        xyz[last:], intensity[last:] = 0, 0
        return xyz, intensity

    return change


def scaled(xyz: float = 1, intensity: float = 1) -> Callable[[Cloud], Cloud]:
    return lambda given: (given[0] * np.float32(xyz), given[1] * np.float32(intensity))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (scaled(), {}),
        (zeros(0.005), {}),
        (zeros(0.05), {"origin": False}),
        (zeros(0.4), {"origin": True}),
        (scaled(xyz=1000), {"range": True}),
        (lambda given: (given[0] + np.float32(4e5), given[1]), {"range": True}),
        (scaled(xyz=1.6), {"range": False}),
        (scaled(xyz=0.001), {"range": False}),
        (scaled(intensity=255), {"intensity": True}),
        (scaled(intensity=1 / 255), {"intensity": True}),
        (scaled(intensity=1 / 12), {"intensity": False}),
        (lambda given: (given[0], np.full_like(given[1], 0.5)), {"intensity": False}),
    ],
)
def test_each_kind(change: Callable[[Cloud], Cloud], found: dict[str, bool]) -> None:
    assert kinds(*change(cloud())) == found


def test_zeros_that_were_moved_into_another_frame_are_at_one_place() -> None:
    xyz, intensity = zeros(0.4)(cloud())
    assert kinds(xyz + np.float32(3), intensity)["origin"] is False


def test_where_nothing_is_published_what_is_universal_is_checked() -> None:
    nothing = Expected()
    xyz, intensity = cloud()
    assert kinds(xyz, 255 * intensity, nothing) == {}
    assert kinds(1000 * xyz, intensity, nothing) == {"range": True}
    assert kinds(*zeros(0.4)((xyz, intensity)), nothing) == {"origin": True}


def test_few_points_are_not_refused() -> None:
    xyz, intensity = cloud(points=50)
    assert kinds(*zeros(0.5)((xyz, intensity))) == {"origin": False}
    assert kinds(xyz, np.ones_like(intensity)) == {}


def columns(seed: int, width: int) -> np.ndarray:
    """A file of so many numbers a point: x, y, z, intensity, ring, seconds."""
    xyz, intensity = cloud(seed)
    extra = [np.arange(len(xyz)) % 64, np.arange(len(xyz)) / len(xyz)]
    return np.column_stack([xyz, intensity, *extra]).astype(np.float32)[:, :width]


@pytest.mark.parametrize(("width", "taken"), list(product((4, 5, 6), repeat=2)))
def test_another_number_of_values_a_point_is_seen(width: int, taken: int) -> None:
    for seed in range(20):
        flat = columns(seed, width).ravel()
        rows = flat[: len(flat) // taken * taken].reshape(-1, taken)
        turn = misread_turn(rows[:, 3])
        assert turn == (None if width == taken else width // np.gcd(width, taken))
        assert (kinds(rows[:, :3], rows[:, 3], Expected()).get("columns") is True) == (width != taken)


def test_intensities_that_are_really_negative_are_no_wrong_columns() -> None:
    random, (xyz, intensity) = np.random.default_rng(0), cloud()
    assert misread_turn(intensity - np.float32(0.3)) is None
    second = intensity.copy()
    second[1::2] = -1  # two returns a shot, of which the second is often none
    assert misread_turn(second) is None
    few = intensity.copy()
    few[random.integers(0, len(few), 20)] *= -1
    assert misread_turn(few) is None
    assert kinds(xyz, few)["intensity"] is False, "out of range, but hardly any"


def test_scans_that_are_far_shorter_than_their_neighbours() -> None:
    warnings = Warnings()
    check_lengths([100, 90, 20, 110, 0], [f"{number}.bin" for number in range(5)], warnings)
    (entry,) = warnings.entries(5, "lidar files")
    assert (entry["kind"], entry["count"], entry["what"]) == (
        "short",
        1,
        "1 of 5 lidar files, the first 2.bin",
    )
    assert "20 points" in entry["why"]
    warnings = Warnings()
    check_lengths([100, 20], ["a", "b"], warnings)
    assert warnings.entries(2, "lidar files") == [], "of two nobody knows which is wrong"


def test_labels_of_which_none_is_learnt() -> None:
    assert check_labels(np.array([255, 3, 4], np.uint8)) == []
    assert "none of its 3 points" in check_labels(np.full(3, 255, np.uint8))[0].why
    assert "all 600 points have class 4" in check_labels(np.full(600, 4, np.uint8))[0].why


def test_what_readers_of_the_package_say_of_themselves_fits_together() -> None:
    for reader in packaged().values():
        traits = reader.traits
        assert traits.intensity is not None
        assert traits.intensity_range is not None
        assert traits.reach is not None
        assert traits.intensity_range[0] <= traits.intensity[0] <= traits.intensity_range[1]


def test_no_real_recording_is_warned_of(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDDLE_SAMPLES", str(samples))
    monkeypatch.chdir(REPOSITORY)
    config = load_config(REPOSITORY / "config" / "samples.yaml")
    scans = images = 0
    for name, dataset in config.datasets.items():
        index, _ = make_index(tmp_path, name, dataset)
        looked = look(name, dataset, index, 100)
        assert (looked.problems, looked.warnings) == ([], [])
        scans, images = scans + looked.scans, images + looked.images
    assert (scans, images) == (34, 43)


def test_no_frame_of_a_whole_real_sequence_is_warned_of(tmp_path: Path) -> None:
    folder = os.environ.get("GRIDDLE_PANDASET")
    if not folder:
        pytest.skip("a whole real sequence is needed: set GRIDDLE_PANDASET to the folder that holds 002/")
    for name in ("pandaset64", "pandasetgt"):
        dataset = Dataset(reader=name, root=folder)
        index, _ = make_index(tmp_path, name, dataset)
        looked = look(name, dataset, index, 1000)
        assert looked.scans >= 76
        assert (looked.problems, looked.warnings) == ([], [])
