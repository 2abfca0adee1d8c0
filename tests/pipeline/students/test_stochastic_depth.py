"""Masks are pure functions of seed, step, scan and layer."""

import pytest
import torch

from pipeline.students.stochastic_depth import masks

SCANS = [3, 141, 2**63 + 5, 7]


def test_shape_values_and_rate() -> None:
    found = masks(0, 5, range(500), 12, 0.2)
    assert found.shape == (500, 12, 2)
    assert found.dtype == torch.float32
    assert set(found.unique().tolist()) == {0.0, torch.tensor(1 / 0.8, dtype=torch.float32).item()}
    assert (found == 0).float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert found.mean().item() == pytest.approx(1.0, abs=0.02)


def test_masks_do_not_depend_on_the_batch() -> None:
    together = masks(1, 9, SCANS, 6, 0.5)
    torch.testing.assert_close(masks(1, 9, SCANS[::-1], 6, 0.5).flip(0), together, rtol=0, atol=0)
    for row, scan in zip(together, SCANS, strict=True):
        torch.testing.assert_close(masks(1, 9, [scan], 6, 0.5)[0], row, rtol=0, atol=0)


def test_shallower_students_share_their_layers() -> None:
    torch.testing.assert_close(masks(1, 9, SCANS, 4, 0.5), masks(1, 9, SCANS, 48, 0.5)[:, :4], rtol=0, atol=0)


@pytest.mark.parametrize("change", [{"seed": 2}, {"step": 10}, {"scan_keys": [4]}])
def test_every_argument_matters(change: dict[str, object]) -> None:
    base = {"seed": 1, "step": 9, "scan_keys": [3], "depth": 48, "prob": 0.5}
    assert not torch.equal(masks(**base), masks(**(base | change)))


def test_spatial_and_channel_are_independent() -> None:
    found = masks(0, 0, range(2000), 4, 0.5) > 0
    agree = (found[..., 0] == found[..., 1]).float().mean().item()
    assert agree == pytest.approx(0.5, abs=0.02)


def test_the_numbers_are_pinned() -> None:
    """A change here changes what a run computes: its algorithm version must be raised with it."""
    dropped = (masks(0, 3, [17, 18], 8, 0.5) == 0).int().flatten(1).tolist()
    assert dropped == [
        [0, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 0, 0],
        [1, 0, 0, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0],
    ]


def test_no_dropping_and_bad_probabilities() -> None:
    assert masks(0, 0, SCANS, 3, 0.0).eq(1).all()
    for prob in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"\[0, 1\)"):
            masks(0, 0, SCANS, 3, prob)
    with pytest.raises(ValueError, match="counted from 0"):
        masks(0, -1, SCANS, 3, 0.5)
