"""The plan of a street: which ground lies where.

Along x runs the road, with lane marks; a side street may cross it. Outwards from each kerb lie parking
strips, verges and pavements in varying order and width, then lots: buildings, parks, plazas, parking lots.
Which ground is found at which distance from the road, and at which height, varies from town to town.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pipeline.datasets.town.furniture import draw_paint
from pipeline.datasets.town.primitives import Label, Paint

_BEHIND, _AHEAD = 90.0, 110.0  # metres of street before and after the drive
_LOT_DEPTH = 26.0  # metres
_PATTERN = {Label.ROAD: "asphalt", Label.SIDEWALK: "slabs", Label.TERRAIN: "grass"}
_ROUGHNESS = {Label.ROAD: 0.005, Label.SIDEWALK: 0.005, Label.TERRAIN: 0.12}  # metres


@dataclass(frozen=True)
class Strip:
    """A level rectangle of ground, town frame, metres."""

    name: str
    label: Label
    x: tuple[float, float]
    y: tuple[float, float]
    height: float
    paint: Paint


@dataclass(frozen=True)
class Layout:
    strips: tuple[Strip, ...]
    x: tuple[float, float]  # where the street begins and ends
    lane: float  # y of the middle of the ego lane
    kerb: float  # y of the left kerb of the driving lanes
    crossing: tuple[float, float] | None  # x range of the side street
    length: float  # of the drive

    def named(self, name: str) -> list[Strip]:
        return [strip for strip in self.strips if strip.name == name]

    def lots(self, kind: str) -> list[Strip]:
        """Lots of one kind: "building", "park", "plaza" or "parking lot"."""
        return self.named(kind)


def lay_out(length: float, random: np.random.Generator) -> Layout:
    """A street around a drive of `length` metres from x = 0 along +x; traffic keeps to the right."""
    x = (-_BEHIND, length + _AHEAD)
    width = random.uniform(3.2, 3.8)
    crossing = None
    if random.random() < 0.75:
        start = random.uniform(0.1 * length, length + 30)
        crossing = (start, start + random.uniform(7, 9))
    paint = {label: _ground_paint(label, random) for label in _PATTERN}
    far = 400.0
    strips = [
        Strip(
            "ground",
            Label.TERRAIN,
            (x[0] - far, x[1] + far),
            (-far, far),
            -0.06,
            _ground_paint(Label.TERRAIN, random),
        ),
        Strip("road", Label.ROAD, x, (-width, width), 0.0, paint[Label.ROAD]),
    ]
    if crossing is not None:
        strips.append(Strip("side street", Label.ROAD, crossing, (-70.0, 70.0), -0.004, paint[Label.ROAD]))
    strips += _marks(x, width, crossing, random)
    for side in (-1.0, 1.0):
        strips += _side(x, side, width, crossing, paint, random)
    return Layout(tuple(strips), x, -width / 2, width, crossing, length)


def _ground_paint(label: Label, random: np.random.Generator) -> Paint:
    pattern = _PATTERN[label]
    if label is Label.TERRAIN and random.random() < 0.3:
        pattern = "soil"
    tile = float(
        {"asphalt": 4.0, "slabs": 3.0, "grass": 3.0, "soil": 4.0}[pattern] * random.uniform(0.8, 1.25)
    )
    return draw_paint(label, pattern, random, tile=(tile, tile), roughness=_ROUGHNESS[label], flat_top=False)


def _marks(
    x: tuple[float, float], width: float, crossing: tuple[float, float] | None, random: np.random.Generator
) -> list[Strip]:
    """Lane marks: thin bright strips of road that shine back a little."""
    paint = replace(
        draw_paint(Label.ROAD, "asphalt", random), colour=(0.7, 0.7, 0.66), accent=(0.4, 0.4, 0.38),
        reflectivity=random.uniform(0.5, 1.0), flat_top=False,
    )  # fmt: skip

    def mark(xs: tuple[float, float], ys: tuple[float, float]) -> Strip:
        return Strip("mark", Label.ROAD, xs, ys, 0.004, paint)

    gap = crossing or (x[1] - 1.0, x[1])
    marks = []
    dash = random.uniform(2.0, 3.0)
    for start in np.arange(x[0] + 50, x[1] - 40, dash * random.uniform(2.2, 3.0)):
        if not gap[0] - dash < start < gap[1]:
            marks.append(mark((float(start), float(start + dash)), (-0.07, 0.07)))
    for edge in (-1, 1) if random.random() < 0.6 else ():
        low, high = sorted((edge * (width - 0.2), edge * (width - 0.08)))
        marks.append(mark((x[0], gap[0]), (low, high)))
        if crossing is not None:
            marks.append(mark((gap[1], x[1]), (low, high)))
    if crossing is not None and random.random() < 0.7:
        for y in np.arange(-width + 0.5, width - 0.6, 1.1):
            marks.append(mark((gap[0] - 4.2, gap[0] - 1.6), (float(y), float(y) + 0.5)))
    return marks


def _side(
    x: tuple[float, float], side: float, width: float, crossing: tuple[float, float] | None,
    paint: dict[Label, Paint], random: np.random.Generator,
) -> list[Strip]:  # fmt: skip
    """All ground on one side of the road, from the kerb outwards."""
    kerb = random.uniform(0.10, 0.18)
    rows: list[tuple[str, Label, float, float]] = []  # name, label, width, height
    if random.random() < 0.65:
        rows.append(("parking", Label.ROAD, random.uniform(2.3, 2.7), 0.002))
    pavement = ("pavement", Label.SIDEWALK, random.uniform(1.8, 3.6), kerb)
    verge = ("verge", Label.TERRAIN, random.uniform(1.2, 2.8), kerb + random.uniform(-0.05, 0.10))
    order = random.random()
    rows += [verge, pavement] if order < 0.4 else [pavement, verge] if order < 0.6 else [pavement]

    blocks = [x] if crossing is None else [(x[0], crossing[0]), (crossing[1], x[1])]
    strips = []
    for block in blocks:
        y = width
        for name, label, wide, height in rows:
            strips.append(_strip(name, label, block, side, y, y + wide, height, paint[label]))
            y += wide
        strips += _lots(block, side, y, kerb, paint, random)
    return strips


def _lots(
    block: tuple[float, float],
    side: float,
    y: float,
    kerb: float,
    paint: dict[Label, Paint],
    random: np.random.Generator,
) -> list[Strip]:
    """Splits the ground behind the pavement of one block in lots."""
    lots = []
    x = block[0]
    while x < block[1] - 4:
        end = min(x + random.uniform(10, 26), block[1])
        kind = random.choice(["building", "park", "plaza", "parking lot"], p=[0.66, 0.16, 0.08, 0.10])
        label = {"plaza": Label.SIDEWALK, "parking lot": Label.ROAD}.get(kind, Label.TERRAIN)
        paved_yard = kind == "building" and random.random() < 0.35
        if paved_yard:
            label = Label.SIDEWALK
        height = {
            Label.ROAD: 0.02,
            Label.SIDEWALK: kerb + 0.002,
            Label.TERRAIN: kerb + random.uniform(-0.06, 0.20),
        }[label]
        ground = paint[label] if label is not Label.TERRAIN else _ground_paint(label, random)
        depth = 15.0 if kind == "parking lot" else _LOT_DEPTH
        lots.append(_strip(str(kind), label, (x, end), side, y, y + depth, height, ground))
        x = end
    return lots


def _strip(
    name: str,
    label: Label,
    x: tuple[float, float],
    side: float,
    near: float,
    far: float,
    height: float,
    paint: Paint,
) -> Strip:
    y = (near, far) if side > 0 else (-far, -near)
    return Strip(name, label, x, y, height, paint)
