"""The weights in the folder of a training or an import: written whole, and used only if they are what was written."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from cache_schemas.access import access_to, read_regular
from cache_schemas.canonical import sha256_file
from cache_schemas.disk import naming
from cache_schemas.errors import BadInput, GriddleError
from cache_schemas.manifest import made
from cache_schemas.publish import fsync_folder, write_json
from pipeline.common.log import log
from pipeline.common.run_files import CURVE, PROVENANCE, WEIGHTS
from pipeline.common.weights_files import digest_of_file, write_header_in_order
from pipeline.plan.run_record import changed_files, read_facts
from pipeline.plan.starting_weights import Facts


def save_weights(folder: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write weights.safetensors, whole or not at all."""
    beside = folder / f".writing-{WEIGHTS}-{os.getpid()}"
    try:
        with naming(folder / WEIGHTS), _system_errors():
            save_file(
                {name: value.detach().cpu().contiguous() for name, value in tensors.items()}, beside, metadata
            )
            write_header_in_order(beside)
            with open(beside, "rb") as file:
                os.fsync(file.fileno())
        beside.replace(folder / WEIGHTS)
    finally:
        beside.unlink(missing_ok=True)
    fsync_folder(folder)


@contextmanager
def _system_errors() -> Iterator[None]:
    """safetensors says in words alone that a disk is full; the system's error is raised again as such."""
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def write_provenance(folder: Path, run_id: str, identity: Facts, facts: Facts) -> Facts:
    """Write what the weights in the folder came from, with the commit and the time; returns what was written."""
    provenance = {
        "griddle": "griddle provenance",
        "run_id": run_id,
        "identity": identity,
        "weights_sha256": sha256_file(folder / WEIGHTS),
        "tensors_sha256": digest_of_file(folder / WEIGHTS),
        **facts,
        "commit": _commit(),
        "made": made(),
    }
    write_json(folder / PROVENANCE, provenance)
    return provenance


def is_complete(folder: Path, run_id: str) -> bool:
    """Whether weights and provenance of a run exist and agree. If they do, nothing but the marker can be missing.

    A file that is not the one that done.json recorded makes it incomplete, but for the loss curve: only a new training
    would mend that.

    Raises:
        NoAccess: if the system refuses to read one: then nothing is trained anew.
    """
    changed = [what for what in changed_files(folder) if not what.startswith(CURVE)]
    if changed:
        log(f"{folder}: {'; '.join(changed)}: written anew")
        return False
    try:
        provenance = read_facts(folder, PROVENANCE)
        with access_to(folder / WEIGHTS):
            sha256 = sha256_file(folder / WEIGHTS)
        return bool(provenance["run_id"] == run_id and provenance["weights_sha256"] == sha256)
    except (OSError, ValueError, KeyError, TypeError):
        return False


@contextmanager
def complete_run(folder: Path, hint: str) -> Iterator[Facts]:
    """The provenance of a folder that the user named. The `with` block reads what else a complete run must have.

    hint: the end of the error's sentence about which folder to give.

    Raises:
        BadInput: if provenance, weights or something that the block reads is missing.
        ChangedFile: if the provenance is not the one that was written.
    """
    try:
        provenance = read_facts(folder, PROVENANCE)
        with access_to(folder / WEIGHTS):
            (folder / WEIGHTS).stat()
        yield provenance
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{folder} holds no run that is complete ({error}); give a folder <workdir>/runs/<student>-<run id>, {hint}"
        ) from error


@contextmanager
def checked_weights(folder: Path, run_id: str | None = None) -> Iterator[dict[str, Tensor]]:
    """The tensors of a folder. The `with` block puts them into a network; that they do not fit is an error like the others.

    Their SHA-256 is compared after the block, because an error that names a tensor says more. run_id: the run that the
    provenance must be about, if given.

    Raises:
        NoAccess: if the system refuses to read one of the files.
        GriddleError: if they are not those that were trained or imported. It says which command mends the folder.
    """
    path, provenance = folder / WEIGHTS, {}
    try:
        provenance = read_facts(folder, PROVENANCE)
        with access_to(path):
            data = read_regular(path)
        yield load(data)
        if hashlib.sha256(data).hexdigest() != provenance["weights_sha256"]:
            raise ValueError(f"their SHA-256 is not the one in {PROVENANCE}")
        if run_id not in (None, provenance["run_id"]):
            raise ValueError(f"{PROVENANCE} is about run {provenance['run_id']}, not {run_id}")
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        imported = isinstance(provenance, dict) and "imported" in provenance
        mend = (
            f"import them again: griddle weights import FILE --out {folder}"
            if imported
            else "run the same snakemake command again: it trains this anew."
        )
        raise GriddleError(
            f"{path} does not hold the weights that were {'imported' if imported else 'trained'} ({error}).\n"
            f"Delete {folder} and {mend}"
        ) from error


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder; raises as `checked_weights`."""
    with checked_weights(folder) as tensors:
        pass
    return tensors


def _commit() -> str | None:
    """The git commit of the running code, or None where it is no checkout."""
    try:
        head = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip()
