"""What the makers of three GPUs say that these can do, and the least time in which a count of work can be done there.

Rates are those of NVIDIA's datasheets for dense matrices (the datasheets of H100 and H200 print twice as much, for
matrices of which half is zero). No program reaches them: a large matrix product reaches 70 to 80 % of its rate, a copy
about 90 % of the memory's. So a floor is a time that nothing can beat, and not one that is expected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

TERA = 1e12


@dataclass(frozen=True)
class Precision:
    """How a student is computed: the name of its matrix rate, and bytes of one number."""

    name: str
    rows: int  # of the features between layers, and of all that the spatial mix holds
    products: int  # of what enters a matrix product


PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("float32", 4, 4),
        Precision("TF32", 4, 4),
        Precision("bfloat16", 4, 2),
        Precision("float16", 4, 2),
    )
}
"""The last two are autocast: rows stay in float32, products are done in 16 bits."""


@dataclass(frozen=True)
class Card:
    """A GPU: bytes a second of its memory; operations a second of its matrix units by precision, and of the others."""

    name: str
    memory: float
    matrix: Mapping[str, float]
    other: float
    cache: float  # bytes of the second-level cache
    source: str

    def floor(self, count: Count, precision: str) -> float:
        """Seconds below which the work cannot be done here: the longest of its three parts."""
        return max(self.parts(count, precision).values())

    def binds(self, count: Count, precision: str) -> str:
        """Which part that is: bytes, matrix or other."""
        parts = self.parts(count, precision)
        return max(parts, key=lambda name: parts[name])

    def one_by_one(self, counts: Iterable[Count], precision: str) -> float:
        """Seconds of several pieces of work, one after the other, each at its own floor."""
        return sum(self.floor(count, precision) for count in counts)

    def parts(self, count: Count, precision: str) -> dict[str, float]:
        """Seconds that each part takes alone. In float32 matrix products share the units of all other operations."""
        matrix, other = count.matrix / self.matrix[precision], count.other / self.other
        if precision == "float32":
            matrix, other = matrix + other, 0.0
        return {"bytes": count.bytes / self.memory, "matrix": matrix, "other": other}


@dataclass(frozen=True)
class Count:
    """Work: bytes that pass through the device's memory, operations in matrix products, and other operations (an
    addition and a multiplication are two)."""

    bytes: float = 0.0
    matrix: float = 0.0
    other: float = 0.0

    def __add__(self, more: Count) -> Count:
        return Count(self.bytes + more.bytes, self.matrix + more.matrix, self.other + more.other)

    def __mul__(self, times: float) -> Count:
        return Count(self.bytes * times, self.matrix * times, self.other * times)


_HOPPER = {
    "float32": 67 * TERA,
    "TF32": 494.7 * TERA,
    "bfloat16": 989.4 * TERA,
    "float16": 989.4 * TERA,
}
CARDS = {
    card.name: card
    for card in (
        Card(
            "A100",
            2.039 * TERA,
            {"float32": 19.5 * TERA, "TF32": 156 * TERA, "bfloat16": 312 * TERA, "float16": 312 * TERA},
            19.5 * TERA,
            40 * 2**20,
            "NVIDIA A100 Tensor Core GPU datasheet, column A100 80GB SXM; cache: A100 whitepaper",
        ),
        Card(
            "H100",
            3.35 * TERA,
            _HOPPER,
            67 * TERA,
            50 * 2**20,
            "NVIDIA H100 Tensor Core GPU datasheet, column H100 SXM; dense rates and cache: Hopper whitepaper, H100 SXM5",
        ),
        Card(
            "H200",
            4.8 * TERA,
            _HOPPER,
            67 * TERA,
            50 * 2**20,
            "NVIDIA H200 Tensor Core GPU datasheet, column H200 SXM; the chip is that of the H100",
        ),
    )
}
