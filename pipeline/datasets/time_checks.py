"""Whether the scans of a partition follow each other in time, and their images belong to them. Records hold the times."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.datasets.data_warnings import Finding, Warnings
from pipeline.datasets.records import ScanRecord

APART = 0.5
"""Seconds between a scan and an image of it. Seen: 0.04 (12 images of nuScenes) and 0.10 (456 of PandaSet), which is one turn
of the lidar. Keyframes of nuScenes are 0.5 s apart."""


def check_times(scans: Sequence[ScanRecord], warnings: Warnings) -> None:
    """Note scans that are not later than the one before, and those with an image `APART` or more from them; where times are known."""
    before: float | None = None
    for row, scan in enumerate(scans):
        if scan.time is None:
            continue
        findings = []
        if before is not None and scan.time <= before:
            earlier = before - scan.time
            what = f"it is {earlier:,.3f} s earlier than" if earlier else "it has the same time as"
            findings = [Finding("times", f"{what} the scan before it")]
        before = scan.time
        apart = {image.path: abs(image.time - scan.time) for image in scan.images if image.time is not None}
        far = max(apart, key=apart.__getitem__, default=None)
        if not findings and far is not None and apart[far] >= APART:
            findings = [Finding("times", f"its image {far} is {apart[far]:,.2f} s from it")]
        warnings.note(row, scan.path, findings, scan.path)
