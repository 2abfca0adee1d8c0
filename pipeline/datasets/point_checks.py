"""Whether the points of one scan can be a lidar's: what cannot be right, and what is unlikely.

Limits come from 178 real scans (22 nuScenes keyframes, 4 of KITTI's Velodyne-64, and 76 frames of PandaSet's sequence 002
with each lidar) and the toy towns. The largest or smallest value that was seen stands beside each limit. Looking at a scan
of 120,000 points takes some 2 ms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.config.model import Dataset
from pipeline.datasets.data_warnings import Finding, Warnings
from pipeline.datasets.reader import Traits

ZEROS_WARNED, ZEROS_REFUSED = 0.01, 0.25
"""Share of points at exactly (0, 0, 0). Seen: none at all. nuScenes has up to 11 % within a millimetre: the car itself, real."""
REPEATED = 0.3
"""Share of points at exactly the place of the point before. Seen: 11 % (nuScenes, on the car itself), 0 elsewhere. Zeros of
a file in another frame, such as PandaSet's, are no zeros any more; they are at one place."""
REACH = 1000.0
"""Metres that no lidar of a car measures; a reader's traits may say less. Seen: 307 (PandarGT)."""
BEYOND_WARNED, BEYOND_REFUSED = 0.01, 0.5
"""Share of points beyond the reach. Seen: none."""
NEAR, NEAR_WARNED = 1.0, 0.7
"""Metres about the sensor, and the share of points within. Seen: 0.28 (nuScenes)."""
OUTSIDE_REFUSED = 0.01
"""Share of intensities out of the range that the traits name; one is warned of. Seen: none."""
MEAN_WARNED, MEAN_REFUSED = 3.0, 10.0
"""How far a scan's mean intensity is from the published one, in published deviations. Seen: 0.56."""
SPREAD_WARNED, SPREAD_REFUSED = 5.0, 50.0
"""By how many times a scan's deviation is more or less than the published one. Seen: 0.84 to 1.29; toys 0.40 to 1.83. What is
0 to 1 where 0 to 255 is published has a hundredth or less."""
FEW = 500
"""Points below which a scan's mean, spread and pattern say nothing."""
SHORT, ENOUGH = 1 / 3, 3
"""A scan is short with less than this share of its partition's median, of that many scans at least. Seen: 0.87."""
TURNS = range(2, 9)
NEGATIVE, VARIED = 0.05, 16
"""Share of negative intensities in one turn, and different values among them, that show another number of values a point."""


@dataclass(frozen=True)
class Expected:
    """What is expected of a dataset's points.

    Attributes:
        intensity: mean and deviation, as published or as the config says; None where nobody knows.
        intensity_range: least and greatest raw intensity; None where it is not known.
        reach: metres from the sensor beyond which there are no points.
    """

    intensity: tuple[float, float] | None = None
    intensity_range: tuple[float, float] | None = None
    reach: float = REACH

    @classmethod
    def of(cls, traits: Traits, dataset: Dataset | None = None) -> Expected:
        """By a reader's traits; what the config says of intensities goes before."""
        given = dataset.intensity if dataset is not None else None
        return cls(given or traits.intensity, traits.intensity_range, traits.reach or REACH)


def check_points(xyz: np.ndarray, intensity: np.ndarray, expected: Expected) -> list[Finding]:
    """What is wrong with the points of a scan, one finding a kind at most.

    Args:
        xyz: (N, 3) float32, finite, N at least 1.
        intensity: (N,) float32, finite.
    """
    findings = [
        *_columns(intensity),
        *_origin(xyz),
        *_range(xyz, expected.reach),
        *_out_of_range(intensity, expected.intensity_range),
        *_scale(intensity, expected.intensity),
    ]
    by_kind = {finding.kind: finding for finding in reversed(findings)}
    return [finding for finding in findings if by_kind[finding.kind] is finding]


def check_lengths(lengths: Sequence[int], paths: Sequence[str], warnings: Warnings) -> None:
    """Note scans that are far shorter than the others of their partition.

    Args:
        lengths: points of each scan; 0 for one that could not be read, which is said elsewhere.
        paths: of their files.
    """
    readable = [length for length in lengths if length]
    if len(readable) < ENOUGH:
        return
    middle = float(np.median(readable))
    for row, length in enumerate(lengths):
        if 0 < length < SHORT * middle:
            finding = Finding(
                "short",
                f"{length:,} points, where half the scans of its partition have {middle:,.0f} or more",
            )
            warnings.note(row, paths[row], [finding], paths[row])


def misread_turn(intensity: np.ndarray) -> int | None:
    """After how many rows the column starts anew, where it holds in turn what is intensity and what is a coordinate.

    Numbers of a file that are read as rows of the wrong length come back to the same column after so many rows: five a point
    read as four after five rows, four read as five after four. In one of these turns all are intensities, none of them
    negative; in another all are coordinates, many of them negative. None where it is not so: also where real intensities are
    negative, for they are so in every turn.
    """
    negative = intensity < 0
    if len(intensity) < FEW or not negative.any():
        return None
    for turn in TURNS:
        shares = [float(negative[start::turn].mean()) for start in range(turn)]
        most = intensity[int(np.argmax(shares)) :: turn]
        if min(shares) == 0 and max(shares) > NEGATIVE and len(np.unique(most[most < 0])) > VARIED:
            return turn
    return None


def _columns(intensity: np.ndarray) -> Iterator[Finding]:
    turn = misread_turn(intensity)
    if turn is None:
        return
    likely = {
        5: "five numbers a point are read as four",
        4: "four numbers a point are read as five",
    }.get(turn, "the file has another number of values a point than the reader takes")
    least, greatest = float(intensity.min()), float(intensity.max())
    yield Finding(
        "columns",
        f"intensities from {least:g} to {greatest:g} repeat their pattern every {turn} points: it seems that {likely}",
        refused=True,
    )


def _origin(xyz: np.ndarray) -> Iterator[Finding]:
    count, (x, y, z) = (
        len(xyz),
        xyz.T,
    )  # column by column: along the short axis numpy takes several times as long
    zeros = int(np.count_nonzero((x == 0) & (y == 0) & (z == 0)))
    if zeros > ZEROS_WARNED * count:
        yield Finding(
            "origin",
            f"{zeros:,} of {count:,} points are at the origin (0, 0, 0): an interrupted download, or returns that are none "
            f"and should be left out",
            refused=count >= FEW and zeros > ZEROS_REFUSED * count,
        )
    same = (x[1:] == x[:-1]) & (y[1:] == y[:-1]) & (z[1:] == z[:-1])
    repeated = int(np.count_nonzero(same))
    if repeated > REPEATED * count:
        yield Finding(
            "origin", f"{repeated:,} of {count:,} points are exactly where the point before them is"
        )


def _range(xyz: np.ndarray, reach: float) -> Iterator[Finding]:
    count, (x, y, z) = len(xyz), xyz.T.astype(np.float64)
    squares = x * x + y * y + z * z
    beyond = int(np.count_nonzero(squares > reach**2))
    if beyond > BEYOND_WARNED * count:
        yield Finding(
            "range",
            f"{beyond:,} of {count:,} points are more than {reach:,g} m away, the farthest {squares.max() ** 0.5:,.4g} m: "
            f"other units than metres, the world's frame, or another sensor",
            refused=beyond > BEYOND_REFUSED * count,
        )
    near = int(np.count_nonzero(squares < NEAR**2))
    if near > NEAR_WARNED * count and xyz.any():
        yield Finding(
            "range",
            f"{near:,} of {count:,} points are within {NEAR:g} m of the sensor: other units than metres?",
        )


def _out_of_range(intensity: np.ndarray, known: tuple[float, float] | None) -> Iterator[Finding]:
    if known is None:
        return
    outside = int(((intensity < known[0]) | (intensity > known[1])).sum())
    if outside:
        least, greatest = float(intensity.min()), float(intensity.max())
        yield Finding(
            "intensity",
            f"{outside:,} of {len(intensity):,} intensities are out of range: they go from {least:g} to {greatest:g}, this "
            f"dataset's from {known[0]:g} to {known[1]:g}",
            refused=outside > OUTSIDE_REFUSED * len(intensity),
        )


def _scale(intensity: np.ndarray, published: tuple[float, float] | None) -> Iterator[Finding]:
    if len(intensity) < FEW:
        return
    first = float(intensity[0])
    if (intensity == intensity[0]).all():
        yield Finding("intensity", f"all {len(intensity):,} intensities are {first:g}")
        return
    if published is None:
        return
    mean, deviation = float(intensity.mean(dtype=np.float64)), float(intensity.std(dtype=np.float64))
    away = abs(mean - published[0]) / published[1]
    times = max(deviation / published[1], published[1] / deviation)
    if away > MEAN_WARNED or times > SPREAD_WARNED:
        yield Finding(
            "intensity",
            f"intensities have a mean of {mean:.4g} and a deviation of {deviation:.4g}, where {published[0]:.4g} and "
            f"{published[1]:.4g} are expected: another scale, such as 0 to 255 for 0 to 1?",
            refused=away > MEAN_REFUSED or times > SPREAD_REFUSED,
        )
