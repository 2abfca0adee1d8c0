"""Which layer of a teacher is read, as the config says it: where, and what there.

last                     output of the last block, before the final norm, prefix rows dropped
last normed              the same after the network's final norm
last keys                keys of the last attention, heads side by side (also: queries, values)
block 9, block 9 keys    the same of another block, counted from 0
last maskclip            MaskCLIP's value path of the last block, after the final norm
last maskclip projected  the same in CLIP's joint space of images and text
stage 3                  output of a stage of a convnet, counted from 0 as timm's features_only does
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

What = Literal["output", "normed", "queries", "keys", "values", "maskclip", "maskclip projected"]

_LAYER = re.compile(
    r"(?:(?P<last>last)|block (?P<block>\d+)|stage (?P<stage>\d+))"
    r"(?: (?P<what>output|normed|queries|keys|values|maskclip projected|maskclip))?"
)
HOW_TO_SAY = (
    "write `last` or `block N`, alone or with `keys`, `queries` or `values`; `last normed`; `last maskclip` or "
    "`last maskclip projected`; or, for a convnet, `stage N`"
)


@dataclass(frozen=True)
class Layer:
    """Where a teacher is read and what is read there.

    Attributes:
        where: `block` of a ViT or `stage` of a convnet.
        number: of the block or stage, from 0; None for the last block.
        what: is read there; a stage gives its output.
    """

    where: Literal["block", "stage"]
    number: int | None
    what: What

    def __str__(self) -> str:
        place = "last" if self.number is None else f"{self.where} {self.number}"
        return place if self.what == "output" else f"{place} {self.what}"


def parse_layer(text: str) -> Layer:
    """The layer that a text names.

    >>> str(parse_layer("block 9 keys"))
    'block 9 keys'
    >>> str(parse_layer("last output"))
    'last'

    Raises:
        ValueError: saying what can be written.
    """
    match = _LAYER.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} names no layer; {HOW_TO_SAY}")
    what: What = match["what"] or "output"  # type: ignore[assignment]
    if match["stage"] is not None:
        if what != "output":
            raise ValueError(f"{text!r}: a stage of a convnet has no {what}; write `stage {match['stage']}`")
        return Layer("stage", int(match["stage"]), "output")
    if match["block"] is not None and what in ("normed", "maskclip", "maskclip projected"):
        raise ValueError(f"{text!r}: {what} is read at the last block; write `last {what}`")
    return Layer("block", int(match["block"]) if match["block"] is not None else None, what)
