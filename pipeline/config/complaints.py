"""What pydantic finds wrong with a config, in the words of its author: keys as they were written, and what to write instead."""

from __future__ import annotations

from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.config.blocks import Block, block_in
from pipeline.config.model import Config

SHOWN = 20
"""Complaints that are printed."""
LONGEST = 400
"""Characters of a value or a complaint that are printed."""

Place = tuple[int | str, ...]


def explain(error: ValidationError, path: Path, raw: Any, text: str) -> str:
    """All complaints about a config, a line each.

    Args:
        raw: what was checked. text: the file it was read from.
    """
    lines = _complaints(error, raw, text)
    shown = lines[:SHOWN] + ([f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else [])
    return "\n".join([f"config {path}: {len(lines)} value(s) cannot be used:", *shown])


def short(text: str) -> str:
    """A message names a value; it does not repeat all of it."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ... ({len(text):,} characters)"


def _complaints(error: ValidationError, raw: Any, text: str) -> list[str]:
    """One for each place: where a key takes values of several kinds, pydantic complains once for each kind."""
    by_place: dict[Place, list[Any]] = {}
    kinds: dict[Place, bool] = {}
    for item in error.errors():
        place = _as_written(item["loc"], raw, item["type"])
        by_place.setdefault(place, []).append(item)
        kinds[place] = kinds.get(place, True) and len(place) < len([p for p in item["loc"] if p != "[key]"])
    ambiguous = [place for place in by_place if kinds[place]]
    lines = []
    for place, items in by_place.items():
        if kinds[place] and any(
            len(other) > len(place) and other[: len(place)] == place for other in ambiguous
        ):
            continue  # a value within one of the kinds is wrong: that kind was meant
        where = ".".join(short(str(part)) for part in place) or "the whole file"
        lines.append(f"  {where}: {_complaint(place, items, text)}")
    return lines


def _complaint(place: Place, items: list[Any], text: str) -> str:
    first = items[0]
    if first["type"] == "extra_forbidden":
        known = _known_keys(place[:-1])
        near = get_close_matches(str(place[-1]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the keys here are: {', '.join(known)}"
        return f"there is no such key; {hint}"
    if first["type"] == "missing":
        return "is needed and not there"
    messages = dict.fromkeys(item["msg"].removeprefix("Value error, ") for item in items)
    message = short("; or: ".join(messages).replace("a valid dictionary", "a mapping"))
    value = first["input"]
    if isinstance(value, (dict, BaseModel)):
        return message
    wants_text = any(item["type"] == "string_type" for item in items)
    if wants_text and isinstance(value, bool | int | float | date):  # a time of day is a date, too
        written = _written(place, text) or str(value)
        got = f"the date {value}" if isinstance(value, date) else repr(value)
        return f"{message} (got {short(got)}); put it in quotes: '{short(written)}'"
    return f"{message} (got {short(repr(value))})"


def _as_written(location: Place, raw: Any, kind: str) -> Place:
    """Of where a complaint is, what the author wrote: pydantic names the kinds of values that a key may take between."""
    place: list[int | str] = []
    inside = raw
    for number, part in enumerate(location):
        last = number == len(location) - 1
        if isinstance(inside, list):
            inside = dict(enumerate(inside))
        if isinstance(inside, dict) and part in inside:
            inside = inside[part]
        elif not (last and kind == "missing"):
            continue
        place.append(part)
    return tuple(place)


def _written(place: Place, text: str) -> str | None:
    """How a value stands in the file; None where it is not there at this place (a sweep, a merge key)."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    for part in place:
        if isinstance(node, yaml.MappingNode):
            node = next((inner for key, inner in node.value if key.value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        else:
            return None
    return str(node.value) if isinstance(node, yaml.ScalarNode) else None


def _known_keys(location: Place) -> list[str]:
    """The keys of the block at a location of the model."""
    block: type[Block] | None = Config
    named = False
    for part in location:
        if named:  # the name of a block, which may be that of a key, too
            named = False
        elif block is not None and part in block.model_fields:
            annotation = block.model_fields[str(part)].annotation
            named = get_origin(annotation) is dict
            block = block_in(annotation)
    return sorted(block.model_fields) if block is not None else []
