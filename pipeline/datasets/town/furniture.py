"""The things that stand in a town, each built of a few primitives and painted by chance.

Every function adds one instance to the builder. `at` is (x, y) in metres, `z` the height of the ground
there, `yaw` radians. Sizes are those of real things; patterns belong to what a thing is made of, colours
to nothing at all.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.datasets.town.palette import draw_colour, shade
from pipeline.datasets.town.primitives import Builder, Label, Paint, Shape

Place = tuple[float, float]


def draw_paint(label: Label, pattern: str, random: np.random.Generator, **choices: Any) -> Paint:
    """A paint of a colour, an accent and a reflectivity by chance, the last from one range for all labels."""
    colour = draw_colour(label, random)
    accent = (
        draw_colour(label, random)
        if random.random() < 0.3
        else shade(colour, random.choice([0.35, 0.5, 1.9]))
    )
    return Paint(
        pattern=pattern, colour=colour, accent=accent, reflectivity=float(np.exp(random.uniform(-2.3, -0.2))),
        offset=(float(random.random()), float(random.random())), **choices,
    )  # fmt: skip


def moved(at: Place, yaw: float, forward: float, left: float = 0.0) -> Place:
    """The place `forward` and `left` metres from `at`, in the frame of something that heads along `yaw`."""
    c, s = math.cos(yaw), math.sin(yaw)
    return at[0] + c * forward - s * left, at[1] + s * forward + c * left


def _wheels(
    builder: Builder, label: Label, paint: Paint, at: Place, z: float, yaw: float,
    axles: list[float], track: float, radius: float,
) -> None:  # fmt: skip
    for axle in axles:
        for side in (-track / 2, track / 2):
            place = moved(at, yaw, axle, side)
            builder.add(
                Shape.ELLIPSOID, label, paint, at=place, z=z, size=(2 * radius, 0.2, 2 * radius), yaw=yaw
            )


def car(builder: Builder, at: Place, z: float, yaw: float, random: np.random.Generator) -> None:
    """A hatchback, saloon or van: body, cabin, four wheels; about 4.4 x 1.8 x 1.5 m."""
    builder.new_instance()
    van = random.random() < 0.25
    length, width = random.uniform(3.8, 4.8), random.uniform(1.7, 1.9)
    sill, shoulder, roof = (
        0.24,
        random.uniform(0.82, 0.95),
        random.uniform(1.75, 2.0) if van else random.uniform(1.4, 1.55),
    )
    cabin_length = length * (random.uniform(0.7, 0.8) if van else random.uniform(0.48, 0.6))
    body = draw_paint(Label.CAR, "bodywork", random, tile=(length, shoulder - sill), gloss=0.5)
    body = _aligned(body)
    dark = shade(body.colour, 0.15) if random.random() < 0.5 else (0.04, 0.045, 0.05)
    glass = Paint(
        "cabin",
        body.colour,
        dark,
        tile=(cabin_length / 2, roof - shoulder),
        reflectivity=0.5 * body.reflectivity,
        gloss=0.8,
    )
    rubber = Paint("plain", (0.04, 0.04, 0.04), (0.12, 0.12, 0.12), reflectivity=0.12)
    builder.add(Shape.BOX, Label.CAR, body, at=at, z=z + sill, size=(length, width, shoulder - sill), yaw=yaw)
    back = moved(at, yaw, -random.uniform(0.02, 0.1) * length)
    size = (cabin_length, width * 0.88, roof - shoulder)
    builder.add(Shape.BOX, Label.CAR, glass, at=back, z=z + shoulder, size=size, yaw=yaw)
    _wheels(builder, Label.CAR, rubber, at, z, yaw, [-0.31 * length, 0.31 * length], width - 0.1, 0.32)


def truck(builder: Builder, at: Place, z: float, yaw: float, random: np.random.Generator) -> None:
    """A lorry: cab, windscreen, cargo box, chassis, six wheels; 7 to 10 m long."""
    builder.new_instance()
    cab, cargo, width = random.uniform(1.7, 2.1), random.uniform(4.5, 7.0), random.uniform(2.2, 2.5)
    length = cab + cargo + 0.3
    floor, top, cab_top = 1.0, random.uniform(3.0, 3.7), random.uniform(2.4, 2.9)
    front, middle = moved(at, yaw, (length - cab) / 2), moved(at, yaw, (cargo - length) / 2)
    body = _aligned(draw_paint(Label.TRUCK, "bodywork", random, tile=(cab, 1.1), gloss=0.4))
    glass = Paint(
        "cabin", body.colour, (0.05, 0.05, 0.06), tile=(cab, cab_top - 1.5), gloss=0.8, reflectivity=0.2
    )
    load = draw_paint(
        Label.TRUCK, str(random.choice(["ribs", "ribs", "plain"])), random, tile=(4.0, top - floor), gloss=0.1
    )
    frame = draw_paint(Label.TRUCK, "plain", random)
    add = builder.add
    add(Shape.BOX, Label.TRUCK, body, at=front, z=z + 0.4, size=(cab, width * 0.94, 1.1), yaw=yaw)
    add(
        Shape.BOX,
        Label.TRUCK,
        glass,
        at=front,
        z=z + 1.5,
        size=(cab * 0.9, width * 0.92, cab_top - 1.5),
        yaw=yaw,
    )
    add(
        Shape.BOX,
        Label.TRUCK,
        _aligned(load),
        at=middle,
        z=z + floor,
        size=(cargo, width, top - floor),
        yaw=yaw,
    )
    add(Shape.BOX, Label.TRUCK, frame, at=at, z=z + 0.6, size=(length - 0.4, width * 0.5, 0.4), yaw=yaw)
    axles = [0.5 * length - 0.8, -0.5 * length + 1.2, -0.5 * length + 2.3]
    _wheels(builder, Label.TRUCK, frame, at, z, yaw, axles, width - 0.3, 0.48)


def _aligned(paint: Paint) -> Paint:
    """The paint with its pattern starting at the primitive's corner."""
    return replace(paint, offset=(0.0, 0.0))


def pedestrian(builder: Builder, at: Place, z: float, yaw: float, random: np.random.Generator) -> None:
    """Two legs in mid-stride, a torso, two arms, a head; 1.2 to 1.9 m tall."""
    builder.new_instance()
    scale = random.uniform(0.92, 1.1) if random.random() < 0.85 else random.uniform(0.65, 0.8)
    coat, trousers, skin = (
        draw_paint(Label.PEDESTRIAN, name, random, tile=(0.6, 0.6), roughness=0.01)
        for name in ("cloth", "cloth", "plain")
    )
    stride = random.uniform(0.05, 0.2) * scale
    for side, forward in ((0.09, stride), (-0.09, -stride)):
        place = moved(at, yaw, forward, side * scale)
        size = (0.17 * scale, 0.17 * scale, 0.86 * scale)
        builder.add(Shape.CYLINDER, Label.PEDESTRIAN, trousers, at=place, z=z, size=size)
        arm = moved(at, yaw, -forward * 0.8, side * 2.7 * scale)
        size = (0.13 * scale, 0.11 * scale, 0.66 * scale)
        builder.add(Shape.ELLIPSOID, Label.PEDESTRIAN, coat, at=arm, z=z + 0.78 * scale, size=size, yaw=yaw)
    size = (0.28 * scale, 0.46 * scale, 0.72 * scale)
    builder.add(Shape.ELLIPSOID, Label.PEDESTRIAN, coat, at=at, z=z + 0.78 * scale, size=size, yaw=yaw)
    size = (0.2 * scale, 0.17 * scale, 0.26 * scale)
    builder.add(Shape.ELLIPSOID, Label.PEDESTRIAN, skin, at=at, z=z + 1.48 * scale, size=size, yaw=yaw)


def tree(builder: Builder, at: Place, z: float, random: np.random.Generator, *, height: float) -> None:
    """A trunk under four to seven clumps of leaves."""
    builder.new_instance()
    bole = max(height * random.uniform(0.35, 0.5), 2.3)  # traffic passes below
    bark = draw_paint(Label.VEGETATION, "bark", random, tile=(1.0, 2.0), roughness=0.02)
    leaves = draw_paint(Label.VEGETATION, "leaves", random, tile=(2.2, 2.2), roughness=0.15)
    girth = random.uniform(0.2, 0.45)
    builder.add(Shape.CYLINDER, Label.VEGETATION, bark, at=at, z=z, size=(girth, girth, bole + 0.5))
    crown = height - bole
    turn = random.uniform(0, 2 * math.pi)
    clumps = int(random.integers(4, 8))
    for k in range(clumps):
        wide, tall = crown * random.uniform(0.42, 0.7), crown * random.uniform(0.4, 0.65)
        off = 0.0 if k == 0 else crown * random.uniform(0.2, 0.36)
        low = bole + (crown - tall) * (1.0 if k == 0 else random.uniform(0.0, 0.7))
        place = moved(at, turn + 2 * math.pi * k / clumps, off)
        builder.add(Shape.ELLIPSOID, Label.VEGETATION, leaves, at=place, z=z + low, size=(wide, wide, tall))


def bush(builder: Builder, at: Place, z: float, random: np.random.Generator) -> None:
    """One or two low clumps of leaves."""
    builder.new_instance()
    leaves = draw_paint(Label.VEGETATION, "leaves", random, tile=(1.6, 1.6), roughness=0.1)
    for _ in range(int(random.integers(1, 3))):
        wide, tall = random.uniform(0.8, 1.7), random.uniform(0.6, 1.4)
        place = moved(at, random.uniform(0, 6.28), random.uniform(0, 0.5))
        builder.add(Shape.ELLIPSOID, Label.VEGETATION, leaves, at=place, z=z - 0.15, size=(wide, wide, tall))


def hedge(builder: Builder, at: Place, z: float, length: float, random: np.random.Generator) -> None:
    """A clipped hedge along x."""
    builder.new_instance()
    leaves = draw_paint(Label.VEGETATION, "leaves", random, tile=(1.6, 1.6), roughness=0.08, flat_top=False)
    size = (length, random.uniform(0.6, 1.0), random.uniform(0.7, 1.5))
    builder.add(Shape.BOX, Label.VEGETATION, leaves, at=at, z=z, size=size)


def lamp_post(builder: Builder, at: Place, z: float, side: float, random: np.random.Generator) -> None:
    """A street lamp whose arm reaches 1.6 m over the road; side: +1 or -1, the y direction of the road."""
    builder.new_instance()
    metal = draw_paint(Label.POLE, "plain", random)
    tall, thick = random.uniform(6.0, 8.5), random.uniform(0.14, 0.24)
    builder.add(Shape.CYLINDER, Label.POLE, metal, at=at, z=z, size=(thick, thick, tall))
    builder.add(
        Shape.BOX, Label.POLE, metal, at=(at[0], at[1] + side * 0.8), z=z + tall - 0.15, size=(0.2, 1.8, 0.14)
    )


def sign_post(builder: Builder, at: Place, z: float, yaw: float, random: np.random.Generator) -> None:
    """A traffic sign or signal head on a pole; signs shine back at lidars."""
    builder.new_instance()
    metal = draw_paint(Label.POLE, "plain", random)
    tall = random.uniform(2.3, 3.2)
    builder.add(Shape.CYLINDER, Label.POLE, metal, at=at, z=z, size=(0.1, 0.1, tall))
    plate = draw_paint(Label.POLE, str(random.choice(["plain", "stripes"])), random, tile=(0.7, 0.7))
    plate = replace(plate, reflectivity=random.uniform(0.6, 1.6))
    size = (0.06, 0.65, 0.65) if random.random() < 0.7 else (0.3, 0.3, 0.85)
    builder.add(Shape.BOX, Label.POLE, plate, at=moved(at, yaw, 0.1), z=z + tall - 0.75, size=size, yaw=yaw)


def barriers(builder: Builder, at: Place, z: float, count: int, random: np.random.Generator) -> None:
    """A row of road barriers along x, foot and upper part; each 2 m long."""
    patterns = [str(random.choice(["stripes", "plain", "planks"])) for _ in range(2)]
    paints = [draw_paint(Label.BARRIER, name, random, tile=(1.5, 1.5)) for name in patterns]
    tall = random.uniform(0.8, 1.1)
    for k in range(count):
        builder.new_instance()
        place = (at[0] + 2.1 * k, at[1] + random.uniform(-0.08, 0.08))
        paint, turn = paints[k % 2], random.uniform(-0.05, 0.05)
        builder.add(Shape.BOX, Label.BARRIER, paint, at=place, z=z, size=(2.0, 0.55, 0.3), yaw=turn)
        builder.add(
            Shape.BOX, Label.BARRIER, paint, at=place, z=z + 0.3, size=(2.0, 0.26, tall - 0.3), yaw=turn
        )


def building(
    builder: Builder, at: Place, size: tuple[float, float], front: float, random: np.random.Generator
) -> None:
    """A house or block over a base of `size` (along x, along y); front: +1 or -1, the y direction it faces.

    Walls, a roof slab that juts out, a plinth or porch, sometimes a second, taller volume behind.
    """
    builder.new_instance()
    wall_pattern = str(random.choice(["facade", "facade", "bricks", "glass_wall", "planks", "plain"]))
    storey = random.uniform(2.8, 3.6)
    tile = {"facade": (6.0, 2 * storey), "glass_wall": (8.0, 2 * storey), "bricks": (2.4, 2.4)}.get(
        wall_pattern, (3.0, 3.0)
    )
    wall = draw_paint(Label.BUILDING, wall_pattern, random, tile=tile, roughness=0.01)
    if wall_pattern in ("facade", "glass_wall") and random.random() < 0.7:
        wall = replace(wall, accent=shade((0.1, 0.115, 0.13), random.uniform(0.5, 1.6)))
    trim = draw_paint(Label.BUILDING, "plain", random)
    tall = storey * int(random.integers(1, 6)) + 0.8
    length, depth = size
    builder.add(Shape.BOX, Label.BUILDING, wall, at=at, z=-0.2, size=(length, depth, tall + 0.2))
    builder.add(Shape.BOX, Label.BUILDING, trim, at=at, z=tall, size=(length + 0.6, depth + 0.6, 0.35))
    face = at[1] + front * depth / 2
    if wall_pattern not in ("facade", "glass_wall"):  # walls without windows get a few
        pane = Paint(
            "cabin",
            shade(trim.colour, 0.8),
            (0.07, 0.08, 0.09),
            tile=(1.5, 1.5),
            gloss=0.6,
            reflectivity=0.15,
        )
        for x in np.arange(at[0] - length / 2 + 2.0, at[0] + length / 2 - 1.5, random.uniform(3.2, 4.6)):
            for storey_floor in np.arange(1.0, min(tall - 1.8, 7.0), storey):
                builder.add(
                    Shape.BOX,
                    Label.BUILDING,
                    pane,
                    at=(float(x), face),
                    z=float(storey_floor),
                    size=(1.5, 0.12, 1.5),
                )
    door = (at[0] + random.uniform(-0.3, 0.3) * length, face)
    builder.add(Shape.BOX, Label.BUILDING, trim, at=door, z=0.0, size=(1.6, 0.5, 2.4))
    if random.random() < 0.4:
        upper = draw_paint(Label.BUILDING, "facade", random, tile=(6.0, 2 * storey))
        shift = random.uniform(-0.2, 0.2) * length
        builder.add(
            Shape.BOX, Label.BUILDING, upper, at=(at[0] + shift, at[1] - front * 1.5), z=tall,
            size=(length * 0.55, depth * 0.6, storey * int(random.integers(1, 4))),
        )  # fmt: skip
