"""The published networks as they are, of checkouts of their code, with the weights of a student of ours."""

from __future__ import annotations

import contextlib
import io
import itertools
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.students.authors import Head, to_authors
from pipeline.students.authors_file import read_authors_file, write_authors_file
from pipeline.students.packed import PackedClouds


def waffleiron_of(checkout: Path) -> ModuleType:
    """Their package `waffleiron` from a checkout of github.com/valeoai/WaffleIron, or of ScaLR's branch scalr_plus."""
    if not (checkout / "waffleiron" / "segmenter.py").is_file():
        raise click.ClickException(f"{checkout} has no waffleiron/segmenter.py")
    sys.path.insert(0, str(checkout))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            package = import_module("waffleiron")
            import_module("waffleiron.segmenter")
    finally:
        sys.path.remove(str(checkout))
        for name in [name for name in sys.modules if name.split(".")[0] == "waffleiron"]:
            del sys.modules[name]  # the next checkout brings another package of this name
    return package


def network(
    package: ModuleType,
    *,
    width: int,
    depth: int,
    out: int,
    shapes: Sequence[tuple[int, int]],
    norm: str,
    head: Head,
    hidden: int,
    activation: str,
) -> nn.Module:
    """Their network, constructed as their training does."""
    common: dict[str, Any] = {
        "input_channels": 5,
        "feat_channels": width,
        "depth": depth,
        "grid_shape": list(shapes),
        "nb_class": out,
    }
    if hasattr(package, "WI_SCATTER_REDUCE"):
        made: nn.Module = package.Segmenter(**common, layer_norm=norm == "layer")
    else:
        segmenter = package.segmenter.Segmenter
        made = segmenter(
            **common, gelu=activation == "gelu", mlp_classif=head == "mlp", mlp_hidden_size=hidden
        )
    return made


def give_weights(theirs: nn.Module, ours: dict[str, Tensor], head: Head, folder: Path) -> int:
    """Our tensors into their network through a file of the one format; strict. Returns how many there were."""
    path = folder / "ckpt_last.pth"
    write_authors_file(path, "model_point", to_authors(ours, head), module=False)
    state = torch.load(path, weights_only=True)["model_point"]
    theirs.load_state_dict(state, strict=True)
    return len(state)


def take_weights(theirs: nn.Module, folder: Path) -> dict[str, Tensor]:
    """Their network's tensors through a file as their training on several GPUs writes it."""
    path = folder / "theirs.pth"
    torch.save({"epoch": 0, "model_point": {f"module.{k}": v for k, v in theirs.state_dict().items()}}, path)
    return read_authors_file(path).state


def run_published(theirs: nn.Module, clouds: PackedClouds, features: Tensor) -> Tensor:
    """Their outputs (P, out) for clouds that are padded as theirs are: up to the longest, with zeros.

    features: (P, 5), of the clouds, in any type; gradients flow into it.
    """
    return unpadded(theirs(*padded(clouds, features)), clouds)


def padded(clouds: PackedClouds, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What their network takes of B clouds of up to n points: features (B, 5, n), cells (B, 3, n), which of these are
    points (B, n), and neighbours (B, 1 + K, n)."""
    longest = int(clouds.sizes().max())
    bounds = clouds.offsets.tolist()
    columns: list[list[Tensor]] = [[], [], [], []]
    for start, stop in itertools.pairwise(bounds):
        extra = longest - (stop - start)
        # The first of their neighbours is the point itself, which their embedding skips.
        itself = torch.arange(stop - start, device=features.device).unsqueeze(1)  # (n, 1)
        near = torch.cat((itself, clouds.neighbours[start:stop] - start), 1)  # (n, 1 + K)
        columns[0].append(F.pad(features[start:stop], (0, 0, 0, extra)).T)
        columns[1].append(F.pad(clouds.cells[start:stop], (0, 0, 0, extra)).T)
        columns[2].append(F.pad(torch.ones(stop - start, device=features.device), (0, extra)))
        columns[3].append(F.pad(near, (0, 0, 0, extra), value=longest - 1).T)
    feats, cells, occupied, neighbours = (torch.stack(column) for column in columns)
    return feats, cells, occupied.to(features.dtype), neighbours


def unpadded(out: Tensor, clouds: PackedClouds) -> Tensor:
    """Their outputs (B, out, n) without what was padded: (P, out)."""
    sizes = clouds.sizes().tolist()
    return torch.cat([row[:, :size].T for row, size in zip(out, sizes, strict=True)])
