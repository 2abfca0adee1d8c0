"""The feature store: the teacher's patch grid of every image."""

from cache_schemas.schema import ArraySpec, StoreSchema

STORAGES = ("float16", "float32")
"""The ways of storing values."""


def features_schema(storage: str) -> StoreSchema:
    """The schema for one way of storing values: `float16` or `float32`."""
    return StoreSchema(
        store="features",
        version=1,
        identity={
            "model": "the teacher's name in timm",
            "weights": "where they come from: the hub, a local file, or seed and init where untrained",
            "layer": "the block whose output is read",
            "image_size": "height and width in pixels of the teacher's input",
            "antialias": "whether the resize to it smooths",
            "position_embedding": "how the position embedding is brought to this size",
            "precision": "in which the teacher computes",
            "standardise": "digest of the fixed affine over the channels, or null",
            "storage": "how values are stored",
            "algorithm": "raised when the meaning of the bytes changes",
        },
        arrays=(
            ArraySpec(
                name="features",
                dtype=storage,
                dims=("image", "row", "col", "channel"),
                chunk_rows=1,
                units="as the teacher's layer gives them",
                about="The patch grid of each image; one image is one inner chunk.",
                frame="the teacher's input image: row 0, col 0 is its top left patch",
            ),
        ),
        attributes={
            "images": "the images, relative to the dataset's root, in order",
            "teacher": "the teacher's identity, whole",
            "image_size": "height and width in pixels of the teacher's input",
            "patch": "side of a patch in pixels",
        },
    )
