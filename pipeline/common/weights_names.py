"""Which tensors of a file are a network's own, by their names alone: files of trainings hold more, under other names.

A vision transformer is known by the weight of its patch embedding. What stands before that name stands before all names of the
network: `module.` of several GPUs, `_orig_mod.` of torch.compile, `teacher.backbone.` of DINOv2, `model.` of Lightning. Blocks
in chunks (`blocks.0.3.`, DINOv2's for FSDP) are joined, names of transformers become those of the networks' authors
(`weights_transformers.py`), and projection heads beside the network are left out. Nothing is guessed: two tensors for one name,
or two networks of which not exactly one is a moving average, are refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.common.weights_files import plain_name
from pipeline.common.weights_transformers import ANCHOR as TRANSFORMERS
from pipeline.common.weights_transformers import plain_names

Sources = dict[str, tuple[str, ...]]
"""For each name of the network the names in the file: one, or three whose tensors are put on top of each other."""

ANCHOR = "patch_embed.proj.weight"
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_CHUNK = re.compile(r"blocks\.\d+\.(\d+\..+)")
_HEADS = re.compile(
    r"(?:dino_head|ibot_head|cls_head|projector|projection_head|proj_head|predictor|prediction_head|mlp_head|prototypes"
    r"|decoder|decoder_\w+|pooler|classifier|dino_loss|ibot_patch_loss|koleo_loss|head\.(?:mlp|last_layer))(?:\.|$)"
)
"""What trainings have beside a network: it computes the same without them."""
_AVERAGES = {"teacher", "ema", "momentum", "averaged"}
_TIMMS = {"visual", "vision_encoder", "beit3", "radio_model", "preprocessor", "image_encoder"}
"""Names before a network that timm's own tables read."""


class UnclearNames(ValueError):
    """The names in a file do not say which tensors are meant."""


@dataclass(frozen=True)
class Backbone:
    """The tensors of one network in a file.

    Attributes:
        prefix: what stands before their names; empty where nothing does.
        sources: where each comes from.
        others: prefixes of the file's other networks.
        left_out: how many tensors of what else is in the file, by the first parts of their names.
        changes: what was done to the names, in words.
    """

    prefix: str
    sources: Sources
    others: tuple[str, ...]
    left_out: dict[str, int]
    changes: tuple[str, ...]

    @property
    def is_whole_file(self) -> bool:
        """Whether the file holds the network alone, by its own names."""
        return not (self.prefix or self.left_out or self.changes)

    def __str__(self) -> str:
        taken = (
            f"the {len(self.sources)} tensors under `{self.prefix}`"
            if self.prefix
            else f"{len(self.sources)} tensors"
        )
        averaged = ", the moving average" if self.others and is_average(self.prefix) else ""
        changed = f", {', '.join(self.changes)}" if self.changes else ""
        rest = ", ".join(f"{name} ({count})" for name, count in self.left_out.items())
        beside = ", ".join(f"`{other}`" if other else "names without a prefix" for other in self.others)
        return (
            taken
            + averaged
            + changed
            + (f"; not taken: the network under {beside}" if beside else "")
            + (f"; left out: {rest}" if rest else "")
        )


def prefixes(names: Iterable[str]) -> list[str]:
    """What stands before the names of each vision transformer in a file, sorted."""
    marks = [
        name for name in map(_unwrapped, names) for mark in (ANCHOR, TRANSFORMERS) if _ends_with(name, mark)
    ]
    return sorted({name.removesuffix(ANCHOR).removesuffix(TRANSFORMERS) for name in marks})


def is_average(prefix: str) -> bool:
    """Whether a network's prefix says that it is the moving average of a training's weights, its teacher."""
    return bool(_AVERAGES & set(re.split(r"[._]", prefix)))


def backbone_of(names: Sequence[str]) -> Backbone | None:
    """The network in a file with these names; None where there is none that is known by its names, or timm reads it as it is.

    Raises:
        UnclearNames: in words for the user, if there are several of which not one is to be taken, or two tensors for one name.
    """
    known = prefixes(names)
    if not known or any(_TIMMS & set(prefix.split(".")) for prefix in known):
        return None
    prefix = _chosen(known)
    unwrapped = _once((_unwrapped(name), name) for name in names)
    changes = ["names without what wrappers put into them"] if set(unwrapped) != set(names) else []
    inner = {name[len(prefix) :]: (old,) for name, old in unwrapped.items() if name.startswith(prefix)}
    other = [name for name in unwrapped if not name.startswith(prefix)]
    if TRANSFORMERS in inner:
        try:
            plain = plain_names(inner)
        except ValueError as error:
            raise UnclearNames(str(error)) from error
        sources: Sources = {name: tuple(inner[part][0] for part in parts) for name, parts in plain.items()}
        changes.append("names of transformers turned into the authors'")
    else:
        chunked = any(_CHUNK.fullmatch(name) for name in inner)
        joined = _once(
            (_CHUNK.sub(r"blocks.\1", name) if chunked else name, old[0]) for name, old in inner.items()
        )
        sources = {name: (old,) for name, old in joined.items()}
        if chunked:
            changes.append("blocks in chunks joined")
    heads = [name for name in sources if _HEADS.match(name)]
    for name in heads:
        del sources[name]
    left_out = Counter(_group(name) for name in [*(prefix + head for head in heads), *other])
    others = tuple(other for other in known if other != prefix)
    return Backbone(prefix, sources, others, dict(left_out), tuple(changes))


def is_read_whole(names: Sequence[str]) -> bool:
    """Whether all tensors of a file of these names are a network's, under these names without what `plain_name` takes off.

    Raises:
        UnclearNames: as `backbone_of`.
    """
    plain = [plain_name(name) for name in names]
    backbone = backbone_of(plain if "" in prefixes(plain) else names)
    return backbone is None or backbone.is_whole_file


def _chosen(known: list[str]) -> str:
    if len(known) == 1:
        return known[0]
    averages = [prefix for prefix in known if is_average(prefix)]
    if len(averages) != 1:
        listed = ", ".join(f"`{prefix}`" if prefix else "names without a prefix" for prefix in known[:6])
        raise UnclearNames(
            f"it holds {len(known)} networks ({listed}), and it is not clear which is meant: take one out, with the names "
            f"after its prefix, and save it into a file of its own"
        )
    return averages[0]


def _once(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """New names and old ones.

    Raises:
        UnclearNames: if two old names become one.
    """
    named: dict[str, str] = {}
    for new, old in pairs:
        if new in named:
            raise UnclearNames(
                f"{named[new]} and {old} are both its {new}: save the state_dict() of the network alone, before it is wrapped or "
                f"cut into chunks"
            )
        named[new] = old
    return named


def _unwrapped(name: str) -> str:
    return _WRAPPERS.sub("", name)


def _ends_with(name: str, mark: str) -> bool:
    return name == mark or name.endswith(f".{mark}")


def _group(name: str) -> str:
    """The first part of a name, or the first two where the first is one of a training's networks."""
    parts = name.split(".")
    deep = parts[0] in ("module", "model", "teacher", "student", "state_dict", "backbone") and len(parts) > 2
    return ".".join(parts[:2]) if deep else parts[0]
