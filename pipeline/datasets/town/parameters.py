"""What is asked of a toy tree: its scenes by name, and the numbers that their bytes depend on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cache_schemas.errors import BadInput

_LEAST = {"scans": 1, "beams": 2, "azimuths": 8}


@dataclass(frozen=True)
class Parameters:
    """The same for all scenes of a tree.

    Attributes:
        scans: of each scene.
        image: rows and cols.
        beams, azimuths: of a lidar that turns.
        world: of the format's writer; raised by hand when the same parameters make other bytes.
    """

    scans: int
    image: tuple[int, int]
    beams: int
    azimuths: int
    seed: int
    world: int

    def recorded(self) -> dict[str, Any]:
        """As a scene's record holds them."""
        return asdict(self) | {"image": list(self.image)}

    def check(self) -> None:
        """Raise BadInput for numbers that make no scene."""
        for name, bound in _LEAST.items():
            if getattr(self, name) < bound:
                raise BadInput(f"{name} {getattr(self, name)}: must be at least {bound}")
        if min(self.image) < 8:
            raise BadInput(f"image {self.image}: rows and cols must be at least 8")


def scene_names(train: int, val: int, known: Callable[[str], tuple[Sequence[str], str]]) -> list[str]:
    """Names of the first so many train scenes, then of the first so many val scenes.

    Args:
        known: gives, for a split, the names of all scenes that there can be, and what limits their number.

    Raises:
        BadInput: if there are not so many, or none is asked for.
    """
    asked: list[str] = []
    for split, count in (("train", train), ("val", val)):
        names, limit = known(split)
        if not 0 <= count <= len(names):
            raise BadInput(f"--{split} {count}: {limit}; ask for 0 to {len(names)}")
        asked += names[:count]
    if not asked:
        raise BadInput("--train 0 --val 0: no scene to write; ask for at least one")
    return asked
