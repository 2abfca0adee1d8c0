"""The scan store: the points of every scan of one dataset.

Chunks are small: one camera's points are a short run of a scan's, and whole scans take no longer for it.
"""

from cache_schemas.schema import CHUNK_ROWS, ArraySpec, StoreSchema, offsets

SCANS = StoreSchema(
    store="scans",
    version=2,
    identity={
        "dataset": "its name in the config",
        "reader": "the reader's name",
        "reader_version": "raised when the reader gives other points",
        "dataset_version": "as the dataset names it",
        "frame": "the coordinate frame of xyz",
    },
    arrays=(
        offsets(
            "scan_offsets",
            "scan_bound",
            "Points of scan s are the rows scan_offsets[s] to scan_offsets[s + 1] of xyz and intensity.",
        ),
        ArraySpec(
            name="xyz",
            dtype="float32",
            dims=("point", "axis"),
            chunk_rows=CHUNK_ROWS,
            units="m",
            about="Position of each point, in file order.",
            frame="the one that the partition's attribute `frame` names",
        ),
        ArraySpec(
            name="intensity",
            dtype="float32",
            dims=("point",),
            chunk_rows=CHUNK_ROWS,
            units="as recorded",
            about="Return intensity as the dataset records it, not normalised.",
        ),
    ),
    sizes={"axis": 3},
    ragged={"scan_offsets": "point"},
    attributes={
        "frame": "the coordinate frame of xyz",
        "scans": "the scans' names in the dataset, in order",
    },
)

LABELS = StoreSchema(
    store="labels",
    version=1,
    identity={
        "label_map": "which map from the dataset's own labels to classes",
        "label_map_version": "raised when the map changes",
    },
    arrays=(
        offsets(
            "scan_offsets",
            "scan_bound",
            "Labels of scan s are the rows scan_offsets[s] to scan_offsets[s + 1].",
        ),
        ArraySpec(
            name="label",
            dtype="uint8",
            dims=("point",),
            chunk_rows=CHUNK_ROWS,
            units="class",
            about="Class of each point, row by row with the scan store; 255 is ignored.",
        ),
    ),
    ragged={"scan_offsets": "point"},
    attributes={
        "classes": "the classes' names, in order of their numbers",
        "scans": "the scans' names in the dataset, in order",
    },
)
