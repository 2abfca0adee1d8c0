"""Make the golden store of a schema, once, when the schema is new: `python tests/support/golden_stores.py "scans/1"`.

A golden store is a tiny partition that some day's writer wrote, with its values as plain JSON beside it. It is
committed and never made again: it stands for the terabytes that lie on people's disks. Values are closed formulas.
"""

from __future__ import annotations

import json
import sys
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from cache_schemas.canonical import digest
from cache_schemas.schema import StoreSchema
from cache_schemas.stores import declared
from cache_schemas.writing import PartitionWriter

GOLDEN = Path(__file__).parents[1] / "golden"
PARTITION, MEMBER = "golden", "0123456789"

SIZES = {
    "scan_bound": 4,
    "point": 9,
    "axis": 3,
    "view": 3,
    "side": 2,
    "view_bound": 4,
    "seen": 9,
    "image_axis": 2,
    "variant_view_bound": 13,
    "representative": 10,
    "neighbour": 5,
    "image": 3,
    "row": 2,
    "col": 3,
    "channel": 8,
    "group": 1,
}
"""Of every dimension; a new one is added here."""

OFFSETS = {
    "scan_offsets": [0, 4, 4, 9],
    "seen_offsets": [0, 4, 4, 9],
    "kept_offsets": [0, 2, 3, 3, 3, 5, 5, 6, 7, 7, 7, 9, 10],
}

OFFSETS_OF = {"full_scans": {"kept_offsets": [0, 6, 6, 10]}}
"""Of a store whose array of the same name divides other rows."""

ATTRIBUTES: dict[str, Any] = {
    "frame": "lidar: x right, y forward, z up",
    "scans": ["scan-0", "scan-1", "scan-2"],
    "classes": ["road", "car", "tree"],
    "cameras": ["LEFT", "RIGHT"],
    "images": ["LEFT/0.jpg", "RIGHT/0.jpg", "LEFT/1.jpg"],
    "unusable": [1],
    "unreadable": [2],
    "voxel": 0.1,
    "variants": 2,
    "spares": 5,
    "field_of_view": [[-64.0, 64.0], [-64.0, 64.0], [-8.0, 8.0]],
    "scan_points": [4, 0, 5],
    "teacher": {"model": "golden"},
    "licence": "golden",
    "image_size": [28, 42],
    "patch": 14,
}
"""Of every attribute that a schema declares; a new one is added here."""


def golden_folder(name: str) -> Path:
    """Where the golden store of a schema lies."""
    return GOLDEN / name.replace("/", "-").replace(" ", "-")


def declaration(schema: StoreSchema) -> dict[str, Any]:
    """What must not change without another version: all but the sentences."""
    return {
        "tag": schema.tag,
        "arrays": [
            {"name": s.name, "dtype": s.dtype, "dims": list(s.dims), "rows": s.chunk_rows, "units": s.units}
            for s in schema.arrays
        ],
        "identity": sorted(schema.identity),
        "attributes": sorted(schema.attributes),
        "sizes": schema.sizes,
        "ragged": schema.ragged,
    }


def values_of(schema: StoreSchema) -> dict[str, np.ndarray]:
    """Fixed values of every array; floats are exact in 16 bits."""
    values = {}
    offsets = OFFSETS | OFFSETS_OF.get(schema.store, {})
    for number, spec in enumerate(schema.arrays):
        shape = [SIZES[dim] for dim in spec.dims]
        dtype = np.dtype(spec.dtype)
        if spec.name in offsets:
            values[spec.name] = np.array(offsets[spec.name], dtype)
            continue
        steps = (np.arange(prod(shape)) * 37 + number) % 251
        if dtype.kind == "f":
            steps = steps * 0.25 - 17
        elif dtype.kind == "i":
            steps = steps - 125
        values[spec.name] = steps.astype(dtype).reshape(shape)
    return values


def make(name: str) -> Path:
    """Write the golden store of a schema that has none."""
    schema, folder = declared()[name], golden_folder(name)
    if folder.exists():
        raise SystemExit(f"{folder} is there: golden stores are never made again")
    attributes = {key: ATTRIBUTES[key] for key in schema.attributes}
    identity = {"schema": schema.tag, **dict.fromkeys(schema.identity, "golden")}
    if " " in name:
        identity["storage"] = name.split(" ")[1]
    values = values_of(schema)
    with PartitionWriter(
        folder, schema, partition=PARTITION, member_digest=MEMBER, identity=identity, attributes=attributes
    ) as writer:
        for array, rows in values.items():
            writer.put(array, rows)
        manifest = writer.publish(counts={"rows": len(rows)}, left_out=[{"what": "a row", "why": "a test"}])
    made = {key: value for key, value in manifest.body["made"].items() if key != "digest"} | {
        "host": "golden"
    }
    body = {**manifest.body, "made": {**made, "digest": digest(made)}}
    manifest.path.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    # no .json: in a store's folder those are manifests
    expected = {
        "declaration": declaration(schema),
        "identity": identity,
        "attributes": attributes,
        "values": {array: rows.tolist() for array, rows in values.items()},
    }
    (folder / "expected.txt").write_text(json.dumps(expected, indent=None, ensure_ascii=False) + "\n")
    return folder


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(f"name a schema of: {', '.join(declared())}")
    for asked in sys.argv[1:]:
        print(make(asked))
