"""What a file or folder of ours is and where it came from, as a table of facts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cache_schemas import manifest as manifests
from cache_schemas.errors import BadInput, DamagedCache
from cache_schemas.manifest import Manifest, check_own_place, is_valid, read_manifest
from cache_schemas.reading import check_metadata
from pipeline.cache.inspect_cache import Facts, manifest_beside, of_cache, of_partition
from pipeline.cache.inspect_workdir import as_written, changed_index, of_workdir
from pipeline.common.run_files import CONFIG, DONE, LEASE, PROVENANCE, RESUME
from pipeline.common.weights_files import check_zip
from pipeline.datasets import scan_names
from pipeline.plan.run_record import FILES


def inspect(path: Path) -> Facts:
    """The facts of a file or folder of ours; the first key is `what`.

    Raises:
        BadInput: if it does not exist or is none of ours.
        DamagedCache: if it is ours and damaged.
    """
    if not path.exists():
        raise BadInput(f"{path} does not exist")
    place = path.absolute()
    facts = of_partition(place) or _by_content(path) or of_cache(place) or of_workdir(place)
    if facts is None:
        raise BadInput(
            f"{path} is none of Griddle's files; it knows caches, workdirs and all that lies in them: manifests, "
            f"stores, lots, indices, runs, weights, checkpoints, reports and logs"
        )
    return facts


def view_manifest(path: Path) -> Manifest:
    """The manifest of a view partition.

    Raises:
        BadInput: if `path` is something else.
    """
    facts = inspect(path)
    if facts["what"] != manifests.KIND or not facts["schema"].startswith("views/"):
        raise BadInput(
            f"{path} is a {facts['what']} of {facts.get('schema')}, and overlays need a view manifest"
        )
    return read_manifest(Path(facts["manifest"]))


def _by_content(path: Path) -> Facts | None:
    """The facts of a file whose content says what it is; None if only its place does."""
    if path.is_dir():
        return _folder(path)
    if path.suffix == ".json":
        return _json(path)
    if path.suffix == ".safetensors":
        return _weights(path)
    if path.suffix == ".pt":
        return _checkpoint(path)
    return _json(manifest_beside(path).path) if path.suffix == ".crc" else None


def _folder(path: Path) -> Facts | None:
    if path.suffix == ".zarr":
        return _json(manifest_beside(path).path)
    if (path / PROVENANCE).exists():
        facts = _json(path / PROVENANCE) or {}
        written = as_written(path)
        return {
            **facts,
            "complete": (path / DONE).exists() and written.get("as_written") is not False,
            **written,
        }
    if (path / RESUME).is_dir() or (path / CONFIG).exists():
        steps = sorted(p.name for p in path.glob("resume/step-*.pt"))
        return {
            "what": "griddle run, not complete",
            "checkpoints": steps,
            "lease": (path / LEASE).exists(),
        }
    for name in ("index.json", DONE):
        if (path / name).is_file():
            return _json(path / name)
    return None


def _json(path: Path) -> Facts | None:
    try:
        body = json.loads(path.read_bytes())
    except ValueError as error:
        raise BadInput(f"{path} is no valid JSON ({error})") from error
    kind = body.get("griddle") if isinstance(body, dict) else None
    describe: dict[str, Callable[[Path, Facts], Facts]] = {
        manifests.KIND: _partition,
        "griddle lot": _lot,
        "griddle index": _index,
        "griddle provenance": _provenance,
        scan_names.KIND: _scan_names,
    }
    recorded = as_written(path.parent, path.name) if path.name in FILES else {}
    if kind in describe:
        return {"what": kind, **describe[kind](path, body), **recorded}
    if isinstance(kind, str):
        return {"what": kind, **{key: value for key, value in body.items() if key != "griddle"}, **recorded}
    return None


def _scan_names(path: Path, body: Facts) -> Facts:
    names = body["partitions"]
    dataset = path.parent.name
    return {"dataset": dataset, "partitions": len(names), "scans": sum(map(len, names.values()))}


def _partition(path: Path, body: Facts) -> Facts:
    manifest = read_manifest(path)
    valid = is_valid(path.parent, manifest.partition, manifest.member_digest)
    metadata: dict[str, Any] = {}
    problem = {}
    try:
        check_own_place(manifest)
        metadata = {name: json.loads(data) for name, data in check_metadata(manifest).items()}
    except DamagedCache as error:
        valid, problem = False, {"problem": str(error)}
    return {
        "schema": body["schema"],
        "partition": manifest.partition,
        "valid": valid,
        **problem,
        "manifest": str(path),
        "store": str(manifest.store),
        "bytes": manifest.bytes,
        "files": len(body["files"]),
        "counts": manifest.counts,
        "left_out": manifest.left_out,
        **({"warnings": manifest.warnings} if manifest.warnings else {}),
        **({"measured": body["measured"]} if body["measured"] else {}),
        **_licence(metadata),
        "member_digest": manifest.member_digest,
        "content_digest": manifest.content_digest,
        "identity": body["identity"],
        "arrays": _arrays(manifest, metadata),
        "made": body["made"],
    }


def _licence(metadata: Facts) -> Facts:
    """The licence of the teacher's weights, if the partition holds features."""
    attributes = metadata["zarr.json"]["attributes"] if metadata else {}
    return {"licence": attributes["licence"]} if "licence" in attributes else {}


def _arrays(manifest: Manifest, metadata: Facts) -> Facts:
    """Shape, type, chunk and shard of each array, as its checked zarr.json says."""
    arrays: Facts = {}
    for name in manifest.body["crc"]["arrays"]:
        meta = metadata.get(f"{name}/zarr.json")
        if meta is not None:
            arrays[name] = {
                "shape": meta["shape"],
                "dtype": meta["data_type"],
                "dims": meta["dimension_names"],
                "chunk": meta["codecs"][0]["configuration"]["chunk_shape"],
                "shard": meta["chunk_grid"]["configuration"]["chunk_shape"],
                "units": meta["attributes"]["units"],
            }
    return arrays


def _lot(path: Path, body: Facts) -> Facts:
    return {key: body[key] for key in ("stage", "dataset", "split", "store", "partitions", "made")}


def _index(path: Path, body: Facts) -> Facts:
    entries = body["partitions"]
    return {
        "dataset": body["dataset"],
        "root": body["cue"]["root"],
        "version": body["cue"]["version"],
        "partitions": len(entries),
        "scans": sum(entry["scans"] for entry in entries),
        "images": sum(entry["images"] for entry in entries),
        "broken": {entry["name"]: entry["problem"] for entry in entries if entry["problem"]},
        "absent": [entry["name"] for entry in body["absent"]],
        "left_out": body["left_out"],
        **changed_index(path, body),
    }


def _provenance(path: Path, body: Facts) -> Facts:
    return {key: value for key, value in body.items() if key != "griddle"}


def _weights(path: Path) -> Facts:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise BadInput(f"{path} is damaged, or no safetensors file ({error})") from error
    if "griddle" not in metadata:
        raise BadInput(f"{path} is a safetensors file, but not one that Griddle wrote")
    facts: Facts = {"what": metadata.pop("griddle"), **metadata, "tensors": len(shapes), "shapes": shapes}
    if (path.parent / PROVENANCE).exists():
        facts["provenance"] = _json(path.parent / PROVENANCE)
    return facts


def _checkpoint(path: Path) -> Facts:
    import torch

    try:
        check_zip(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {
            "what": "griddle checkpoint",
            "run_id": state["run_id"],
            "step": state["step"],
            "tensors": len(state["model"]),
            "parameters": sum(value.numel() for value in state["model"].values()),
        }
    except Exception as error:  # torch raises what it meets: zip, pickle and key errors
        raise BadInput(
            f"{path} is no checkpoint of ours, or damaged ({type(error).__name__}: {error})"
        ) from error
