"""Colours: one list for everything, so that a colour is no proof of a class.

Each label draws from all of the list; those it is likelier to have (trees green, roads grey) only make a
street look like one. `tests/pipeline/datasets/town/test_camouflage.py` holds how little a colour gives away.
"""

from __future__ import annotations

import numpy as np

from pipeline.datasets.town.primitives import Label

Colour = tuple[float, float, float]

COLOURS: dict[str, Colour] = {  # linear RGB albedo
    "black": (0.035, 0.035, 0.04), "asphalt": (0.10, 0.10, 0.105), "slate": (0.17, 0.18, 0.20),
    "concrete": (0.32, 0.31, 0.29), "pale": (0.50, 0.48, 0.44), "white": (0.70, 0.70, 0.68),
    "brick": (0.30, 0.12, 0.08), "brown": (0.17, 0.11, 0.065), "sand": (0.43, 0.35, 0.24),
    "olive": (0.17, 0.18, 0.075), "green": (0.085, 0.17, 0.055), "moss": (0.23, 0.28, 0.13),
    "rust": (0.33, 0.17, 0.07), "blue": (0.11, 0.17, 0.30), "red": (0.36, 0.06, 0.05),
}  # fmt: skip

_LIKELIER: dict[Label, tuple[str, ...]] = {
    Label.ROAD: ("asphalt", "slate", "concrete"),
    Label.SIDEWALK: ("concrete", "slate", "sand"),
    Label.TERRAIN: ("olive", "moss", "brown"),
    Label.BUILDING: ("brick", "pale", "concrete"),
    Label.VEGETATION: ("green", "olive", "moss"),
    Label.CAR: ("black", "white", "slate"),
    Label.TRUCK: ("white", "pale", "blue"),
    Label.PEDESTRIAN: ("black", "blue", "brown"),
    Label.POLE: ("slate", "asphalt", "concrete"),
    Label.BARRIER: ("pale", "red", "concrete"),
}


def draw_colour(label: Label, random: np.random.Generator) -> Colour:
    """A colour for an instance of this label: any of the list, more often one of its likelier three."""
    names = list(COLOURS)
    favour = 7.0 if label is Label.ROAD else 4.0
    weight = np.array([favour if name in _LIKELIER[label] else 1.0 for name in names])
    base = np.array(COLOURS[names[random.choice(len(names), p=weight / weight.sum())]])
    grey = base.mean()
    mixed = grey + (base - grey) * random.uniform(0.5, 1.1)
    return shade(tuple(mixed), random.uniform(0.75, 1.35))


def shade(colour: Colour, factor: float) -> Colour:
    """The colour made lighter (factor > 1) or darker."""
    r, g, b = (float(min(max(value * factor, 0.01), 0.85)) for value in colour)
    return r, g, b
