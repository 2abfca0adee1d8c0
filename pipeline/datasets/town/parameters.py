"""What is asked of a toy tree: the numbers that the bytes of a scene depend on, beside its name."""

from __future__ import annotations

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


def check_count(option: str, count: int, most: int, of_what: str) -> None:
    """Raise BadInput unless so many scenes can be asked for."""
    if not 0 <= count <= most:
        raise BadInput(f"--{option} {count}: {of_what}; ask for 0 to {most}")
