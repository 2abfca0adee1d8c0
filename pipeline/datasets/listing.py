"""Folders of a dataset, listed so that what is not there and what cannot be reached are two things.

A link to a disk that is not mounted, or a folder without the right to read it, looks like an empty one to `Path.glob` and
`Path.is_dir`. Here it is an error that names it. Hidden files (macOS leaves a `._NAME` beside each file) are passed over.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from cache_schemas.errors import BadInput


def is_reachable(path: Path) -> bool:
    """Whether there is a file or folder of this name.

    Raises:
        BadInput: if it, or a folder that it lies in, is a link to what is not there; or if the system refuses to say.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        for above in (path, *path.parents):
            if os.path.islink(above) and not os.path.exists(above):
                raise BadInput(
                    f"{above} is a link to {os.readlink(above)}, which is not there: mount the disk that it lies on, or mend "
                    f"the link"
                ) from error
        return False
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(
            f"{path!s:.300} cannot be reached ({reason}): get the right to read it, or mend the disk or the link"
        ) from error
    return True


def why_unreachable(path: Path, error: OSError) -> list[str | int | None]:
    """Of a path that has no facts, what tells apart why: a link to nothing, a folder above that is missing, a right.

    Args:
        error: that the system answered with.

    Returns:
        Its number, the lowest of path and folders above that is there, be it a link, and where that leads if it is one.
    """
    for above in (path, *path.parents):
        try:
            is_link = stat.S_ISLNK(os.lstat(above).st_mode)
            return [error.errno, os.path.abspath(above), os.readlink(above) if is_link else None]
        except OSError:
            continue
    return [error.errno, None, None]


def names_of(folder: Path) -> list[str]:
    """The names in a folder, sorted, but hidden ones; none where there is no such folder.

    Raises:
        BadInput: as `is_reachable`, and if the folder cannot be listed.
    """
    if not is_reachable(folder):
        return []
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise BadInput(
            f"{folder} cannot be listed ({error.strerror or error}): get the right to read it, or mend the disk"
        ) from error


def folders_in(folder: Path, pattern: str = "*", *, optional: bool = False) -> list[Path]:
    """The folders in a folder whose names fit a pattern, sorted by name, but hidden ones.

    Args:
        optional: whether the folder itself may be missing.

    Raises:
        BadInput: naming what is missing, or cannot be reached.
    """
    _check_folder(folder, optional)
    return [path for path in _fitting(folder, pattern) if path.is_dir()]


def files_in(folder: Path, pattern: str = "*", *, optional: bool = False) -> list[Path]:
    """The files in a folder whose names fit a pattern, sorted by name, but hidden ones.

    Args:
        pattern: as in a shell, such as `*.bin`; or with folders before it, such as `*/points.bin`.
        optional: whether the folder itself may be missing.

    Raises:
        BadInput: naming what is missing, or cannot be reached.
    """
    first, _, rest = pattern.partition("/")
    if rest:
        below = folders_in(folder, first, optional=optional)
        return [path for inner in below for path in files_in(inner, rest)]
    _check_folder(folder, optional)
    return [path for path in _fitting(folder, pattern) if not path.is_dir()]


def empty_beside(folder: Path, counts: Mapping[Path, int]) -> str | None:
    """What is wrong with a folder that is there and has no files, where folders of the same kind have some; else None.

    Args:
        counts: of files in each folder of this kind: the same folder of other sequences.

    Raises:
        BadInput: as `is_reachable`.
    """
    if counts.get(folder) or not is_reachable(folder):
        return None
    full = next((other for other, count in counts.items() if count), None)
    if full is None:
        return None
    lack, called = ("has no file of its kind", "folder") if names_of(folder) else ("is empty", "empty folder")
    return (
        f"{folder} {lack}, but {full} has {counts[full]} file{'' if counts[full] == 1 else 's'}: extract its archive again; or "
        f"remove the {called}, if there are to be none"
    )


def unreachable_below(root: Path) -> list[str]:
    """The links that lead nowhere and the folders that cannot be listed, below a root: a reader may take them for empty."""
    refused: list[str] = []

    def note(error: OSError) -> None:
        refused.append(str(error.filename))

    for folder, folders, files in os.walk(root, onerror=note):
        names = (os.path.join(folder, name) for name in (*folders, *files))
        refused.extend(path for path in names if os.path.islink(path) and not os.path.exists(path))
    return sorted(refused)


def check_none_empty(folders: Iterable[Path], pattern: str = "*") -> None:
    """Refuse a folder that is there and has no files, where others of the same kind have some.

    Args:
        folders: of one kind: the images of each sequence, or its labels. Those that are not there count for nothing.

    Raises:
        BadInput: naming the first, or what cannot be reached.
    """
    counts = {folder: sum(fnmatchcase(name, pattern) for name in names_of(folder)) for folder in folders}
    for folder in counts:
        problem = empty_beside(folder, counts)
        if problem is not None:
            raise BadInput(problem)


def _check_folder(folder: Path, optional: bool) -> None:
    if not is_reachable(folder):
        if not optional:
            raise BadInput(f"{folder} is missing; extract its archive, or give another root")
    elif not folder.is_dir():
        raise BadInput(f"{folder} is no folder; extract its archive again")


def _fitting(folder: Path, pattern: str) -> list[Path]:
    paths = [folder / name for name in names_of(folder) if fnmatchcase(name, pattern)]
    for path in paths:
        if path.is_symlink():
            is_reachable(path)
    return paths
