"""The block of a dataset: where it lies, and which part of it is used."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveFloat

from pipeline.config.blocks import Block, Name, choice, no_repeats
from pipeline.config.data_kinds import Kind
from pipeline.config.written import PathText


class Dataset(Block):
    """One dataset: where it lies and which part of it is used."""

    CHANGES = ("scans", "labels", "views")

    reader: PathText = Field(
        description=(
            "How the dataset is read: nuscenes, semantic_kitti, pandaset64 or pandasetgt; or your own reader by its file "
            "and class, `my/poss.py:Reader` (docs/your-dataset.md)."
        )
    )
    root: PathText = choice(
        ..., "The dataset's folder. ${VARIABLES} and ~ are expanded; moving it recomputes nothing."
    )
    version: str = Field(
        "",
        description="The dataset's own version, where it has any: for nuScenes v1.0-mini, v1.0-trainval or v1.0-test.",
    )
    partitions: list[str] | None = Field(
        None,
        description="Use only these partitions (for nuScenes: scenes). Default: all that the tree holds.",
    )
    leave_out: list[str] = Field(
        [], description="Partitions that are not to be used, for instance broken ones."
    )
    splits: dict[Literal["train", "val", "test"], Annotated[list[str], Field(min_length=1)]] | Name | None = (
        Field(
            None,
            description=(
                "`slidr_mini`: SLidR's split of nuScenes' 700 train scenes, 600 to learn from and 100 to score. Or: "
                "Which partitions or scans are in which split, instead of the dataset's own: names as `griddle index --json` "
                "prints them, `PARTITION` or `PARTITION/SCAN`, with * and ? as in a shell. A partition whose scans are in "
                "several splits becomes one for each. What no pattern names is left out, and counted."
            ),
        )
    )
    intensity: tuple[float, PositiveFloat] | None = Field(
        None,
        description=(
            "Mean and standard deviation that normalise intensities. Default: the published ones of the dataset's lidar; "
            "where there are none, those of its train split (`griddle stats`)."
        ),
    )
    on_error: Literal["raise", "skip"] = choice(
        "raise",
        "What becomes of a file that cannot be read. raise: an error, when the rest of its lot is done. skip: it is left "
        "out, counted and listed in manifest, log and report (docs/cache.md). No id holds it: switching recomputes "
        "nothing but partitions with such files, under raise.",
    )
    allow: Annotated[list[Kind], AfterValidator(no_repeats)] = choice(
        [],
        "Kinds of doubt about the dataset's values that are known and right: they are not refused, and their warnings are "
        "not shown (docs/datasets.md). No id holds it: switching recomputes nothing.",
    )
    mask: Literal["published", "strict"] = Field(
        "published",
        description=(
            "Which points a camera sees. published: the rule and the arithmetic of the dataset's published code. "
            "strict: one rule for all datasets, depth over 1 m and over one pixel from each border, in float64."
        ),
    )
    frame: Literal["published", "strict"] = Field(
        "published",
        description=(
            "Along which axes points are made voxels for pretraining. published: as the dataset's published code has it "
            "(PandaSet: the world's, in which its files are). strict: the scan's own, for all datasets."
        ),
    )

    def uses(self, partition: str) -> bool:
        """Whether a partition is selected, by its name."""
        return partition not in self.leave_out and (self.partitions is None or partition in self.partitions)
