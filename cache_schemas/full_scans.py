"""The full-scan store: whole scans as they are scored: one point per voxel, its neighbours, and whose class a point takes.

Made for the evaluated splits alone, once for each voxel size and field of view: scoring a scan then costs no search.
"""

from cache_schemas.schema import StoreSchema, offsets, row_numbers

FULL_SCANS = StoreSchema(
    store="full_scans",
    version=1,
    identity={
        "scan_id": "of the scan store whose points these are",
        "voxel": "side of a voxel in metres",
        "neighbours": "of each representative",
        "field_of_view": "range of x, y and z in metres; points outside are nobody's representative",
        "algorithm": "raised when the meaning of the bytes changes",
    },
    arrays=(
        offsets(
            "scan_offsets",
            "scan_bound",
            "Points of scan s are the rows scan_offsets[s] to scan_offsets[s + 1] of nearest.",
        ),
        offsets(
            "kept_offsets",
            "scan_bound",
            (
                "Scan s keeps the rows kept_offsets[s] to kept_offsets[s + 1] of kept and neighbours: of each voxel the "
                "first point in file order, where that lies in the field of view."
            ),
        ),
        row_numbers(
            "kept",
            ("representative",),
            "A voxel's representative: its row within its scan. In voxel order.",
        ),
        row_numbers(
            "neighbours",
            ("representative", "neighbour"),
            (
                "The nearest other representatives of the same scan, nearest first, counted within them; a scan that "
                "keeps fewer fills the row's end with the representative itself."
            ),
        ),
        row_numbers(
            "nearest",
            ("point",),
            (
                "Of each point of the scan, inside the field of view or not, the nearest representative, counted "
                "within the scan's: the point takes its class."
            ),
        ),
    ),
    ragged={"scan_offsets": "point", "kept_offsets": "representative"},
    attributes={
        "scans": "the scans' names in the dataset, in order",
        "voxel": "side of a voxel in metres",
        "field_of_view": "range of x, y and z in metres",
    },
)
