"""Publishing finished work: a reader sees all of it or nothing. There are no locks, and publishing twice does no harm."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cache_schemas.access import no_access
from cache_schemas.disk import naming

WRITING = ".writing"
_ASIDE = re.compile(r"\.damaged-[0-9a-f]+$")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file beside its place, fsync, rename: a reader sees the old file or the new one."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """How we spell JSON in files."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write_bytes(path: Path, data: bytes) -> None:
    """As `write_json`, for any bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{WRITING}-{path.name}-{_signature()}")
    try:
        with naming(path), open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    fsync_folder(path.parent)


def working_folder(parent: Path, name: str) -> Path:
    """A new folder beside the place of `name`. Its name says which process writes it."""
    parent.mkdir(parents=True, exist_ok=True)
    sweep_dead(parent, [name])
    folder = parent / f"{WRITING}-{name}-{_signature()}"
    folder.mkdir()
    return folder


def fsync_tree(folder: Path) -> None:
    """Flush every file and folder below `folder` to disk."""
    for root, _, files in os.walk(folder):
        for name in files:
            with open(os.path.join(root, name), "rb") as file:
                os.fsync(file.fileno())
        fsync_folder(Path(root))


def files_below(folder: Path) -> set[str]:
    """The files below a folder, relative to it. Fewer, and no error, where another process is just renaming it.

    Raises:
        NoAccess: if the system refuses to list a folder.
    """
    return {
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, _, names in os.walk(folder, onerror=_unless_vanished)
        for name in names
    }


def fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_tree(path: Path) -> None:
    """Delete by renaming first, so that no reader sees half of it."""
    doomed = path.with_name(f"{WRITING}-removed-{path.name}-{_signature()}")
    try:
        os.rename(path, doomed)
    except FileNotFoundError:
        return
    delete(doomed)


def set_aside(path: Path) -> Path:
    """Rename a damaged file or folder so that it is no longer found; returns where it went."""
    aside = path.with_name(f"{path.name}.damaged-{secrets.token_hex(4)}")
    os.rename(path, aside)
    return aside


def is_beside(name: str) -> bool:
    """Whether a name is that of unfinished or doomed work, which a listing must not take for published."""
    return name.startswith(f"{WRITING}-") or bool(_ASIDE.search(name))


def is_aside(name: str) -> bool:
    """Whether `set_aside` gave this name."""
    return bool(_ASIDE.search(name))


def writer_is_dead(name: str) -> bool:
    """Whether unfinished work of this name was left by a process of this host that is no more."""
    match = re.fullmatch(rf"{re.escape(WRITING)}-.+-{re.escape(socket.gethostname())}-(\d+)-[0-9a-f]+", name)
    return match is not None and not _alive(int(match.group(1)))


def sweep_dead(parent: Path, names: Iterable[str]) -> list[Path]:
    """Remove what processes of this host left of these partitions or files when they were killed.

    What cannot be removed (in a folder that may only be read) stays, and does no harm.
    """
    try:
        left = [entry for entry in os.listdir(parent) if entry.startswith(f"{WRITING}-")]
    except FileNotFoundError:
        return []
    swept: list[Path] = []
    for name in names if left else ():
        leftover = re.compile(rf"{re.escape(WRITING)}-(removed-(?:\.writing-)?)?{re.escape(name)}[.-].*")
        for entry in left:
            if leftover.fullmatch(entry) and writer_is_dead(entry):
                with suppress(OSError):
                    delete(parent / entry)
                    swept.append(parent / entry)
    return swept


def delete(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; fine if another process is removing it, too."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, onerror=_unless_gone)
    else:
        path.unlink(missing_ok=True)


def _unless_vanished(error: OSError) -> None:
    refused = no_access(error, error.filename)
    if refused is not None:
        raise refused from error


def _unless_gone(call: Any, path: str, info: Any) -> None:
    if not isinstance(info[1], FileNotFoundError):
        raise info[1]


def _signature() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # In a container without an init, an ended process may keep its number for ever; it writes no more.
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return True
