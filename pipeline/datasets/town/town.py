"""A stretch of town from a seed: a street along x with pavements, verges, lots, and all that stands there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.common.random import generator
from pipeline.datasets.town import furniture
from pipeline.datasets.town.layout import Layout, Strip, lay_out
from pipeline.datasets.town.primitives import Builder, Primitives, Shape
from pipeline.datasets.town.textures import PATTERNS, lookup

_EGO_HALF_WIDTH = 1.3  # metres kept free on either side of the ego lane's middle
_CLEARANCE = 9.0  # metres kept free of traffic before and behind the drive


@dataclass(frozen=True)
class Looks:
    """The paints of all P primitives as arrays (see primitives.Paint)."""

    pattern: np.ndarray  # (P,) int32, place in textures.PATTERNS
    colour: np.ndarray  # (P, 3) float32, linear RGB
    accent: np.ndarray  # (P, 3) float32
    tile: np.ndarray  # (P, 2) float32, metres
    offset: np.ndarray  # (P, 2) float32, repeats
    reflectivity: np.ndarray  # (P,) float32
    roughness: np.ndarray  # (P,) float32, metres
    gloss: np.ndarray  # (P,) float32
    flat_top: np.ndarray  # (P,) bool


@dataclass(frozen=True)
class Town:
    """A town that stands still; only the ego car and its sensors move."""

    primitives: Primitives
    looks: Looks
    lane: float  # y of the middle of the ego lane, metres; the drive goes along +x from x = 0
    length: float  # metres of drive it was laid out for
    stains: tuple[float, float]  # where in the stain pattern this town begins

    def weather(self, point: np.ndarray) -> np.ndarray:
        """How dirt and wear brighten or darken a place, about 0.7 to 1.3; point: (3, N) metres."""
        x, y, z = point
        u, v = (x + 0.6 * z) / 17.0 + self.stains[0], (y + 0.8 * z) / 17.0 + self.stains[1]
        texels = np.full(len(x), 1.0, np.float32)
        return 0.7 + 0.6 * lookup(np.int32(PATTERNS["blotches"]), u, v, texels)


def build_town(*seed: str | int, length: float = 40.0) -> Town:
    """The town of a seed (names and numbers), around a drive of `length` metres."""
    random = generator(*seed, "town")
    plan = lay_out(length, random)
    builder = Builder()
    for strip in plan.strips:
        _pave(builder, strip)
    ground = _Ground(plan, builder, random)
    ground.buildings()
    ground.traffic(length)
    ground.kerbside()
    ground.street_furniture(length)
    ground.gardens()
    ground.people(length)
    primitives = builder.build()
    return Town(primitives, _looks(primitives), plan.lane, length, (random.random(), random.random()))


def _pave(builder: Builder, strip: Strip) -> None:
    builder.new_instance()
    (x0, x1), (y0, y1) = strip.x, strip.y
    size = (x1 - x0, y1 - y0, strip.height + 0.5)
    builder.add(Shape.BOX, strip.label, strip.paint, at=((x0 + x1) / 2, (y0 + y1) / 2), z=-0.5, size=size)


def _looks(primitives: Primitives) -> Looks:
    paints = primitives.paints
    numbers = ("colour", "accent", "tile", "offset", "reflectivity", "roughness", "gloss")
    return Looks(
        pattern=np.array([PATTERNS[paint.pattern] for paint in paints], np.int32),
        flat_top=np.array([paint.flat_top for paint in paints], bool),
        **{name: np.array([getattr(paint, name) for paint in paints], np.float32) for name in numbers},
    )


class _Ground:
    """Puts things on a layout where there is room for them."""

    def __init__(self, plan: Layout, builder: Builder, random: np.random.Generator) -> None:
        self.plan, self.builder, self.random = plan, builder, random
        self.taken: list[tuple[float, float, float]] = []  # x, y, radius

    def free(self, x: float, y: float, radius: float) -> bool:
        """Takes a disc of ground if nothing stands on it and it keeps clear of the ego lane."""
        if (
            abs(y - self.plan.lane) < _EGO_HALF_WIDTH + radius
            and -_CLEARANCE < x < self.plan.length + _CLEARANCE
        ):
            return False
        if any((x - a) ** 2 + (y - b) ** 2 < (radius + r) ** 2 for a, b, r in self.taken):
            return False
        self.taken.append((x, y, radius))
        return True

    def buildings(self) -> None:
        for lot in self.plan.lots("building"):
            (x0, x1), (y0, y1) = lot.x, lot.y
            front = -1.0 if y0 > 0 else 1.0
            near = y0 if front < 0 else y1
            setback, depth = self.random.uniform(0.3, 4.0), self.random.uniform(8, 13)
            length = (x1 - x0) * self.random.uniform(0.75, 0.96)
            middle = (x0 + x1) / 2, near - front * (setback + depth / 2)
            furniture.building(self.builder, middle, (length, depth), front, self.random)
            if setback > 1.6 and self.random.random() < 0.5:
                y = near - front * 0.6
                self._hedge(middle[0] - length * 0.22, y, length * 0.4, lot.height)

    def _hedge(self, x: float, y: float, length: float, height: float) -> None:
        furniture.hedge(self.builder, (x, y), height, length, self.random)
        self.taken += [(float(a), y, 0.6) for a in np.arange(x - length / 2, x + length / 2, 0.8)]

    def traffic(self, length: float) -> None:
        """Vehicles under way: the oncoming lane, the ego lane far ahead and behind, the side street."""
        random = self.random
        x = self.plan.x[0] + random.uniform(0, 20)
        while x < self.plan.x[1]:
            self._vehicle(x, -self.plan.lane + random.uniform(-0.2, 0.2), np.pi, 0.0, share_of_trucks=0.2)
            x += random.uniform(14, 34)
        for x in (-random.uniform(18, 28), length + random.uniform(18, 26), length + random.uniform(38, 60)):
            self._vehicle(x, self.plan.lane, 0.0, 0.0, share_of_trucks=0.25)
        if self.plan.crossing is not None:
            middle = sum(self.plan.crossing) / 2
            for y in (
                random.uniform(9, 14),
                random.uniform(22, 35),
                -random.uniform(9, 14),
                -random.uniform(22, 35),
            ):
                side = 1.8 if y > 0 else -1.8
                self._vehicle(middle - side, y, -np.pi / 2 if y > 0 else np.pi / 2, 0.0, share_of_trucks=0.2)

    def _vehicle(self, x: float, y: float, yaw: float, z: float, share_of_trucks: float) -> None:
        big = self.random.random() < share_of_trucks
        if not all(self._room_for_vehicle(x, y, yaw, big)):
            return
        yaw += self.random.uniform(-0.03, 0.03)
        (furniture.truck if big else furniture.car)(self.builder, (x, y), z, yaw, self.random)

    def _room_for_vehicle(self, x: float, y: float, yaw: float, big: bool) -> list[bool]:
        radius, reach = (1.3, (-3.9, -1.3, 1.3, 3.9)) if big else (1.0, (-1.5, 0.0, 1.5))
        places = [furniture.moved((x, y), yaw, along) for along in reach]
        before = len(self.taken)
        room = []
        for place in places:
            stood = self.taken[before:]
            del self.taken[before:]  # the discs of one vehicle overlap each other
            room.append(self.free(*place, radius))
            self.taken += stood
        if not all(room):
            del self.taken[before:]
        return room

    def kerbside(self) -> None:
        """Parked vehicles and road works along the kerb, cars in the parking lots."""
        random = self.random
        for strip in self.plan.named("parking"):
            x, y = strip.x[0] + random.uniform(3, 8), (strip.y[0] + strip.y[1]) / 2
            while x < strip.x[1] - 5:
                what = random.random()
                if what < 0.55:
                    self._vehicle(x, y, 0.0 if y < 0 else np.pi, strip.height, share_of_trucks=0.15)
                    x += random.uniform(6, 9)
                elif what < 0.7:
                    self._barriers(x, y, int(random.integers(3, 7)), strip.height)
                    x += 16
                else:
                    x += random.uniform(5, 12)
        for lot in self.plan.lots("parking lot"):
            for x in np.arange(lot.x[0] + 1.6, lot.x[1] - 1.2, 2.7):
                for y in (lot.y[0] + 3.2, lot.y[1] - 3.2):
                    if random.random() < 0.6:
                        self._vehicle(float(x), float(y), np.pi / 2, lot.height, share_of_trucks=0.05)

    def _barriers(self, x: float, y: float, count: int, z: float) -> None:
        if all(self.free(x + 2.1 * k, y, 0.9) for k in range(count)):
            furniture.barriers(self.builder, (x, y), z, count, self.random)

    def street_furniture(self, length: float) -> None:
        """Lamps, signs, street trees and more barriers, on pavements and verges."""
        random = self.random
        for strip in self.plan.named("pavement") + self.plan.named("verge"):
            side = -1.0 if strip.y[0] > 0 else 1.0
            kerb = strip.y[0] if side < 0 else strip.y[1]
            y = kerb - side * min(0.5, (strip.y[1] - strip.y[0]) / 2)
            lamps, trees = random.uniform(0, 22), random.uniform(0, 9)
            leafy = random.random() < 0.75
            while lamps < strip.x[1] - strip.x[0]:
                if self.free(strip.x[0] + lamps, y, 0.3):
                    furniture.lamp_post(self.builder, (strip.x[0] + lamps, y), strip.height, side, random)
                lamps += random.uniform(18, 30)
            while leafy and trees < strip.x[1] - strip.x[0]:
                if self.free(strip.x[0] + trees, y, 0.6):
                    place = (strip.x[0] + trees, y)
                    furniture.tree(self.builder, place, strip.height, random, height=random.uniform(3.8, 6.5))
                trees += random.uniform(8, 16)
            for _ in range(2):
                x = random.uniform(max(strip.x[0], -20), max(min(strip.x[1], length + 40), strip.x[0] + 1))
                if self.free(x, y, 0.3):
                    furniture.sign_post(
                        self.builder, (x, y), strip.height, random.choice([0.0, np.pi]), random
                    )
            if random.random() < 0.3 and strip.x[1] - strip.x[0] > 30:
                x = random.uniform(strip.x[0], strip.x[1] - 14)
                self._barriers(x, y, int(random.integers(3, 6)), strip.height)

    def gardens(self) -> None:
        """Trees and bushes on the unpaved lots, and some along the fronts."""
        random = self.random
        for lot in self.plan.lots("park") + self.plan.lots("building"):
            park = lot.name == "park"
            (x0, x1), (y0, y1) = lot.x, lot.y
            for _ in range(int((x1 - x0) * (0.35 if park else 0.1))):
                x = random.uniform(x0 + 1, x1 - 1)
                into = random.uniform(0.8, 14 if park else 1.6)
                y = y0 + into if y0 > 0 else y1 - into
                big = park and random.random() < 0.6
                if self.free(x, y, 1.2 if big else 0.7):
                    if big:
                        furniture.tree(self.builder, (x, y), lot.height, random, height=random.uniform(4, 9))
                    else:
                        furniture.bush(self.builder, (x, y), lot.height, random)

    def people(self, length: float) -> None:
        random = self.random
        places = self.plan.named("pavement") + self.plan.lots("plaza") + self.plan.lots("park")
        for _ in range(46):
            strip = places[random.integers(len(places))]
            x0, x1 = max(strip.x[0], -15.0), min(strip.x[1], length + 35.0)
            if x1 - x0 < 1:
                continue
            x, y = random.uniform(x0, x1), random.uniform(strip.y[0] + 0.3, strip.y[1] - 0.3)
            if abs(y) < 18 and self.free(x, y, 0.4):
                furniture.pedestrian(self.builder, (x, y), strip.height, random.uniform(0, 2 * np.pi), random)
        kerb_y = self.plan.kerb + 0.6
        if self.plan.crossing is not None and self.free(self.plan.crossing[0] - 3, kerb_y, 0.4):
            furniture.pedestrian(self.builder, (self.plan.crossing[0] - 3, kerb_y), 0.0, np.pi / 2, random)
