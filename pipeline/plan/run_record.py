"""done.json of a training or an import: written last, with a digest of each file of the folder that is read again later.

A run of before this was written has no digests in its done.json. It is taken as it is: "not recorded". Imports no torch.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection
from hashlib import sha256
from pathlib import Path
from typing import Any

from cache_schemas.access import access_to, is_there, read_regular
from cache_schemas.canonical import digest, sha256_file
from cache_schemas.errors import GriddleError
from cache_schemas.publish import write_json
from pipeline.common.run_files import CONFIG, CURVE, DONE, METRICS, PROVENANCE, RESUME, WEIGHTS

FILES = (CONFIG, METRICS, PROVENANCE, CURVE)
"""Whose digests are recorded, where a folder has them. The weights' digest is in the provenance."""
KIND = "griddle run"
DIGEST_LENGTH = 64


class ChangedFile(GriddleError):
    """A file of a finished run is not the one that was written."""


def write_record(folder: Path, facts: dict[str, Any]) -> None:
    """Write done.json. What a sound one that is there recorded of a file stays: the file may have changed since."""
    files = {name: sha256_file(folder / name) for name in FILES if (folder / name).is_file()}
    sealed = {"griddle": KIND, **facts, "files": files | (recorded_files(folder) or {})}
    write_json(folder / DONE, {**sealed, "digest": digest(sealed, DIGEST_LENGTH)})


def forget_record(folder: Path) -> None:
    """Remove done.json before the files of the folder are written anew."""
    (folder / DONE).unlink(missing_ok=True)


def recorded_files(folder: Path) -> dict[str, str] | None:
    """The SHA-256 of each recorded file; None where nothing was recorded.

    Raises:
        ChangedFile: if done.json is no JSON, or does not agree with its own digest.
    """
    path = folder / DONE
    try:
        with access_to(path):
            body = json.loads(read_regular(path))
        if not isinstance(body, dict):
            raise ValueError("it holds no mapping")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ChangedFile(f"{path} cannot be read ({error}).\n{mending(folder, [DONE])}") from error
    if "files" not in body and "digest" not in body:
        return None
    sealed = {key: value for key, value in body.items() if key != "digest"}
    if digest(sealed, DIGEST_LENGTH) != body.get("digest"):
        raise ChangedFile(
            f"{path} does not agree with its own digest: it was changed.\n{mending(folder, [DONE])}"
        )
    files: dict[str, str] = body["files"]
    return files


def read_recorded(folder: Path, name: str) -> bytes:
    """The bytes of a file of a run, an import, a probe or a finetuning, which are those that done.json recorded, if it did.

    Raises:
        NoAccess: if the system refuses to read it.
        OSError: if the file is missing.
        ChangedFile: if it is not the one that was written.
    """
    with access_to(folder / name):
        data = read_regular(folder / name)
    recorded = (recorded_files(folder) or _in_provenance(folder)).get(name)
    if recorded is not None and sha256(data).hexdigest() != recorded:
        raise ChangedFile(
            f"{folder / name} is not the one that was written when this was done (SHA-256): it was changed.\n"
            f"{mending(folder, [name])}"
        )
    return data


def read_facts(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of a run, checked as by `read_recorded`.

    Raises:
        NoAccess: if the system refuses to read it.
        OSError: if the file is missing.
        ValueError: if it holds no JSON mapping.
        ChangedFile: if it is not the one that was written.
    """
    facts = json.loads(read_recorded(folder, name))
    if not isinstance(facts, dict):
        raise ValueError(f"{name} holds no mapping")
    return facts


def changed_files(folder: Path) -> list[str]:
    """In words, each beginning with a file's name, what of a finished run is not as it was recorded.

    A run of before recorded the digests of its weights, and of the scores of a probe or a finetuning, in its provenance.

    Raises:
        NoAccess: if the system refuses to read one of the files.
    """
    try:
        recorded = recorded_files(folder)
    except ChangedFile as error:
        return [str(error).splitlines()[0].removeprefix(f"{folder}/")]
    wanted = {**_in_provenance(folder), **(recorded or {})}
    changed = []
    for name, expected in wanted.items():
        path = folder / name
        if not is_there(path):
            changed.append(f"{name} is missing")
            continue
        with access_to(path):
            sha256_now = sha256_file(path)
        if sha256_now != expected:
            changed.append(f"{name} is not the one that was written (SHA-256)")
    return changed


def _in_provenance(folder: Path) -> dict[str, str]:
    """The digests that the provenance holds; none where it cannot be read, which is told of the provenance itself."""
    try:
        with access_to(folder / PROVENANCE):
            facts = json.loads(read_regular(folder / PROVENANCE))
        digests = {WEIGHTS: facts.get("weights_sha256"), METRICS: facts.get("metrics_sha256")}
    except (OSError, ValueError, AttributeError):
        return {}
    return {name: value for name, value in digests.items() if isinstance(value, str)}


def is_recorded(folder: Path) -> bool:
    """Whether done.json is there and holds digests."""
    try:
        return recorded_files(folder) is not None
    except ChangedFile:
        return True


def mending(folder: Path, names: Collection[str] = ()) -> str:
    """How files of a run are written again, as a sentence for an error. names: the files, where they are known."""
    if folder.parent.name == "imported" or _is_import(folder):
        return f"Delete {folder} and import the weights again: griddle weights import FILE --out {shlex.quote(str(folder))}"
    again = "and the same snakemake command again"
    if set(names) == {CURVE}:
        return (
            f"No score rests on the curve: it may stay as it is. To train this anew, run "
            f"`{_removal(folder, '-rf', RESUME, PROVENANCE, DONE)}`, {again}."
        )
    if set(names) == {DONE}:
        return f"Run `{_removal(folder, '-f', DONE)}`, {again}: it is written anew if all else is there."
    after = "it trains this anew."
    if is_there(folder / RESUME):
        after = "it goes on from the last checkpoint and writes the files anew; without a checkpoint it trains anew."
    return f"Run `{_removal(folder, '-f', PROVENANCE, DONE)}`, {again}: {after}"


def _removal(folder: Path, option: str, *names: str) -> str:
    return shlex.join(["rm", option, *(str(folder / name) for name in names)])


def _is_import(folder: Path) -> bool:
    """Whether one of two files says so: the other may be the changed one."""
    return (
        any(
            path.is_file() and b'"imported"' in path.read_bytes()
            for path in (folder / PROVENANCE, folder / DONE)
        )
        and not (folder / CONFIG).is_file()
    )
