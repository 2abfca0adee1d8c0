"""What a report holds: its tables with their rows, and its trainings. Plain values."""

from __future__ import annotations

from dataclasses import dataclass

NOT_RECORDED = "not recorded"
"""What is said of a value that metrics of before do not hold."""


@dataclass(frozen=True)
class Spread:
    """A value over seeds, in percent: its mean, and how far it goes."""

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: of the probe or finetuning.
        miou, gap: percent; gap is to the calibrated random student of the same seed, of a finetuning to the same without
            pretraining. None where there is none.
        iou: percent for each class; None for a class in neither truth nor predictions of any seed.
        points: labelled points that it was scored on.
        miou_all_classes: percent; mIoU over all classes, where those that do not occur count as 0. None where a seed's metrics
            are from before it was recorded.
        missing: folders of seeds that are not done yet.
        apart: folders of seeds that were scored on other partitions than the others, with mIoU; they are in no mean.
    """

    kind: str
    name: str
    seeds: tuple[int, ...]
    miou: Spread | None
    gap: Spread | None
    iou: dict[str, Spread | None]
    points: int
    missing: tuple[str, ...]
    apart: tuple[str, ...] = ()
    miou_all_classes: Spread | None = None


@dataclass(frozen=True)
class Table:
    """One probe of one student, beside its baselines; or (`probe` None) a student's finetunings beside its probes.

    Attributes:
        shares: on how much of the scored split its numbers stand, in words, for each dataset and where rows differ each.
        too_small: scans of batches that were too small to learn from, and were skipped.
        since: what datasets have today more or less than rows were trained and scored on, with the kinds of these rows.
    """

    student: str
    probe: str | None
    teacher: str
    scored_on: str
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    left_out: tuple[str, ...]
    unreadable: tuple[str, ...]
    shares: tuple[str, ...] = ()
    since: tuple[str, ...] = ()
    too_small: tuple[str, ...] = ()


@dataclass(frozen=True)
class Training:
    """One pretraining: (step, loss) of every step; empty where it is not done.

    unreadable: files that it went without, for they could not be read when the cache was written.
    curve_lacks: what of the curve is lost or changed, in words; empty where nothing is.
    since: what datasets have today more or less than it learnt from, a line for each.
    """

    student: str
    seed: int
    folder: str
    done: bool
    curve: tuple[tuple[int, float], ...]
    seconds: float
    unreadable: tuple[str, ...]
    curve_lacks: str = ""
    since: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """All that is reported of a plan's runs; its id is the digest of their ids.

    Attributes:
        warnings: of the datasets' values, a line for each dataset and kind.
        problem: why today's datasets allow no plan, where only what is done from before is reported.
    """

    id: str
    description: str
    tables: tuple[Table, ...]
    trainings: tuple[Training, ...]
    warnings: tuple[str, ...] = ()
    problem: str = ""
