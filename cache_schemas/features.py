"""The feature store: the teacher's patch grid of every image."""

from cache_schemas.schema import ArraySpec, StoreSchema


def features_schema(storage: str) -> StoreSchema:
    """The schema for one way of storing values: `float16` or `float32`."""
    return StoreSchema(
        store="features",
        version=1,
        identity=(
            "model",
            "weights",
            "layer",
            "image_size",
            "antialias",
            "position_embedding",
            "precision",
            "standardise",
            "storage",
            "algorithm",
        ),
        arrays=(
            ArraySpec(
                name="features",
                dtype=storage,
                dims=("image", "row", "col", "channel"),
                chunk_rows=1,
                units="as the teacher's layer gives them",
                about="The patch grid of each image, from its top left patch; one image is one inner chunk.",
            ),
        ),
        attributes={
            "images": "the images, relative to the dataset's root, in order",
            "teacher": "the teacher's identity, whole",
            "image_size": "height and width in pixels of the teacher's input",
            "patch": "side of a patch in pixels",
        },
    )
