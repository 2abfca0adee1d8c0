"""The feature store: the teacher's patch grid of every image."""

from cache_schemas.schema import ArraySpec, StoreSchema

STORAGES = ("float16", "float32", "int8")
"""The ways of storing values."""
GROUP = 32
"""Channels that share a scale in int8 storage."""

_FRAME = "the teacher's input image: row 0, col 0 is its top left patch"


def features_schema(storage: str) -> StoreSchema:
    """The schema for one way of storing values: `float32`, `float16` or `int8` (`cache_schemas/storage.py`)."""
    arrays = [
        ArraySpec(
            name="features",
            dtype=storage,
            dims=("image", "row", "col", "channel"),
            chunk_rows=1,
            units="levels of `scales`" if storage == "int8" else "as the teacher's layer gives them",
            about="The patch grid of each image; one image is one inner chunk.",
            frame=_FRAME,
        )
    ]
    if storage == "int8":
        arrays.append(
            ArraySpec(
                name="scales",
                dtype="float16",
                dims=("image", "row", "col", "group"),
                chunk_rows=1,
                units="as the teacher's layer gives them, per level",
                about=f"What one level of `features` stands for, for each {GROUP} channels in turn.",
                frame=_FRAME,
            )
        )
    return StoreSchema(
        store="features",
        version=3,
        identity={
            "model": "the teacher's name in timm",
            "weights": "where they come from: the hub and its revision, the tensors of a local file (before: its name), or seed and init where untrained",
            "layer": "where the network is read, and what there",
            "image_size": "height and width in pixels of the teacher's input",
            "antialias": "whether the resize to it smooths",
            "decode": "how images are decoded and resized: exact, or a faster way",
            "position_embedding": "whose way of bringing position embeddings to this size: timm's, or the original authors'",
            "precision": "in which the teacher computes",
            "standardise": "digest of the fixed affine over the channels, or null",
            "storage": "how values are stored",
            "algorithm": "raised when the meaning of the bytes changes",
        },
        arrays=tuple(arrays),
        attributes={
            "images": "the images, relative to the dataset's root, in order",
            "unreadable": "rows of images that could not be read: zeros stand there, and no reader gives them out",
            "teacher": "the teacher's identity, whole, and the digest of its weights",
            "licence": "of the teacher's weights, which may bind what is derived from them",
            "image_size": "height and width in pixels of the teacher's input",
            "patch": "side in pixels of the part of the input that one row of the patch grid stands for",
        },
    )
