"""A student's tensors under the names of the authors' code (github.com/valeoai/ScaLR and WaffleIron), and back.

The numbers are the same; theirs carry trailing dimensions of 1, for their maps are convolutions:

    ours                                         theirs
    backbone.embedding.norm.*                    embed.norm.*
    backbone.embedding.point.*                   embed.conv1.*
    backbone.embedding.neighbour_norm.*          embed.conv2.0.*
    backbone.embedding.neighbour_in.weight       embed.conv2.1.weight
    backbone.embedding.neighbour_hidden_norm.*   embed.conv2.2.*
    backbone.embedding.neighbour_out.weight      embed.conv2.4.weight
    backbone.embedding.merge.*                   embed.final.*
    backbone.spatial_mix.D.{norm,conv_in,conv_out}.*, .scale       waffleiron.spatial_mix.D.{norm,ffn.0,ffn.2}.*, .scale.weight
    backbone.channel_mix.D.{norm,linear_in,linear_out}.*, .scale   waffleiron.channel_mix.D.{norm,mlp.0,mlp.2}.*, .scale.weight
    head.linear.*                                classif.*                     distilled, ScaLR
    head.linear_in.*, head.linear_out.*          classif.0.*, classif.2.*      distilled, ScaLR+
    probe.norm.*, probe.linear.*                 classif.0.*, classif.1.*      probed or finetuned, both
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from cache_schemas.errors import BadInput
from pipeline.students.heads import LinearHead, MlpHead, ProbeHead
from pipeline.students.loading import Shapes, misfits
from pipeline.students.packed import FEATURES
from pipeline.students.waffleiron import Norm, WaffleIron

Head = Literal["linear", "mlp", "classes"]

_MODULES = {
    "backbone.embedding.norm": "embed.norm",
    "backbone.embedding.point": "embed.conv1",
    "backbone.embedding.neighbour_norm": "embed.conv2.0",
    "backbone.embedding.neighbour_in": "embed.conv2.1",
    "backbone.embedding.neighbour_hidden_norm": "embed.conv2.2",
    "backbone.embedding.neighbour_out": "embed.conv2.4",
    "backbone.embedding.merge": "embed.final",
}
_PARTS = {
    "norm": "norm",
    "conv_in": "ffn.0",
    "conv_out": "ffn.2",
    "linear_in": "mlp.0",
    "linear_out": "mlp.2",
}
_HEADS: dict[Head, dict[str, str]] = {
    "linear": {"head.linear": "classif"},
    "mlp": {"head.linear_in": "classif.0", "head.linear_out": "classif.2"},
    "classes": {"probe.norm": "classif.0", "probe.linear": "classif.1"},
}
_MIX = re.compile(r"backbone\.(spatial_mix|channel_mix)\.(\d+)\.(.+)")


@dataclass(frozen=True)
class Described:
    """What network a state dict of theirs holds, by its names and shapes. The activation has no tensor, so it is unknown.

    Attributes:
        head: `linear` or `mlp` towards a teacher; `classes` of a probed or finetuned network.
        out: channels of the teacher, or classes.
        head_width: between the two layers of `mlp`.
    """

    width: int
    depth: int
    norm: Norm
    head: Head
    out: int
    head_width: int | None

    def __str__(self) -> str:
        between = f" through {self.head_width} channels" if self.head_width else ""
        to = f"{self.out} classes" if self.head == "classes" else f"a teacher's {self.out} channels{between}"
        return f"WaffleIron of width {self.width}, depth {self.depth}, {self.norm} norm, with a head to {to}"

    @property
    def network(self) -> dict[str, int | str]:
        """The keys of a config's `network` that the tensors tell."""
        keys: dict[str, int | str] = {"width": self.width, "depth": self.depth, "norm": self.norm}
        if self.head != "classes":
            keys["head"] = self.head
        if self.head_width not in (None, 2048):
            keys["head_width"] = int(self.head_width or 0)
        return keys


def their_name(ours: str, head: Head) -> str:
    """The authors' name of one of our tensors.

    Raises:
        KeyError: if their network has no such tensor.
    """
    if match := _MIX.fullmatch(ours):
        mix, number, rest = match.groups()
        if rest == "scale":
            return f"waffleiron.{mix}.{number}.scale.weight"
        part, _, leaf = rest.partition(".")
        return f"waffleiron.{mix}.{number}.{_PARTS[part]}.{leaf}"
    module, _, leaf = ours.rpartition(".")
    return f"{(_MODULES | _HEADS[head])[module]}.{leaf}"


def to_authors(tensors: Mapping[str, Tensor], head: Head) -> dict[str, Tensor]:
    """Our tensors under their names, with their trailing dimensions.

    Raises:
        KeyError: for a tensor that their network does not have.
    """
    theirs = {their_name(name, head): value for name, value in tensors.items()}
    return {
        name: value.reshape((*value.shape, *[1] * _trailing(name, value.ndim)))
        for name, value in theirs.items()
    }


def from_authors(state: Mapping[str, Tensor], described: Described) -> dict[str, Tensor]:
    """Their tensors under our names, in float32. `described`: what `describe` said of their shapes.

    Raises:
        BadInput: naming a tensor that holds numbers which are not finite.
    """
    ours: dict[str, Tensor] = {}
    for name, like in _skeleton(described).items():
        value = state[their_name(name, described.head)]
        if not torch.isfinite(value).all():
            raise BadInput(f"{their_name(name, described.head)} holds numbers that are not finite")
        ours[name] = value.detach().to(like.dtype).reshape(like.shape).clone()
    return ours


def describe(shapes: Shapes) -> Described:
    """What network the tensors of a state dict make up. All of them must fit together.

    Raises:
        BadInput: naming tensors that are missing, too many, or of another shape than the rest asks for.
    """
    described = _guess(shapes)
    expected = expected_shapes(described)
    if problems := misfits(shapes, expected):
        raise BadInput(f"it seems to hold a {described}, but: " + "; ".join(problems))
    return described


def expected_shapes(described: Described) -> dict[str, tuple[int, ...]]:
    """The shapes of their network's tensors, by their names."""
    theirs = to_authors(_skeleton(described), described.head)
    return {name: tuple(value.shape) for name, value in theirs.items()}


def _guess(shapes: Shapes) -> Described:
    """Width, depth, norm and head, each read off one tensor."""
    for name in ("embed.final.weight", "waffleiron.channel_mix.0.norm.weight"):
        if name not in shapes:
            raise BadInput(
                f"it has no tensor {name}, which every WaffleIron has; its {len(shapes)} tensor(s) begin with "
                f"{', '.join(list(shapes)[:3])}"
            )
    if len(shapes["embed.final.weight"]) != 3:
        raise BadInput(f"embed.final.weight is {tuple(shapes['embed.final.weight'])}, and no map of points")
    numbers = [re.match(r"waffleiron\.(?:channel|spatial)_mix\.(\d+)\.", name) for name in shapes]
    depth = 1 + max(int(match.group(1)) for match in numbers if match)
    if depth > len(shapes):
        raise BadInput(f"its layers are numbered up to {depth - 1}, but it has only {len(shapes)} tensors")
    norm: Norm = "batch" if "waffleiron.channel_mix.0.norm.running_mean" in shapes else "layer"
    width = shapes["embed.final.weight"][0]
    heads: tuple[tuple[Head, str], ...] = (
        ("linear", "classif.weight"),
        ("mlp", "classif.2.weight"),
        ("classes", "classif.1.weight"),
    )
    for head, last in heads:
        if last in shapes:
            hidden = shapes[last][1] if head == "mlp" else None
            return Described(width, depth, norm, head, shapes[last][0], hidden)
    raise BadInput(f"it has no head: none of {', '.join(last for _, last in heads)} is there")


def _skeleton(described: Described) -> dict[str, Tensor]:
    """Our tensors of such a network, without memory."""
    width, out = described.width, described.out
    with torch.device("meta"):
        backbone = WaffleIron(
            width=width,
            depth=described.depth,
            plane_shapes=((1, 1),),
            in_channels=len(FEATURES),
            norm=described.norm,
        )
        head: nn.Module = LinearHead(width, out)
        if described.head == "mlp":
            head = MlpHead(width, out, described.head_width or 0)
        elif described.head == "classes":
            head = ProbeHead(width, out)
    prefix = "probe" if described.head == "classes" else "head"
    return {f"backbone.{name}": value for name, value in backbone.state_dict().items()} | {
        f"{prefix}.{name}": value for name, value in head.state_dict().items()
    }


def _trailing(theirs: str, dimensions: int) -> int:
    """Dimensions of 1 at the end of one of their tensors that ours, of so many dimensions, lacks."""
    module, _, leaf = theirs.rpartition(".")
    if module.endswith(".scale") or module in ("embed.conv2.1", "embed.conv2.4"):
        return 2
    is_map = module in ("embed.conv1", "embed.final") or ".mlp." in module or module.startswith("classif")
    return int(is_map and leaf == "weight" and dimensions == 2)
