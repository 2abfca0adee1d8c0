"""Whether an official submission would hold every scan of a split, and what to do where it would not. No torch, no zarr."""

from __future__ import annotations

from dataclasses import dataclass

from cache_schemas.errors import BadInput
from pipeline.config.model import Dataset
from pipeline.plan.split_share import LEFT_OUT, PARTITION, UNREADABLE, SplitShare, share_line, some_of


@dataclass(frozen=True)
class Commands:
    """Commands that a message may name, with the options that the user gave."""

    index: str = "griddle index"
    evaluate: str = "griddle evaluate"


def check_whole(share: SplitShare, dataset: Dataset, commands: Commands) -> None:
    """Raise BadInput unless an official submission would hold every scan of the split. It says what to do, by reason."""
    if share.is_whole:
        return
    raise BadInput(
        "\n".join(
            [
                f"the official evaluation wants predictions of every scan of a split. {share_line(share.recorded())}.",
                *_advice(share, dataset, commands),
                f"Then run `{commands.evaluate}`. Or add --partial to it now, to write what can be written.",
            ]
        )
    )


def _advice(share: SplitShare, dataset: Dataset, commands: Commands) -> list[str]:
    reasons = {part.name: part.why.split(" and ") for part in share.lacking}
    lines = []
    if left_out := [name for name, whys in reasons.items() if LEFT_OUT in whys]:
        lines += _take_back(left_out, share, dataset)
    if UNREADABLE in reasons.get("", ()):
        lines.append(f"Mend the files that could not be read, and run `{commands.index} --force`.")
    if any(name and set(whys) - {LEFT_OUT} for name, whys in reasons.items()):
        lines.append(f"Put the files that are not there in their place, and run `{commands.index}`.")
    return lines


def _take_back(names: list[str], share: SplitShare, dataset: Dataset) -> list[str]:
    what = some_of(names) if share.unit == PARTITION else f"the partitions of {some_of(names)}"
    key = f"datasets.{share.dataset}"
    lines = []
    if dataset.leave_out:
        lines.append(f"Take {what} out of {key}.leave_out.")
    if dataset.partitions is not None:
        lines.append(f"Add {what} to {key}.partitions.")
    return lines
