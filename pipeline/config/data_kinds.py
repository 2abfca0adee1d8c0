"""The kinds of doubt that a dataset's values can raise. `allow` in a dataset's block names them. No torch, no numpy."""

from __future__ import annotations

from typing import Literal, get_args

Kind = Literal["origin", "range", "columns", "intensity", "labels", "short", "images", "times", "cameras"]
"""What a warning about a dataset's values is about.

origin: points at (0, 0, 0), or one after the other at one and the same place.
range: points beyond what the sensor measures, or most of them at the sensor itself.
columns: another number of values a point than the reader takes, four read as five or five as four.
intensity: intensities out of the dataset's range, all equal, or of another mean and spread than the published ones.
labels: scans of which no point has a label, or all have one class.
short: scans far shorter than the others of their partition.
images: pictures of one colour, or the same as another picture.
times: scans out of the order of their times, or images recorded long before or after their scan.
cameras: cameras that see no point in a whole partition.
"""

KINDS: tuple[str, ...] = get_args(Kind)
