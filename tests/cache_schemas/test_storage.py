"""Stored values are near enough to computed ones, and the manifest says how near."""

from __future__ import annotations

import numpy as np
import pytest

from cache_schemas.errors import BadInput
from cache_schemas.fidelity import Fidelity
from cache_schemas.storage import decode, encode, groups


@pytest.fixture
def massive() -> np.ndarray:
    """(6, 4, 100): features with two massive channels, as ViTs have, and a last group of four channels."""
    values = np.random.default_rng(0).normal(size=(6, 4, 100)).astype(np.float32)
    values[..., 7] += 300
    values[..., 40] -= 80
    return values


def kept(values: np.ndarray, storage: str) -> np.ndarray:
    encoded = encode(values, storage)
    return decode(encoded["features"], encoded.get("scales"))


def test_float32_is_kept_bit_for_bit(massive: np.ndarray) -> None:
    assert kept(massive, "float32").tobytes() == massive.tobytes()


def test_float16_is_rounded_to_it(massive: np.ndarray) -> None:
    assert encode(massive, "float16")["features"].dtype == np.float16
    np.testing.assert_array_equal(kept(massive, "float16"), massive.astype(np.float16).astype(np.float32))


def test_int8_is_within_half_a_level_of_its_group(massive: np.ndarray) -> None:
    encoded = encode(massive, "int8")
    assert encoded["features"].dtype == np.int8
    assert encoded["features"].shape == massive.shape
    assert encoded["scales"].dtype == np.float16
    assert encoded["scales"].shape == (6, 4, groups(100)) == (6, 4, 4)
    for first in range(0, 100, 32):
        part = massive[..., first : first + 32]
        level = np.abs(part).max(axis=-1, keepdims=True) / 127
        error = np.abs(kept(massive, "int8")[..., first : first + 32] - part)
        assert (error <= level * 0.501 + 127 * level * 2**-11).all()


def test_massive_channels_cost_their_group_alone(massive: np.ndarray) -> None:
    """One scale for a whole row would leave the others 127 levels for the 300: nearly nothing."""
    found = kept(massive, "int8")
    rest = [c for c in range(100) if c // 32 not in (0, 1)]
    error = np.abs(found - massive)[..., rest]
    assert error.max() < 0.02
    assert np.abs(np.rint(massive[..., rest] / (300 / 127)) * (300 / 127) - massive[..., rest]).max() > 0.5


@pytest.mark.parametrize("values", [np.zeros((2, 40), np.float32), np.full((2, 40), 1e-9, np.float32)])
def test_groups_of_nothing_are_nothing(values: np.ndarray) -> None:
    np.testing.assert_array_equal(kept(values, "int8"), np.zeros_like(values))


@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(storage: str, value: float) -> None:
    values = np.zeros((2, 3, 32), np.float32)
    values[1, 2, 3] = value
    with pytest.raises(BadInput, match="1 feature values are not finite"):
        encode(values, storage)


def test_values_beyond_float16_are_refused() -> None:
    with pytest.raises(
        BadInput, match="2 feature values are not finite in float16; write `storage: float32`"
    ):
        encode(np.array([[1e6, 1.0, -1e6]], np.float32), "float16")


def test_the_cosine_is_of_all_values_and_of_all_but_the_largest_channels(massive: np.ndarray) -> None:
    stored = kept(massive, "int8")
    sums = Fidelity(100)
    for computed, one in zip(massive, stored, strict=True):
        sums.add(computed[None], one[None])
    found = sums.report()
    rest = [c for c in range(100) if c != 7]

    def cosine(channels: list[int]) -> float:
        a, b = massive[..., channels].astype(float).ravel(), stored[..., channels].astype(float).ravel()
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))

    assert found["largest_channels"] == 1
    assert found["cosine"] == pytest.approx(cosine(list(range(100))), abs=1e-9)
    assert found["cosine_without_largest"] == pytest.approx(cosine(rest), abs=1e-9)
    assert found["cosine_without_largest"] < found["cosine"] < 1


def test_no_batching_changes_the_cosine(massive: np.ndarray) -> None:
    stored = kept(massive, "float16")
    one, other = Fidelity(100), Fidelity(100)
    for i in range(6):
        one.add(massive[i], stored[i])
    for i in range(6):
        other.add(np.asfortranarray(massive[i]), stored[i].copy())
    assert one.report() == other.report()
