"""Sweeps: one block of a student that stands for many, each with a name of its own.

    students:
      wi:
        sweep:
          network.width: [96, 256]
          pretrain:
            short: {epochs: 10}
            long: {epochs: 49, batch: 8}
        ...

stands for wi-width96-short, wi-width96-long, wi-width256-short and wi-width256-long: all values with all values, in the
order in which they are written. A list's values are named by their key, a mapping's by its own names.
"""

from __future__ import annotations

import re
from copy import deepcopy
from itertools import product
from typing import Any

MOST = 1000
"""Students of one sweep; more are a slip of the pen."""

Axis = list[tuple[str, Any]]


def expand_sweeps(students: dict[str, Any]) -> dict[str, Any]:
    """The blocks of all students by name; those without `sweep` as they are.

    Raises:
        ValueError: for an axis without values, two students of one name, values that cannot be named, or a key that
            the sweep gives beside one inside it.
    """
    expanded: dict[str, Any] = {}
    for name, block in students.items():
        for own_name, own in _expand(name, block):
            if own_name in expanded:
                raise ValueError(f"students.{name}.sweep: there are two students named {own_name}")
            expanded[own_name] = own
    return expanded


def _expand(name: str, block: Any) -> list[tuple[str, Any]]:
    if not isinstance(block, dict) or block.get("sweep") is None:
        return [(name, block)]
    where, sweep = f"students.{name}.sweep", block["sweep"]
    if not isinstance(sweep, dict) or not sweep:
        raise ValueError(
            f"{where}: give a mapping from keys to their values, for instance network.width: [96, 256]"
        )
    for key in sweep:
        inner = [other for other in sweep if str(other).startswith(f"{key}.")]
        if inner:
            raise ValueError(
                f"{where}: {key} and {inner[0]} sweep the same block; write both into the values of {key}"
            )
    axes = {str(key): _axis(where, str(key), values) for key, values in sweep.items()}
    count = 1
    for axis in axes.values():
        count *= len(axis)
    if count > MOST:
        raise ValueError(f"{where} stands for {count} students; at most {MOST} are taken")
    plain = {key: value for key, value in block.items() if key != "sweep"}
    return [
        (
            "-".join([name, *(label for label, _ in chosen)]),
            _with(plain, dict(zip(axes, (value for _, value in chosen), strict=True)), where),
        )
        for chosen in product(*axes.values())
    ]


def _axis(where: str, key: str, values: Any) -> Axis:
    """Names and values of one key."""
    if isinstance(values, dict) and values:
        return [(str(label), value) for label, value in values.items()]
    if not isinstance(values, list) or not values:
        raise ValueError(f"{where}.{key}: give a list of values, or a mapping from names to values")
    last = key.rsplit(".", 1)[-1]
    return [(_label(f"{where}.{key}", last, value), value) for value in values]


def _label(where: str, key: str, value: Any) -> str:
    if isinstance(value, dict | list):
        raise ValueError(f"{where}: {value} has no short name; give names: {{{key}A: {value}, ...}}")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    # Names of students are parts of paths: 1e-3 may stay, 0.5 becomes 0p5.
    text = re.sub(r"[^A-Za-z0-9_-]", "", text.replace(".", "p").replace("+", ""))
    return text if isinstance(value, str) else f"{key}{text}"


def _with(block: dict[str, Any], chosen: dict[str, Any], where: str) -> dict[str, Any]:
    """A copy of the block with these values; a mapping is merged into the block's own."""
    out = deepcopy(block)
    for key, value in chosen.items():
        *outer, last = key.split(".")
        inside = out
        for part in outer:
            inside = inside.setdefault(part, {})
            if not isinstance(inside, dict):
                raise ValueError(f"{where}.{key}: {part} is no block")
        if isinstance(value, dict) and isinstance(inside.get(last), dict):
            value = {**inside[last], **value}
        inside[last] = value
    return out
