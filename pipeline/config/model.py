"""The one typed model of a config file: every key, its type, its default and what it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from pipeline.config.blocks import Block, Name, Range, choice, no_repeats
from pipeline.config.dataset import Dataset
from pipeline.config.teacher import Teacher
from pipeline.config.training import Augment, Finetune, Optimiser, Probe
from pipeline.config.written import PathText

__all__ = [
    "Augment",
    "Block",
    "Config",
    "Dataset",
    "Finetune",
    "Network",
    "Optimiser",
    "Points",
    "Probe",
    "Student",
    "Teacher",
]


class Points(Block):
    """How a scan becomes the points of a sample."""

    CHANGES = ("stores", "views", "full_scans", "samples")

    voxel: PositiveFloat = Field(0.1, description="Side of a voxel in metres; one point of each is kept.")
    neighbours: PositiveInt = Field(16, le=1024, description="Nearest neighbours that the embedding sees.")
    spares: int = Field(
        64,
        ge=0,
        le=16_384,
        description=(
            "More neighbours stored for the points (6 % in nuScenes) some of whose neighbours a crop to `field_of_view` "
            "can remove, rounded up to whole rows of `neighbours`. A point that runs out of them is searched anew, with the same "
            "result: without spares that happens in 3 of 4 samples and takes a quarter of a sample's time."
        ),
    )
    variants: PositiveInt = Field(
        2, le=1024, description="Independent draws of the point kept in each voxel."
    )
    seed: int = Field(0, description="Draws the point kept in each voxel.")
    max_points: PositiveInt = Field(
        20_000, description="At most so many points in a sample: those nearest to one of them."
    )
    field_of_view: tuple[Range, Range, Range] = Field(
        ((-64.0, 64.0), (-64.0, 64.0), (-8.0, 8.0)), description="Range of x, y and z in metres."
    )
    cell: PositiveFloat = Field(0.5, description="Side of a plane's cells in metres.")

    @property
    def reach(self) -> list[list[float]] | None:
        """The field of view, where what the view store holds depends on it."""
        return [list(side) for side in self.field_of_view] if self.spares else None

    @property
    def spare_rows(self) -> int:
        """Rows of `neighbours` more neighbours, as many as hold the spares."""
        return -(-self.spares // self.neighbours)

    @model_validator(mode="after")
    def _cells_divide_the_field(self) -> Points:
        problem = misfit(self.field_of_view, self.cell)
        if problem is not None:
            raise ValueError(f"field_of_view {problem}")
        return self


def misfit(field_of_view: tuple[Range, Range, Range], cell: float) -> str | None:
    """Why a field of view does not hold whole cells, in words that follow its key; None where it does."""
    for axis, (low, high) in zip("xyz", field_of_view, strict=True):
        cells = (high - low) / cell
        if high <= low or round(cells) < 1 or abs(cells - round(cells)) > 1e-6:
            return (
                f"of {axis} is {low} to {high} m, which is no whole number of cells of {cell} m; choose a cell that divides "
                f"it"
            )
    return None


class Network(Block):
    """The student's architecture."""

    kind: Literal["waffleiron"] = Field("waffleiron", description="Which student.")
    width: PositiveInt = Field(768, description="Channels of a point's feature.")
    depth: PositiveInt = Field(48, description="Blocks, each a spatial and a channel mix.")
    norm: Literal["batch", "layer"] = Field("layer", description="Normalisation in the blocks.")
    activation: Literal["relu", "gelu"] = Field("relu", description="Activation in the blocks.")
    averaging: Literal["scalr", "scalr_plus"] = Field(
        "scalr",
        description=(
            "Of the points in a cell: their sum over their number and 1e-6 more (ScaLR's code), or over their number "
            "(ScaLR+'s; docs/recipes.md, D10)."
        ),
    )
    stochastic_depth: float = Field(
        0.0, ge=0.0, lt=1.0, description="Chance that a block's branch is dropped."
    )
    backend: Literal["auto", "reference", "torch", "compiled", "triton"] = choice(
        "auto",
        "How the student is computed; the same numbers to rounding. reference: plain, dense and slow. torch: from "
        "occupied cells alone. compiled: the same under torch.compile, after a minute or so of compiling. triton: with "
        "kernels of our own, on an NVIDIA GPU. auto: by what was measured on the device; the log names it.",
    )
    checkpointing: bool = choice(
        False,
        "Keep only what goes into each block, and compute the rest again on the way back: the same "
        "numbers from less memory in more time.",
    )
    padding_aware: bool = Field(
        False,
        description=(
            "Batch statistics of the embedding in training. false: of the points alone. true: as the published code has "
            "them, which fills the clouds of a batch up to the longest with zeros and counts those, too."
        ),
    )
    head: Literal["linear", "mlp", "joint"] | None = Field(
        None,
        description=(
            "From the student's features to its teachers'. linear (ScaLR); mlp: two layers with a ReLU between (ScaLR+); "
            "joint: two layers with LayerNorm and ReLU between (several teachers). Default: linear for one teacher, joint "
            "for several."
        ),
    )
    head_width: PositiveInt | None = Field(
        None,
        description="Channels between the two layers of a head. Default: 2048 for mlp, twice the width for joint.",
    )


class Student(Block):
    """One student: what it learns from, what it is and how it is pretrained."""

    description: str = choice("", "For people.")
    sweep: dict[str, list[Any] | dict[str, Any]] | None = choice(
        None,
        "One block for many students: keys of this block, dotted, with lists of values, or mappings from names to values. "
        "All go with all; `network.width: [96, 256]` makes NAME-width96 and NAME-width256.",
    )
    datasets: list[Name] = Field(min_length=1, description="The datasets it is pretrained on, by name.")
    splits: list[Literal["train", "val", "test"]] = Field(
        ["train"], min_length=1, description="Their splits."
    )
    starts_from: PathText | None = choice(
        None,
        "A folder that `griddle weights import` wrote, or a run's: the student starts from its weights, and is not "
        "pretrained. What they hold is in the run's id. ${VARIABLES} and ~ are expanded.",
    )
    teacher: Name | list[Name] = Field(
        [],
        validate_default=True,
        description=(
            "The teacher it is distilled from, by name; or several, each from its own cache: their features are "
            "l2-normalised and put side by side. Needed unless it has `starts_from`."
        ),
    )
    sampling: Literal["published", "subpixel"] = Field(
        "published",
        description="Where the patch grid is read: at the pixel that the published code picks, or between pixels.",
    )
    cameras: Literal["one", "all"] = Field(
        "one",
        description=(
            "What a sample holds of a scan. one: what one camera sees, drawn anew in each epoch, as published. all: what all "
            "of them see (table 1); a point that several see learns from one of them, and neighbours are searched anew."
        ),
    )
    order: Literal["random", "blocks"] = Field(
        "random",
        description=(
            "In which order an epoch goes through the scans. random: as published. blocks: 64 partitions at a time, for "
            "caches that are larger than the memory, on disks that read neighbours faster."
        ),
    )
    weights: dict[Name, PositiveFloat] | None = Field(
        None,
        description=(
            "How much more often than as published scans of these datasets are drawn: 1 for those that are not named. "
            "Published, and the default: each epoch draws every scan of the union once. With weights it is as long, and "
            "a dataset's share of it is its scans times its weight."
        ),
    )
    seeds: list[int] = Field(
        [0],
        min_length=1,
        description="One run for each; a seed draws weights, order, cameras and augmentation.",
    )
    points: Points = Field(Points(), description="How scans become points.")
    network: Network = Field(Network(), description="The architecture.")
    augment: Augment = Field(Augment(), description="Augmentation.")
    pretrain: Optimiser = Field(Optimiser(), description="The optimiser.")
    probes: list[Name] = choice([], "Probes of the pretrained student, by name.")
    finetunes: list[Name] = choice([], "Finetunings of the pretrained student, by name.")

    @property
    def teachers(self) -> tuple[str, ...]:
        """Their names, in the order in which their features stand side by side; none where it starts from weights and has no teacher."""
        return (self.teacher,) if isinstance(self.teacher, str) else tuple(self.teacher)

    @field_validator("datasets", "seeds", "probes", "finetunes", "teacher")
    @classmethod
    def _each_once(cls, value: Any) -> Any:
        return no_repeats(value) if isinstance(value, list) else value

    @field_validator("teacher")
    @classmethod
    def _taught_by_someone(cls, value: Any, info: ValidationInfo) -> Any:
        if not value and not info.data.get("starts_from"):
            raise PydanticCustomError("missing", "needed unless it starts from weights")
        return value

    @model_validator(mode="after")
    def _weights_of_its_datasets(self) -> Student:
        for name in self.weights or {}:
            if name not in self.datasets:
                raise ValueError(f"weights names {name!r}; its datasets are {self.datasets}")
        if self.weights and self.order != "random":
            raise ValueError(f"weights and order: {self.order} do not go together; write order: random")
        return self

    @model_validator(mode="before")
    @classmethod
    def _a_head_for_its_teachers(cls, values: Any) -> Any:
        """Several teachers need the two-layer head unless the config says otherwise."""
        if not isinstance(values, dict) or not isinstance(values.get("network", {}), dict | Network):
            return values
        network = values.get("network", {})
        network = network.model_dump() if isinstance(network, Network) else network
        several = isinstance(values.get("teacher"), list) and len(values["teacher"]) > 1
        head = network.get("head") or ("joint" if several else "linear")
        return {**values, "network": {**network, "head": head}}


class Config(Block):
    """One experiment."""

    CHANGES = None

    description: str = choice("", "For people: what it is, the command, what to expect.")
    workdir: PathText = choice(
        "work", "Where indices, lots, runs and reports go. ${VARIABLES} and ~ are expanded."
    )
    cache: PathText | None = choice(None, "Where the stores go; may be shared. Default: <workdir>/cache.")
    lot_partitions: PositiveInt = choice(16, "About how many partitions one job takes.")
    workers: int = Field(
        2, ge=0, description="Processes that prepare samples.", json_schema_extra={"identity": False}
    )
    checkpoint_minutes: PositiveFloat = choice(10.0, "Time between two checkpoints of a training.")
    datasets: dict[Name, Dataset] = Field(min_length=1, description="The datasets, by name.")
    teachers: dict[Name, Teacher] = Field({}, description="The teachers, by name.")
    students: dict[Name, Student] = Field(min_length=1, description="The students, by name.")
    probes: dict[Name, Probe] = Field({}, description="The probes, by name; a student names those it gets.")
    finetunes: dict[Name, Finetune] = Field(
        {}, description="The finetunings, by name; a student names those it gets."
    )

    @field_validator("datasets", "teachers", "students", "probes", "finetunes", mode="before")
    @classmethod
    def _a_mapping(cls, value: Any) -> Any:
        if isinstance(value, list):
            raise ValueError("give a mapping from names to blocks, not a list")
        return value

    @model_validator(mode="after")
    def _names_are_known(self) -> Config:
        for name, student in self.students.items():
            where = f"students.{name}"
            _check_known(f"{where}.datasets names", student.datasets, "datasets", self.datasets)
            _check_known(f"{where}.probes names", student.probes, "probes", self.probes)
            _check_known(f"{where}.finetunes names", student.finetunes, "finetunings", self.finetunes)
            _check_known(f"{where}.teacher is", student.teachers, "teachers", self.teachers)
        for key, blocks in (("probes", self.probes), ("finetunes", self.finetunes)):
            for name, block in blocks.items():
                _check_known(f"{key}.{name}.datasets names", block.datasets or [], "datasets", self.datasets)
        return self


def _check_known(where: str, names: Sequence[str], what: str, blocks: Mapping[str, Block]) -> None:
    """Raise ValueError unless the file has a block of each name."""
    for name in names:
        if name not in blocks:
            raise ValueError(f"{where} {name!r}; the {what} here are {sorted(blocks)}")
