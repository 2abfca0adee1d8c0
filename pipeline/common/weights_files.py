"""Files of weights: what each format carries to check itself, and an identity of tensors and names alone.

The bytes of a file are no identity: torch writes zips with times and names in them, and safetensors writes its metadata in
random order. Imports torch only to open a file of torch.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

METADATA = "__metadata__"
HEADER_LIMIT = 100_000_000
"""Bytes of a header: the limit of safetensors itself."""
BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16}
BITS |= {"I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64, "C64": 64}
"""Bits of a value, by the name of its type in safetensors."""
_TORCH = {
    "float32": "F32",
    "float64": "F64",
    "float16": "F16",
    "bfloat16": "BF16",
    "uint8": "U8",
    "int8": "I8",
}
_TORCH |= {"int16": "I16", "int32": "I32", "int64": "I64", "bool": "BOOL", "complex64": "C64"}
_PIECE = 1 << 24


def check_zip(path: Path) -> None:
    """Compare every file in a zip that torch wrote with its CRC-32. torch itself loads a flipped bit without an error.

    Raises:
        ValueError: naming the first that fails.
        zipfile.BadZipFile: if it is no whole zip.
    """
    with zipfile.ZipFile(path) as archive:
        broken = archive.testzip()
    if broken is not None:
        raise ValueError(
            f"{broken} in it fails its checksum: a bit changed since torch.save wrote it, or it was written without "
            f"checksums (set_crc32_options)"
        )


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where the tensors' bytes begin.

    Raises:
        ValueError: if it is no such file, or its tensors do not lie side by side from there to the end of the file.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(HEADER_LIMIT, size - 8):
            raise ValueError(f"its header would have {length:,} bytes, the file has {size:,}")
        try:
            header: dict[str, Any] = json.loads(file.read(length))
        except ValueError as error:
            raise ValueError(f"its header is no JSON ({error})") from error
    end = 0
    try:
        entries = [(name, entry) for name, entry in header.items() if name != METADATA]
        for name, entry in sorted(entries, key=lambda item: item[1]["data_offsets"]):
            begin, last = entry["data_offsets"]
            bits = BITS[entry["dtype"]] * prod(entry["shape"])
            if begin != end or (last - begin) * 8 != bits or min(entry["shape"], default=0) < 0:
                raise ValueError(f"{name} lies at bytes {begin} to {last}, and does not fit there")
            end = last
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its header describes no tensors ({error!r})") from error
    if 8 + length + end != size:
        raise ValueError(f"its tensors end at byte {8 + length + end:,}, the file at {size:,}")
    return header, 8 + length


def write_header_in_order(path: Path) -> None:
    """Write the metadata of a safetensors file in the order of its keys, so that the same weights are the same bytes."""
    header, begin = read_header(path)
    metadata = header.get(METADATA, {})
    ordered = {METADATA: dict(sorted(metadata.items())), **{k: v for k, v in header.items() if k != METADATA}}
    text = json.dumps(ordered, separators=(",", ":"), ensure_ascii=False).encode()
    if len(text) > begin - 8:
        raise ValueError(
            f"the header of {path} cannot be put in order: it is spelled otherwise than expected"
        )
    with open(path, "r+b") as file:
        file.seek(8)
        file.write(text.ljust(begin - 8))


def plain_name(name: str) -> str:
    """A tensor's name without what training wrappers put before every name (DINO's full checkpoints: `module.backbone.`)."""
    for prefix in ("module.", "backbone."):
        name = name.removeprefix(prefix)
    return name


def digest_of_file(path: Path, rename: Callable[[str], str] = str) -> str:
    """SHA-256 over the names, types, shapes and bytes of all tensors of a safetensors file, in the order of their names.

    rename: what a tensor is called instead of its name in the file.

    Raises:
        ValueError: as `read_header`.
    """
    header, begin = read_header(path)
    named = [(rename(name), entry) for name, entry in header.items() if name != METADATA]
    hasher = sha256()
    with open(path, "rb") as file:
        for name, entry in sorted(named, key=lambda item: item[0]):
            hasher.update(_head(name, entry["dtype"], entry["shape"]))
            first, last = entry["data_offsets"]
            file.seek(begin + first)
            while first < last:
                piece = file.read(min(_PIECE, last - first))
                if not piece:
                    raise ValueError(f"{name} ends before its last byte")
                hasher.update(piece)
                first += len(piece)
    return hasher.hexdigest()


def digest_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """As `digest_of_file`, of tensors in memory: the same digest, whichever file they come from."""
    import torch

    hasher = sha256()
    for name, value in sorted(tensors.items()):
        kind = str(value.dtype).removeprefix("torch.")
        hasher.update(_head(name, _TORCH.get(kind, kind), value.shape))
        hasher.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()


def _head(name: str, kind: str, shape: Iterable[int]) -> bytes:
    return f"{name} {kind} {tuple(shape)}\n".encode()
