"""Tensors into a module, all of them and no other: what does not fit is named with shapes, the first few."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

SHOWN = 3


def tensors_below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def load_exactly(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Fill a module.

    Raises:
        ValueError: naming tensors that are missing, of no use, or of another shape.
    """
    own = module.state_dict()
    shapes = [
        f"{name} is {tuple(tensors[name].shape)} and should be {tuple(value.shape)}"
        for name, value in own.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    complaints = [
        f"{len(names)} tensor(s) {what}: {', '.join(names[:SHOWN])}" + (", ..." if len(names) > SHOWN else "")
        for what, names in (
            ("missing", [name for name in own if name not in tensors]),
            ("of no use here", [name for name in tensors if name not in own]),
            ("of another shape", shapes),
        )
        if names
    ]
    if complaints:
        raise ValueError("; ".join(complaints))
    module.load_state_dict(dict(tensors), strict=True)
