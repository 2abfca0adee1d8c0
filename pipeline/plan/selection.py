"""What a config selects of what there is: students, datasets, and the partitions of their indices.

Imports neither torch nor zarr.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from cache_schemas.errors import BadInput
from pipeline.config.model import Config, Dataset, Student
from pipeline.datasets.index import Index, PartitionEntry, read_index, why_absent
from pipeline.datasets.reader import Traits


class NoIndex(BadInput):
    """A dataset was not indexed yet."""


def selected_students(students: dict[str, Student], only: str | None) -> dict[str, Student]:
    if only is None:
        return students
    if only not in students:
        raise BadInput(f"only={only}: there is no such student; the config has {', '.join(students)}")
    return {only: students[only]}


def wanted_datasets(config: Config, only: str | None = None) -> list[str]:
    """The datasets that the selected students, their probes and finetunings name, in that order; others are not looked at."""
    names: list[str] = []
    for student in selected_students(config.students, only).values():
        names += student.datasets
        for probe in student.probes:
            names += config.probes[probe].datasets or []
        for finetune in student.finetunes:
            names += config.finetunes[finetune].datasets or []
    return list(dict.fromkeys(names))


def index_of(workdir: Path, name: str, dataset: Dataset, traits: Traits) -> Index:
    """The index of a dataset, if it is of this config.

    Raises:
        NoIndex: if there is none.
        BadInput: if it is of another version, reader or splits.
    """
    index = read_index(workdir, name)
    if index is None:
        raise NoIndex(f"dataset {name} has no index in {workdir}/index. Run `griddle index`.")
    cue = index.body["cue"]
    # Not the root: it may resolve otherwise on another host, and the members' digests hold what lies there.
    known = [cue["version"], cue["reader"], cue.get("splits")]
    if known != [dataset.version, [traits.reader, traits.reader_version], dataset.splits]:
        raise BadInput(
            f"the index of dataset {name} in {workdir}/index is of {cue['version']} in {cue['root']}, the "
            f"config names {dataset.version}, or another reader or other splits. Run `griddle index` with this config, or give each config a "
            f"workdir of its own."
        )
    return index


def entries_of_split(
    where: str, dataset_name: str, dataset: Dataset, index: Index, split: str
) -> list[PartitionEntry]:
    """The partitions that the config selects, in index order; `where` is the key that asks for the split."""
    chosen = chosen_entries(dataset_name, dataset, index)
    entries = [entry for entry in chosen if entry.split == split]
    if not entries:
        version = f" ({dataset.version})" if dataset.version else ""
        splits = {s: sum(e.split == s for e in chosen) for s in ("train", "val", "test")}
        raise BadInput(
            f"{where}: dataset {dataset_name}{version} has no partition in "
            f"split {split}; it has {splits['train']} in train, {splits['val']} in val and {splits['test']} in "
            f"test" + (f"; left out: {why_absent(index.absent)}" if index.absent else "")
        )
    return entries


def chosen_entries(dataset_name: str, dataset: Dataset, index: Index) -> list[PartitionEntry]:
    """The partitions of a dataset that the config selects, in index order.

    Raises:
        BadInput: for an unknown name, or if one of them is broken.
    """
    by_name = {entry.name: entry for entry in index.partitions}
    _check_names(dataset_name, dataset, by_name, index.absent)
    chosen = [entry for entry in by_name.values() if dataset.uses(entry.name)]
    broken = [entry for entry in chosen if entry.problem]
    if broken:
        raise BadInput(
            f"dataset {dataset_name}: {len(broken)} of {len(chosen)} partition(s) cannot be used:\n"
            + "\n".join(f"  {entry.name}: {entry.problem}" for entry in broken[:10])
            + ("\n  ..." if len(broken) > 10 else "")
            + f"\nPut their files back and run again, or write datasets.{dataset_name}.leave_out: "
            + f"[{', '.join(entry.name for entry in broken)}]"
        )
    return chosen


def _check_names(
    name: str, dataset: Dataset, entries: dict[str, PartitionEntry], absent: dict[str, str]
) -> None:
    for key in ("partitions", "leave_out"):
        for wanted in getattr(dataset, key) or []:
            if wanted in absent and key == "partitions":
                raise BadInput(f"datasets.{name}.{key}: {wanted} is {absent[wanted]} in {dataset.root}")
            if wanted not in entries and wanted not in absent:
                near = get_close_matches(wanted, entries, n=1)
                others = f"it has {len(entries)}, the first {next(iter(entries))}"
                hint = f"did you mean {near[0]}?" if near else others
                raise BadInput(f"datasets.{name}.{key}: {dataset.root} has no partition {wanted!r}; {hint}")
