"""Patterns: small tileable pictures, baked once, with coarser copies for surfaces that are far away.

A pattern says, at each place of a surface, how much of its accent colour shows (0 to 1). Colour is no part of
it: a brick wall and a lawn may share both their colours and still differ in pattern.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from pipeline.common.random import generator

SIDE = 256  # texels along each side of a pattern
_LEVELS = 9  # 256, 128, ... 1
_STARTS = np.cumsum([0] + [(SIDE >> level) ** 2 for level in range(_LEVELS)])


def _noise(name: str, low: float, high: float, stretch: float = 1.0) -> np.ndarray:
    """Tileable noise of `low` to `high` periods a tile, uniform in 0..1; stretch > 1 draws it out upwards."""
    fx = np.fft.rfftfreq(SIDE, 1 / SIDE)[None, :]
    fy = np.fft.fftfreq(SIDE, 1 / SIDE)[:, None] * stretch
    radius = np.hypot(fx, fy)
    spectrum = np.fft.rfft2(generator("pattern", name).standard_normal((SIDE, SIDE)))
    band = np.fft.irfft2(
        spectrum * ((radius >= low) & (radius <= high)) / np.maximum(radius, 1.0), (SIDE, SIDE)
    )
    ranks = np.empty(SIDE * SIDE)
    ranks[np.argsort(band, axis=None, kind="stable")] = np.linspace(0, 1, SIDE * SIDE)
    return ranks.reshape(SIDE, SIDE)


def _grid(across: int, up: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits a tile in cells: place within the cell along x and y (0..1), and the cell's number."""
    step = (np.arange(SIDE) + 0.5) / SIDE
    x, y = step[None, :] * across, step[:, None] * up
    return x % 1.0 + 0 * y, y % 1.0 + 0 * x, np.floor(y).astype(int) * across + np.floor(x).astype(int)


def _asphalt() -> np.ndarray:
    cracks = np.abs(_noise("crack", 2, 12) - 0.5) < 0.008
    return np.clip(
        0.25 + 0.35 * _noise("grit", 30, 128) + 0.12 * (_noise("patch", 1, 4) > 0.7) - 0.6 * cracks, 0, 1
    )


def _slabs() -> np.ndarray:
    x, y, cell = _grid(5, 5)
    tone = generator("pattern", "slabs").random(25)[cell]
    joint = (np.minimum(x, 1 - x) < 0.04) | (np.minimum(y, 1 - y) < 0.04)
    return np.where(joint, 1.0, 0.1 + 0.45 * tone + 0.1 * _noise("slab", 20, 128))


def _grass() -> np.ndarray:
    return np.clip(0.55 * _noise("blade", 25, 110, stretch=0.5) + 0.45 * _noise("tuft", 3, 14), 0, 1)


def _soil() -> np.ndarray:
    return np.clip(0.6 * _noise("clod", 8, 40) ** 2 + 0.4 * _noise("soil", 1, 6), 0, 1)


def _facade() -> np.ndarray:
    x, y, cell = _grid(2, 2)
    window = (np.abs(x - 0.5) < 0.27) & (np.abs(y - 0.55) < 0.28)
    frame = (np.abs(x - 0.5) < 0.32) & (np.abs(y - 0.55) < 0.33) & ~window
    bars = window & (np.abs(x - 0.5) < 0.02)
    pane = 0.75 + 0.25 * generator("pattern", "facade").random(4)[cell]
    wall = 0.12 * _noise("plaster", 2, 60)
    return np.where(bars | frame, 0.4, np.where(window, pane, np.where(y > 0.95, 0.3, wall)))


def _glass_wall() -> np.ndarray:
    x, y, cell = _grid(4, 2)
    mullion = (np.minimum(x, 1 - x) < 0.05) | (y < 0.12)
    return np.where(mullion, 0.0, 0.6 + 0.4 * generator("pattern", "panes").random(8)[cell])


def _bricks() -> np.ndarray:
    step = (np.arange(SIDE) + 0.5) / SIDE
    row = np.floor(step * 16).astype(int)
    y = (step * 16 % 1.0)[:, None]
    x = (step[None, :] * 6 + 0.5 * (row % 2)[:, None]) % 6
    tone = generator("pattern", "bricks").random((16, 6))[row[:, None], x.astype(int)]
    joint = (y < 0.16) | (x % 1.0 < 0.07)
    return np.where(joint, 0.9, 0.5 * tone)


def _planks() -> np.ndarray:
    _, y, cell = _grid(1, 10)
    tone = generator("pattern", "planks").random(10)[cell]
    return np.where(y < 0.14, 1.0, 0.3 * tone + 0.25 * _noise("grain", 4, 60, stretch=0.25))


def _leaves() -> np.ndarray:
    return np.clip(1.1 * _noise("leaf", 8, 30) + 0.9 * _noise("bough", 2, 7) - 0.6, 0, 1)


def _bark() -> np.ndarray:
    return _noise("bark", 4, 50, stretch=4.0)


def _bodywork() -> np.ndarray:
    """A vehicle's side from end to end and sill to shoulder: door gaps, a dark sill, lamps at the ends."""
    x, y, _ = _grid(1, 1)
    doors = (np.abs(x - 0.33) < 0.006) | (np.abs(x - 0.57) < 0.006) | (np.abs(x - 0.78) < 0.006)
    lamps = ((x < 0.05) | (x > 0.95)) & (np.abs(y - 0.7) < 0.12)
    return np.where((y < 0.22) | doors, 0.9, np.where(lamps, 0.55, 0.06 * y))


def _cabin() -> np.ndarray:
    """A vehicle's cabin: glass between pillars, under a roof edge."""
    x, y, _ = _grid(1, 1)
    glass = (y > 0.08) & (y < 0.86) & (x > 0.05) & (x < 0.95) & (np.abs(x - 0.5) > 0.03)
    return np.where(glass, 0.95, 0.05)


def _ribs() -> np.ndarray:
    x, y, _ = _grid(12, 1)
    return np.where((y < 0.04) | (y > 0.96), 0.8, np.where(x < 0.2, 0.55, 0.08))


def _stripes() -> np.ndarray:
    step = (np.arange(SIDE) + 0.5) / SIDE
    return (((step[None, :] + step[:, None]) * 3) % 1.0 < 0.5) * 0.9 + 0.1 * _noise("dirt", 2, 30)


def _cloth() -> np.ndarray:
    return np.clip(0.5 * _noise("fold", 3, 16, stretch=2.5) + 0.15 * _noise("weave", 30, 100), 0, 1)


def _plain() -> np.ndarray:
    return 0.15 + 0.25 * _noise("plain", 1, 8) + 0.08 * _noise("fine", 40, 128)


_RECIPES = {
    "plain": _plain, "asphalt": _asphalt, "slabs": _slabs, "grass": _grass, "soil": _soil, "facade": _facade,
    "glass_wall": _glass_wall, "bricks": _bricks, "planks": _planks, "leaves": _leaves, "bark": _bark,
    "bodywork": _bodywork, "cabin": _cabin, "ribs": _ribs, "stripes": _stripes, "cloth": _cloth,
    "clouds": lambda: _noise("clouds", 1, 24), "blotches": lambda: _noise("blotches", 1, 8),
}  # fmt: skip
PATTERNS = {name: number for number, name in enumerate(_RECIPES)}


@lru_cache(maxsize=1)
def _atlas() -> np.ndarray:
    """All patterns at all levels, one after the other, float32."""
    parts = []
    for recipe in _RECIPES.values():
        level = recipe().astype(np.float32)
        for _ in range(_LEVELS):
            parts.append(level.ravel())
            level = level.reshape(len(level) // 2, 2, -1, 2).mean(axis=(1, 3)) if len(level) > 1 else level
    return np.concatenate(parts)


def lookup(pattern: np.ndarray | np.int32, u: np.ndarray, v: np.ndarray, texels: np.ndarray) -> np.ndarray:
    """The pattern's value at (u, v) repeats, (N,) float32.

    pattern: (N,) or scalar int; texels: (N,) finest texels that fall on one pixel, picks a copy as coarse.
    """
    level = np.clip(np.log2(np.maximum(texels, 1.0)), 0, _LEVELS - 1).astype(np.int32)
    side = (SIDE >> level).astype(np.int32)
    col = ((u - np.floor(u)) * side).astype(np.int32)
    row = ((v - np.floor(v)) * side).astype(np.int32)
    # A fraction just below 1 may round up to a whole side.
    np.minimum(col, side - 1, out=col)
    np.minimum(row, side - 1, out=row)
    return _atlas()[pattern * _STARTS[-1] + _STARTS[level] + row * side + col]
