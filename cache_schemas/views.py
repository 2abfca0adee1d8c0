"""The view store: which points each camera sees, the pixel each falls on, representatives and neighbours.

Row numbers take 16 bits in a partition where all of them fit, which halves the store for 32-beam lidars, and 32
bits elsewhere: scans of 64 beams hold some 120,000 points, and 70,000 voxels.
"""

from cache_schemas.schema import CHUNK_ROWS, ArraySpec, StoreSchema, offsets, row_numbers

VIEWS = StoreSchema(
    store="views",
    version=4,
    identity={
        "scan_id": "of the scan store whose points these are",
        "mask": "which points a camera sees: least depth, and the border that is left out",
        "voxel": "side of a voxel in metres",
        "voxels_along": "whose axes voxels lie along: the scan's or those of its lidar file",
        "neighbours": "of each representative",
        "spares": "further neighbours, for those that a crop removes",
        "field_of_view": "that crops are expected to be to, for the spares; null where there are none",
        "variants": "independent draws of the representatives",
        "seed": "of these draws",
        "algorithm": "raised when the meaning of the bytes changes",
    },
    arrays=(
        ArraySpec(
            name="view_scan",
            dtype="uint32",
            dims=("view",),
            chunk_rows=CHUNK_ROWS,
            units="scan",
            about="The scan of each view, counted within the partition.",
        ),
        ArraySpec(
            name="view_camera",
            dtype="uint8",
            dims=("view",),
            chunk_rows=CHUNK_ROWS,
            units="camera",
            about="The camera of each view: its place in the attribute `cameras`.",
        ),
        ArraySpec(
            name="image_size",
            dtype="uint32",
            dims=("view", "side"),
            chunk_rows=CHUNK_ROWS,
            units="pixel",
            about="Height and width of the original image.",
        ),
        offsets(
            "seen_offsets",
            "view_bound",
            "View v sees the rows seen_offsets[v] to seen_offsets[v + 1] of point, pixel and depth.",
        ),
        row_numbers(
            "point",
            ("seen",),
            "A seen point: its row within its scan, ascending.",
        ),
        ArraySpec(
            name="pixel",
            dtype="float32",
            dims=("seen", "image_axis"),
            chunk_rows=CHUNK_ROWS,
            units="pixel",
            about="Where each seen point falls in the original image, continuous; floor gives the published pixel.",
            frame=(
                "the original image: column u to the right, row v down, (0, 0) is the first corner of the first "
                "pixel, whose centre is at (0.5, 0.5)"
            ),
        ),
        ArraySpec(
            name="depth",
            dtype="float32",
            dims=("seen",),
            chunk_rows=CHUNK_ROWS,
            units="m",
            about="Distance of each seen point from the camera.",
            frame="the camera's: along its optical axis",
        ),
        offsets(
            "kept_offsets",
            "variant_view_bound",
            (
                "With i = 2 (k * views + v): in variant k, view v keeps the rows kept_offsets[i] to [i + 1] of kept "
                "and neighbours, one seen point per occupied voxel; rows [i + 1] to [i + 2] are more neighbours of "
                "some of them."
            ),
        ),
        row_numbers(
            "kept",
            ("representative",),
            (
                "A voxel's representative: its place among the seen points of its view. In voxel order. In a row of "
                "more neighbours: whose they are, counted within the representatives, ascending."
            ),
        ),
        row_numbers(
            "neighbours",
            ("representative", "neighbour"),
            (
                "The nearest other representatives of the same view and variant, nearest first, counted within "
                "them. Rows of more neighbours go on where these, and the row before, end: spares for those that a "
                "crop to `field_of_view` can remove."
            ),
        ),
    ),
    sizes={"side": 2, "image_axis": 2},
    ragged={"seen_offsets": "seen", "kept_offsets": "representative"},
    attributes={
        "cameras": "the cameras' names, in order of their numbers",
        "images": "the image of each view, relative to the dataset's root, in the order of the views",
        "scans": "the scans' names in the dataset, in order",
        "scan_points": "how many points each scan has, as the views were computed from it",
        "unusable": "views that see too few points to be drawn in training",
        "voxel": "side of a voxel in metres",
        "variants": "how many independent draws of the representatives there are",
        "spares": "how many more neighbours a representative has, where a crop can remove some of its neighbours",
        "field_of_view": "range of x, y and z in metres that crops are expected to be to, at any turn about z and up to "
        "a tenth larger; null where there are no spares",
    },
)
