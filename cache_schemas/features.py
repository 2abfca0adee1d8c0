"""The feature store: the teacher's patch grid of every image."""

from cache_schemas.schema import ArraySpec, StoreSchema

GROUP = 32
"""Channels that share a scale in int8 storage."""


def features_schema(storage: str) -> StoreSchema:
    """The schema for one way of storing values: `float32`, `float16` or `int8` (`cache_schemas/storage.py`)."""
    arrays = [
        ArraySpec(
            name="features",
            dtype=storage,
            dims=("image", "row", "col", "channel"),
            chunk_rows=1,
            units="levels of `scales`" if storage == "int8" else "as the teacher's layer gives them",
            about="The patch grid of each image, from its top left patch; one image is one inner chunk.",
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
            )
        )
    return StoreSchema(
        store="features",
        version=2,
        identity=(
            "model",
            "weights",
            "layer",
            "image_size",
            "antialias",
            "decode",
            "position_embedding",
            "precision",
            "standardise",
            "storage",
            "algorithm",
        ),
        arrays=tuple(arrays),
        attributes={
            "images": "the images, relative to the dataset's root, in order",
            "teacher": "the teacher's identity, whole, and the digest of its weights",
            "licence": "of the teacher's weights, which may bind what is derived from them",
            "image_size": "height and width in pixels of the teacher's input",
            "patch": "side in pixels of the part of the input that one row of the patch grid stands for",
        },
    )
