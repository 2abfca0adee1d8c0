"""The block of a teacher."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from pipeline.config.blocks import Block, Pair, choice
from pipeline.config.layer import parse_layer
from pipeline.config.model_names import timm_name
from pipeline.config.registry import row_of
from pipeline.config.written import PathText


def is_hub(weights: str) -> bool:
    """Whether a teacher's `weights` are downloaded: `hub`, or `hub@REVISION`."""
    return weights == "hub" or weights.startswith("hub@")


class Teacher(Block):
    """One teacher: a frozen image network and the layer that is read."""

    model: str = Field(
        description=(
            "A teacher of the registry (docs/teachers.md), for instance dinov2_vits14, or any ViT or convnet by its timm "
            "name, for instance vit_small_patch14_dinov2.lvd142m. Both names of one model give the same id."
        )
    )
    weights: PathText = Field(
        "hub",
        description=(
            "hub (downloaded; hub@REVISION for one revision), untrained (drawn from `seed`), or the path of a file, "
            "timm's, the original authors', or of a training of your own (docs/teachers.md). ~ is expanded."
        ),
    )
    seed: int = Field(0, description="Draws the weights where they are untrained.")
    layer: str = Field(
        "",
        description=(
            "What is read: last (the last block before the final norm, without prefix rows), block N, either with keys, "
            "queries or values; last normed; last maskclip, last maskclip projected; stage N of a convnet. Default: what "
            "the registry says of the model, else last."
        ),
    )
    image_size: Pair = Field(
        (224, 448), description="Height and width in pixels to which images are resized."
    )
    antialias: bool = Field(
        False, description="Antialias the bilinear resize. ScaLR's environment did not, ScaLR+'s did."
    )
    position_embedding: Literal["timm", "original"] = Field(
        "timm",
        description=(
            "How position embeddings are resampled to the image size. timm: bicubic with antialias. original: as the "
            "teacher's authors do (docs/teachers.md)."
        ),
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Arithmetic of the forward pass; never chosen by the device found."
    )
    decode: Literal["exact", "draft", "uint8", "gpu"] = Field(
        "exact",
        description=(
            "How images are decoded and resized. exact: as published. draft, uint8, gpu: faster, and not the same features "
            "(docs/teachers.md says by how much)."
        ),
    )
    standardise: PathText | None = Field(
        None,
        description=(
            "A file with a mean and a deviation per channel, taken off and divided by before storing. Made for the "
            "demo's untrained stand-in; real teachers need none."
        ),
    )
    storage: Literal["float16", "float32", "int8"] = Field(
        "float16",
        description="Type of the stored values. int8: with one float16 scale for each group of 32 channels.",
    )
    images_per_batch: PositiveInt = choice(
        8,
        "Images in one forward pass on a GPU; a matter of memory and speed. On a CPU each image is computed alone.",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_name_for_one_model(cls, values: Any) -> Any:
        """Fill in what the registry says, so that both names of a model give the same block."""
        if not isinstance(values, dict) or not isinstance(values.get("model"), str):
            return values
        row = row_of(values["model"])
        layer = values.get("layer") or (row.layer if row else "last")
        return {**values, "model": timm_name(values["model"]), "layer": layer}

    @field_validator("layer")
    @classmethod
    def _a_layer(cls, value: str) -> str:
        return str(parse_layer(value))

    @model_validator(mode="after")
    def _positions_can_be_resampled(self) -> Teacher:
        if self.position_embedding == "original":
            row = row_of(self.model)
            if self.weights == "untrained":
                raise ValueError(
                    "position_embedding: untrained weights are drawn at the image's own size, so nothing is resampled; "
                    "leave position_embedding out"
                )
            if row is None or row.resample is None:
                why = "has no position embeddings to resample" if row else "is in no row of the registry"
                raise ValueError(
                    f"position_embedding: {self.model} {why}, so it has no original way; leave position_embedding out"
                )
        return self
