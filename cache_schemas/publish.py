"""Putting finished work in its place: whole or not at all, without locks, as often as anyone likes."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
from pathlib import Path
from typing import Any

WRITING = ".writing"


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file beside its place, fsync, rename: a reader sees the old file or the new one."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def write_bytes(path: Path, data: bytes) -> None:
    """As `write_json`, for any bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{WRITING}-{path.name}-{_signature()}")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    fsync_folder(path.parent)


def working_folder(parent: Path, name: str) -> Path:
    """A new folder beside the place of `name`, named so that its writer can be told."""
    parent.mkdir(parents=True, exist_ok=True)
    _sweep_dead(parent, name)
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


def fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_tree(path: Path) -> None:
    """Delete by renaming first, so that nobody sees half of it."""
    doomed = path.with_name(f"{WRITING}-removed-{path.name}-{_signature()}")
    try:
        os.rename(path, doomed)
    except FileNotFoundError:
        return
    if doomed.is_dir():
        shutil.rmtree(doomed)
    else:
        doomed.unlink()


def set_aside(path: Path) -> Path:
    """Rename a damaged file or folder so that it is no longer found; returns where it went."""
    aside = path.with_name(f"{path.name}.damaged-{secrets.token_hex(4)}")
    os.rename(path, aside)
    return aside


def _signature() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def _sweep_dead(parent: Path, name: str) -> None:
    """Remove what processes of this host left of the same partition when they were killed."""
    signed = re.compile(
        rf"{re.escape(WRITING)}-(removed-(?:\.writing-)?)?{re.escape(name)}[.-].*?{re.escape(socket.gethostname())}-(\d+)-[0-9a-f]+"
    )
    for entry in list(parent.iterdir()):
        match = signed.fullmatch(entry.name)
        if match and not _alive(int(match.group(2))):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
