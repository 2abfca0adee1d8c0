"""How something is trained, as a config says it: augmentation, the optimiser of pretraining, probes and finetunings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from pipeline.config.blocks import Block, Name, Range, Words, choice, no_repeats
from pipeline.config.written import PathText

Split = Literal["train", "val", "test"]
Precision = Literal["float32", "bfloat16", "float16"]
PRECISION = "float32; bfloat16: autocast, as in ScaLR+; float16: autocast and a gradient scaler, as ScaLR's --fp16 (docs/recipes.md)."


class Augment(Block):
    """Augmentation of a sample's points (published: all three; ScaLR supplement B.2 and its released code)."""

    rotate: bool = Field(True, description="Rotate about z by an angle drawn from -180 to 180 degrees.")
    flip: bool = Field(True, description="With chance 2/3 flip one axis, x or y.")
    scale: Annotated[float, Words(paper=0.0, released=0.1), Field(ge=0.0, lt=1.0)] = Field(
        0.1,
        description=(
            "Scale x, y and z by one factor drawn from 1 - scale to 1 + scale. Of pretraining `paper` means 0, `released` 0.1 "
            "(docs/recipes.md, D2)."
        ),
    )


class LabelledAugment(Augment):
    """Augmentation of the scans that a probe or a finetuning learns from."""

    scale: float = Field(
        0.1, ge=0.0, lt=1.0, description="Scale by one factor drawn from 1 - scale to 1 + scale."
    )
    rule: Literal["paper", "released"] = Field(
        "paper",
        description=(
            "What moves. paper: coordinates, and the features are those of the moved points. released: as in ScaLR's code, "
            "coordinates turn by one angle and the features x and y by another, flips move coordinates alone, and the "
            "factor scales the features x, y, z and range alone (docs/recipes.md, D3)."
        ),
    )


class Optimiser(Block):
    """AdamW, betas 0.9 and 0.999, epsilon 1e-8, with linear warm-up and a schedule."""

    epochs: PositiveInt = Field(25, description="Passes over all scans, one camera of each.")
    batch: PositiveInt = Field(8, description="Samples in a step.")
    schedule: Literal["cosine", "rsqrt"] = Field(
        "cosine",
        description=(
            "cosine: half a cosine from lr to min_lr (ScaLR). rsqrt: lr / sqrt(1 + t / timescale), then a line to 0 "
            "(ScaLR+)."
        ),
    )
    lr: PositiveFloat = Field(2e-3, description="Learning rate at the end of the warm-up.")
    min_lr: float = Field(1e-5, ge=0.0, description="Learning rate at the end of a cosine.")
    warmup: int = Field(3500, ge=0, description="Steps of linear warm-up.")
    warmup_epochs: PositiveFloat | None = Field(
        None, description="Epochs of linear warm-up, instead of `warmup`; a fraction is fine."
    )
    timescale: PositiveFloat = Field(0.45, description="Of rsqrt: epochs.")
    cooldown_epoch: PositiveInt | None = Field(
        None, description="Of rsqrt: the epoch from which the rate falls to 0 in a line. Default: never."
    )
    weight_decay: Annotated[float, Words(paper=3e-4, released=0.03), Field(ge=0.0)] = Field(
        0.03,
        description="A number, or `released` (0.03), or `paper` (3e-4, supplement B.2; docs/recipes.md, D1).",
    )
    precision: Precision = Field("float32", description=f"Arithmetic of the student. {PRECISION}")

    @model_validator(mode="after")
    def _rates_fall(self) -> Optimiser:
        if self.schedule == "cosine" and self.min_lr > self.lr:
            raise ValueError(f"min_lr {self.min_lr} is larger than lr {self.lr}; write a smaller min_lr")
        if self.cooldown_epoch is not None:
            if self.cooldown_epoch > self.epochs:
                raise ValueError(
                    f"cooldown_epoch {self.cooldown_epoch} lies behind the last of {self.epochs} epochs; write a smaller one"
                )
            if (self.warmup_epochs or 0) > self.cooldown_epoch:
                raise ValueError(
                    f"cooldown_epoch {self.cooldown_epoch} lies before the end of the warm-up, {self.warmup_epochs} epochs"
                )
        return self


class Labelled(Block):
    """What probes and finetunings share: which labelled scans they learn from, and how they are scored."""

    datasets: Annotated[list[Name], Field(min_length=1)] | None = choice(
        None, "The datasets with labels, by name. Default: those that the student is pretrained on."
    )
    splits: list[Split] = Field(["train"], min_length=1, description="Splits that it learns from.")
    evaluate: Split = Field("val", description="The split that it is scored on: whole scans, every point.")
    every: PositiveInt = Field(
        1,
        description=(
            "Learn from each so many-th scan alone, in order, starting with the first: 100 is 1 % (ScaLR on SemanticKITTI)."
        ),
    )
    scans: PathText | None = choice(
        None,
        "Learn from these scans alone: a file with their names, one a line, as `griddle index --json` prints them. What it "
        "holds is in the id, not where it lies. ${VARIABLES} and ~ are expanded.",
    )
    epochs: PositiveInt = Field(20, description="Passes over all scans.")
    batch: PositiveInt = Field(8, description="Scans in a step.")
    lr: PositiveFloat = Field(1e-3, description="Learning rate at the end of the warm-up.")
    min_lr: float = Field(1e-5, ge=0.0, description="Learning rate at the end.")
    weight_decay: float = Field(3e-3, ge=0.0, description="Of AdamW.")
    augment: LabelledAugment = Field(LabelledAugment(), description="Augmentation.")
    field_of_view: tuple[Range, Range, Range] | None = Field(
        None,
        description="Range of x, y and z in metres, where it is not the student's own (docs/recipes.md, D6).",
    )
    precision: Precision = Field("float32", description=f"Arithmetic of student and head. {PRECISION}")
    votes: PositiveInt = Field(
        1,
        description=(
            "Passes over each scored scan: the first as it is, others rotated, flipped and scaled; probabilities are added up."
        ),
    )

    @field_validator("splits", "datasets")
    @classmethod
    def _each_once(cls, value: list[Any] | None) -> list[Any] | None:
        return value and no_repeats(value)

    @model_validator(mode="after")
    def _one_way_to_choose(self) -> Labelled:
        if self.every > 1 and self.scans is not None:
            raise ValueError("`every` and `scans` both choose scans; write one of them")
        return self


class Probe(Labelled):
    """A linear probe: batch norm and a linear layer on the frozen student (ScaLR, section 4.2, supplement B.3)."""

    head: Literal["linear", "mlp"] = Field(
        "linear", description="mlp: two layers with a ReLU between, of the student's width, instead of one."
    )
    warmup_epochs: float = Field(2.0, ge=0.0, description="Epochs of linear warm-up; a fraction is fine.")
    baselines: list[Literal["random", "calibrated", "inputs", "teacher", "scratch"]] = choice(
        [],
        "What the student is compared with. random: the same student at its random start, frozen. calibrated: "
        "likewise, its batch-norm statistics taken from pretraining batches without gradients (so that they fit metres). "
        "inputs: the raw features of the points. teacher: the teacher's features at the points that cameras see. "
        "scratch: the same student trained from its random start with labels.",
    )
    calibration_batches: PositiveInt = choice(80, "Of the baseline `calibrated` alone: its batches.")
    scratch_lr: PositiveFloat = choice(1e-3, "Of the baseline `scratch` alone: learning rate after warm-up.")
    scratch_epochs: PositiveInt | None = choice(
        None, "Of the baseline `scratch` alone: passes over all scans. Default: the probe's."
    )

    @field_validator("baselines")
    @classmethod
    def _each_baseline_once(cls, value: list[Any]) -> list[Any]:
        return no_repeats(value)


class Finetune(Labelled):
    """A finetuning: student and head learn from labels, deep layers more than early ones (ScaLR, supplement B.4)."""

    epochs: PositiveInt = Field(
        25, description="Passes over all scans; published: 25, and 45 with few labels (docs/recipes.md, D4)."
    )
    lr: PositiveFloat = Field(
        2e-3,
        description="Learning rate of the head at the end of the warm-up; ScaLR+: 1e-4 (docs/recipes.md, D9).",
    )
    min_lr: float = Field(0.0, ge=0.0, description="Learning rate at the end, of the head.")
    weight_decay: float = Field(0.0, ge=0.0, description="Of AdamW, on all tensors but norms and biases.")
    warmup_epochs: float | Literal["paper", "released"] = Field(
        "released",
        description=(
            "Epochs of linear warm-up. paper: the first tenth of them. released: as many whole ones as fit in it, 2 of 25 and 4 "
            "of 45 (docs/recipes.md, D5)."
        ),
    )
    layer_decay: float = Field(
        0.99,
        gt=0.0,
        le=1.0,
        description="Of the learning rate from each layer to the one before it; published with few labels: 0.95. 1: none.",
    )
    stochastic_depth: float = Field(
        0.2, ge=0.0, lt=1.0, description="Chance that a block's branch is dropped."
    )
    starts: list[Literal["pretrained", "nothing"]] = choice(
        ["pretrained"], "From what: the pretrained student; or nothing, its random start (a row of its own)."
    )

    @property
    def warmup(self) -> float:
        """Epochs of warm-up, as a number."""
        if self.warmup_epochs == "paper":
            return self.epochs / 10
        return self.epochs // 10 if isinstance(self.warmup_epochs, str) else self.warmup_epochs

    @field_validator("warmup_epochs")
    @classmethod
    def _not_negative(cls, value: Any) -> Any:
        if not isinstance(value, str) and value < 0:
            raise ValueError("a warm-up lasts 0 epochs or more")
        return value

    @field_validator("starts")
    @classmethod
    def _some_start(cls, value: list[Any]) -> list[Any]:
        if not value:
            raise ValueError("write pretrained, nothing, or both")
        return no_repeats(value)
