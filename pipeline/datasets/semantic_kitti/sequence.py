"""One sequence of SemanticKITTI: its files by number, cut into runs of scans, and what is wrong with each."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cache_schemas.access import open_regular, read_regular
from cache_schemas.errors import BadInput
from pipeline.datasets.files import MOST_PIXELS
from pipeline.datasets.listing import empty_beside, is_reachable, names_of
from pipeline.datasets.reader import AbsentPartition
from pipeline.datasets.records import ImageRecord, PartitionRecord, ScanRecord
from pipeline.datasets.semantic_kitti.calibration import Calibration, read_calibration

CAMERA = "image_2"
RUN = 250
"""Scans in a partition: those of 0 to 249, 250 to 499, ...; a sequence that grows changes only its last."""
POINT_BYTES = 16
"""x, y, z, reflectance as float32."""
LABEL_BYTES = 4
MOST_TIMES = 2**24
"""Bytes of a `times.txt`; the longest has some 60 kB."""
_PNG = b"\x89PNG\r\n\x1a\n"


KINDS = {"velodyne": ".bin", CAMERA: ".png", "labels": ".label"}
"""The folders of a sequence, and how its files' names end. Only the first is needed."""


@dataclass(frozen=True)
class Sequence:
    """Where one sequence lies.

    Attributes:
        root: the dataset's; paths of records count from it.
        folder: the sequence's own, named as it is.
        calibration_files: where its `calib.txt` may be; the first that is there counts.
    """

    root: Path
    folder: Path
    calibration_files: tuple[Path, ...]
    split: str

    @property
    def name(self) -> str:
        return self.folder.name

    def partitions(self, beside: Iterable[Sequence]) -> Iterator[PartitionRecord | AbsentPartition]:
        """All its runs: whole, broken, or absent where none of their lidar files are there, nor any later ones.

        Args:
            beside: all sequences of the dataset; where others have files of a kind, a folder without any is no absence.
        """
        unusable = self._sizes if isinstance(self._sizes, str) else self._empty(beside)
        last_scan = max(self._scans, default=-1)
        last = max((last_scan, *self._images, *self._labels))
        for first in range(0, max(last, 0) + 1, RUN):
            name, numbers = f"{self.name}-{first:04d}", range(first, min(first + RUN, last + 1))
            if unusable is not None:
                yield PartitionRecord(name, self.split, (), unusable)
            elif first > last_scan:
                yield AbsentPartition(name, self.split, len(numbers), why="without lidar files")
            else:
                yield self._partition(name, numbers)

    @cached_property
    def _sizes(self) -> dict[str, dict[int, int]] | str:
        """Bytes of the numbered files, by kind; or which folder or file cannot be reached."""
        try:
            is_reachable(self.folder)
            return {kind: _sizes(self.folder / kind, suffix) for kind, suffix in KINDS.items()}
        except BadInput as error:
            return str(error)

    def _of_kind(self, kind: str) -> dict[int, int]:
        return {} if isinstance(self._sizes, str) else self._sizes[kind]

    def _empty(self, beside: Iterable[Sequence]) -> str | None:
        """Which folder has no files where other sequences have, or None. Sequences of test have no labels."""
        for kind in KINDS:
            alike = [s for s in beside if kind != "labels" or (s.split == "test") == (self.split == "test")]
            counts = {sequence.folder / kind: len(sequence._of_kind(kind)) for sequence in alike}
            problem = empty_beside(self.folder / kind, counts)
            if problem is not None:
                return problem
        return None

    @property
    def _scans(self) -> dict[int, int]:
        return self._of_kind("velodyne")

    @property
    def _images(self) -> dict[int, int]:
        return self._of_kind(CAMERA)

    @property
    def _labels(self) -> dict[int, int]:
        return self._of_kind("labels")

    @cached_property
    def _times(self) -> dict[int, float]:
        """Seconds, by number. They are for checks alone: none where there is no `times.txt`, or it holds something else."""
        try:
            lines = read_regular(self.folder / "times.txt", MOST_TIMES).decode("ascii", "replace").split()
            times = dict(enumerate(map(float, lines)))
        except (OSError, ValueError):
            return {}
        return {number: seconds for number, seconds in times.items() if math.isfinite(seconds)}

    @cached_property
    def _calibration(self) -> Calibration | str:
        """Or why there is none."""
        try:
            present = [file for file in self.calibration_files if is_reachable(file)]
        except BadInput as error:
            return str(error)
        try:
            return read_calibration([*present, self.calibration_files[-1]][0])
        except ValueError as error:
            return str(error)

    def _partition(self, name: str, numbers: range) -> PartitionRecord:
        problem = self._problem(numbers)
        scans = []
        for number in numbers:
            image = None
            try:
                image = self._image(number)
            except (ValueError, OSError) as error:
                problem = problem or str(error)
            scans.append(
                ScanRecord(
                    name=f"{self.name}-{number:06d}",
                    result_name=f"{self.name}/{number:06d}",
                    path=self._path("velodyne", number, ".bin"),
                    bytes=self._scans.get(number, 0),
                    label_path=self._path("labels", number, ".label") if number in self._labels else None,
                    label_bytes=self._labels.get(number),
                    images=(image,) if image else (),
                    time=self._times.get(number),
                )
            )
        return PartitionRecord(name, self.split, tuple(scans), problem)

    def _problem(self, numbers: range) -> str | None:
        """What the names and sizes of files tell: why a run cannot be used, or None."""
        for kind, sizes, suffix in (
            ("velodyne", self._scans, ".bin"),
            (CAMERA, self._images, ".png"),
            ("labels", {n: size for n, size in self._labels.items() if n in numbers}, ".label"),
        ):
            missing = [number for number in numbers if number not in sizes]
            if missing and (sizes or kind == "velodyne"):
                return (
                    f"{len(missing)} of its {len(numbers)} scans lack their file in {kind}, the first "
                    f"{self._path(kind, missing[0], suffix)}; extract its archive again"
                )
        cut = [n for n in numbers if not self._scans[n] or self._scans[n] % POINT_BYTES]
        if cut:
            return (
                f"{self._path('velodyne', cut[0], '.bin')} has {self._scans[cut[0]]} bytes, which is no positive multiple "
                f"of {POINT_BYTES} (one point); it was cut or replaced" + _more(cut)
            )
        wrong = [n for n in numbers if n in self._labels and self._labels[n] * 4 != self._scans[n]]
        if wrong:
            return (
                f"{self._path('labels', wrong[0], '.label')} has {self._labels[wrong[0]] / LABEL_BYTES:g} labels for "
                f"{self._scans[wrong[0]] // POINT_BYTES} points" + _more(wrong)
            )
        if self._images and isinstance(self._calibration, str):
            return self._calibration
        others = self._files_that_are_no_images()
        return others if not self._images and others else None

    def _files_that_are_no_images(self) -> str | None:
        folder = self.folder / CAMERA
        count = len(names_of(folder))
        return f"{folder} has {count} files, but none is named like 000000.png" if count else None

    def _image(self, number: int) -> ImageRecord | None:
        """What the camera saw for a scan, or None where `_problem` says why not.

        Raises:
            ValueError: for a file that is no image.
        """
        if number not in self._images or isinstance(self._calibration, str):
            return None
        path = self._path(CAMERA, number, ".png")
        height, width = _png_size(self.root / path)
        return ImageRecord(
            camera=CAMERA,
            path=path,
            bytes=self._images[number],
            height=height,
            width=width,
            intrinsics=self._calibration.intrinsics,
            steps=self._calibration.steps,
        )

    def _path(self, kind: str, number: int, suffix: str) -> str:
        return (self.folder.relative_to(self.root) / kind / f"{number:06d}{suffix}").as_posix()


def _sizes(folder: Path, suffix: str) -> dict[int, int]:
    """Bytes of the numbered files in a folder; nothing where there is none.

    Raises:
        BadInput: if the folder, or a file that is a link, cannot be reached.
    """
    named = re.compile(r"\d{6}" + re.escape(suffix), re.ASCII)
    paths = [folder / name for name in names_of(folder) if named.fullmatch(name)]
    for path in paths:
        if path.is_symlink():
            is_reachable(path)
    return {int(path.name[:6]): path.stat().st_size for path in paths}


def _png_size(path: Path) -> tuple[int, int]:
    """Height and width, from the first 24 bytes: they differ between sequences.

    Raises:
        ValueError: for a file that does not begin like a PNG.
    """
    with open_regular(path) as file:
        head = file.read(24)
    if len(head) < 24 or head[:8] != _PNG or head[12:16] != b"IHDR":
        raise ValueError(f"{path} is no PNG image, or was cut short; extract its archive again")
    width, height = struct.unpack(">II", head[16:24])
    if height * width > MOST_PIXELS:
        raise ValueError(
            f"{path} says that it has {height} x {width} pixels; at most {MOST_PIXELS:,} are read"
        )
    return height, width


def _more(numbers: list[int]) -> str:
    return f" (and {len(numbers) - 1} more)" if len(numbers) > 1 else ""
