"""Tensors into a module, all of them and no other. What does not fit is named, with shapes, the first few."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

Shapes = Mapping[str, tuple[int, ...]]
"""Of tensors, by their names."""

_SHOWN = 4


def tensors_below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def load_exactly(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Fill a module.

    Raises:
        ValueError: naming tensors that are missing, of no use, or of another shape.
    """
    if problems := misfits(_shapes(tensors), _shapes(module.state_dict())):
        raise ValueError("; ".join(problems))
    module.load_state_dict(dict(tensors), strict=True)


def misfits(shapes: Shapes, expected: Shapes) -> list[str]:
    """In words, which tensors are missing, of no use, or of another shape than expected; empty if all fit."""
    missing = [name for name in expected if name not in shapes]
    useless = [name for name in shapes if name not in expected]
    return [
        *_named("missing", missing),
        *_named("of no use here", useless),
        *differences(shapes, expected),
    ]


def differences(shapes: Shapes, expected: Shapes) -> list[str]:
    """In words, the tensors of both whose shapes differ, the first few by name."""
    other = [name for name in expected if name in shapes and tuple(shapes[name]) != tuple(expected[name])]
    lines = [f"{name} is {tuple(shapes[name])} and should be {tuple(expected[name])}" for name in other]
    return lines[:_SHOWN] + ([f"and so {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else [])


def _named(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return [f"{len(names)} tensor(s) {what} ({shown})"]


def _shapes(tensors: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(value.shape) for name, value in tensors.items()}
