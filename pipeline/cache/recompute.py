"""Computing random images and scans of the cache again, and comparing. No checksum can show such a difference."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import torch

from cache_schemas.errors import BadInput, DamagedCache
from cache_schemas.manifest import is_valid, manifest_path, read_manifest
from cache_schemas.sources import sources_of
from cache_schemas.verify import Problem
from pipeline.cache.recompute_scans import compare_scan, scans_in
from pipeline.config.model import Teacher
from pipeline.plan.parts import STAGES, Lot
from pipeline.plan.plan import Plan
from pipeline.teachers.loaded import LoadedTeacher, load_teacher
from pipeline.teachers.same_features import CLOSE, compare, readable
from pipeline.teachers.weights_lock import check_weights

Value = TypeVar("Value")


class Fault(TypedDict, total=False):
    """Why something could not be compared, as `Recomputed` says it."""

    unread: str
    damaged: str


@dataclass(frozen=True)
class Recomputed:
    """An image, or a scan of one store, that was computed again.

    Attributes:
        what: the image's path, or `<stage> of <dataset> <scan>`.
        agreement: how near the stored values are, by `measure`: `lowest cosine`, or `agreement`, the share of what agrees.
        needed: the least of it at which they count as the same.
        source_changed: whether the file that it was made of holds something else today: that says nothing of the store.
        as_then: whether versions and device are those of then; None where nothing depends on them.
        unread: why it could not be computed again: its file cannot be read.
        damaged: why it could not be compared: what is stored cannot be read.
        recorded: whether the store recorded what it was made of.
    """

    stage: str
    what: str
    manifest: Path
    equal: bool = False
    agreement: float = 0.0
    needed: float = 1.0
    source_changed: bool = False
    as_then: bool | None = None
    unread: str | None = None
    damaged: str | None = None
    recorded: bool = True

    @property
    def measure(self) -> str:
        return "lowest cosine" if self.stage == "features" else "agreement"

    @property
    def result(self) -> str:
        if self.unread is not None:
            return "not computed"
        if self.damaged is not None:
            return "damaged"
        if self.agreement >= self.needed:
            return "bit-equal" if self.equal else "within tolerance"
        return "source changed" if self.source_changed else "differs"

    @property
    def problem(self) -> Problem | None:
        if self.damaged is not None:
            return Problem(self.manifest, self.damaged, self.manifest)
        if self.result != "differs":
            return None
        who = "the teacher gives other features for" if self.stage == "features" else "values differ in"
        perhaps = "" if self.recorded else "; or its file was replaced since: what it held was not recorded"
        what = f"{who} {self.what}: {self.measure} {self.agreement:.6f}, and {self.needed} is needed{perhaps}"
        return Problem(self.manifest, what, self.manifest)

    def facts(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "what": self.what,
            **({"image": self.what} if self.stage == "features" else {}),
            "manifest": str(self.manifest),
            "result": self.result,
            self.measure.replace(" ", "_"): self.agreement,
            "as_then": self.as_then,
            "why": self.unread or self.damaged,
        }


def recompute(
    plan: Plan, paths: Sequence[Path], count: int, device: Callable[[], torch.device]
) -> list[Recomputed]:
    """Compute `count` random images of the plan's feature stores, and `count` random scans of each other kind of store, again.

    Args:
        paths: only what these stores or manifests hold; all if there are none.
        device: of the teachers; called if there are images.

    Raises:
        BadInput: if nothing of that is there.
    """
    recomputed = [
        item for stage in STAGES if stage != "features" for item in _scans(plan, stage, paths, count)
    ]
    recomputed += _images(plan, paths, count, device)
    if not recomputed:
        raise BadInput("--recompute: no partition of this config is there, or among the given paths")
    return recomputed


def _there(plan: Plan, stage: str, paths: Sequence[Path]) -> list[tuple[Lot, Any, str]]:
    """The lots, entries and members of a stage's valid partitions, each once."""
    partitions = {}
    for lot in plan.lots(stage):
        folder = plan.experiment.store_path(lot.store)
        for entry, member in lot.members:
            manifest = manifest_path(folder, entry.name, member).absolute()
            named = not paths or any(manifest.is_relative_to(path.absolute()) for path in paths)
            if named and manifest not in partitions and is_valid(folder, entry.name, member):
                partitions[manifest] = lot, entry, member
    return list(partitions.values())


def _scans(plan: Plan, stage: str, paths: Sequence[Path], count: int) -> list[Recomputed]:
    candidates = [
        (lot, entry, member, number)
        for lot, entry, member in _there(plan, stage, paths)
        for number in scans_in(plan.experiment, lot.store, entry, member)
    ]
    recomputed = []
    for lot, entry, member, number in random.sample(candidates, min(count, len(candidates))):
        store, record = lot.store, plan.experiment.indices[lot.store.dataset].load_partition(entry)
        what = f"{stage.replace('_', ' ')} of {store.dataset} {record.scans[number].name}"
        manifest = manifest_path(plan.experiment.store_path(store), entry.name, member)
        compared, fault = _tried(partial(compare_scan, plan.experiment, store, entry, record, member, number))
        if compared is None:
            recomputed.append(Recomputed(stage, what, manifest, **fault))
            continue
        item = Recomputed(
            stage,
            what,
            manifest,
            compared.equal,
            compared.agreement,
            compared.needed,
            compared.source_changed,
            recorded=sources_of(read_manifest(manifest)) is not None,
        )
        recomputed.append(item)
    return recomputed


def made_from_wrong_scans(plan: Plan, item: Recomputed) -> list[Problem]:
    """The views and full scans that were computed of scans whose values differ: they go with them."""
    if item.stage != "scans" or item.result != "differs":
        return []
    problems = []
    for stage in ("views", "full_scans"):
        for lot, entry, member in _there(plan, stage, ()):
            scans = manifest_path(
                plan.experiment.store_path(lot.store.scans), entry.name, str(entry.members["scans"])
            )
            if scans.absolute() == item.manifest.absolute():
                path = manifest_path(plan.experiment.store_path(lot.store), entry.name, member)
                what = f"was computed of {item.what}, whose values differ from those of its file"
                problems.append(Problem(path, what, path))
    return problems


def _tried(compute: Callable[[], Value]) -> tuple[Value | None, Fault]:
    """What it gives, or the fault: one file that cannot be read must not hide the others."""
    try:
        return compute(), {}
    except BadInput as error:
        return None, {"unread": str(error)}
    except DamagedCache as error:
        return None, {"damaged": str(error).splitlines()[0]}


def _images(
    plan: Plan, paths: Sequence[Path], count: int, device: Callable[[], torch.device]
) -> list[Recomputed]:
    """Each teacher is loaded once."""
    candidates = []
    for lot, entry, member in _there(plan, "features", paths):
        folder = plan.experiment.store_path(lot.store)
        assert isinstance(lot.store.source, Teacher)
        rows = readable(lot.store.source, folder, entry.name, member)
        candidates += [(lot.store, entry, member, number) for number in rows]
    teachers: dict[Teacher, LoadedTeacher] = {}
    recomputed = []
    for store, entry, member, number in random.sample(candidates, min(count, len(candidates))):
        config = store.source
        assert isinstance(config, Teacher)
        if config not in teachers:
            teachers[config] = load_teacher(config, device())
            weights_digest = teachers[config].weights_digest
            check_weights(plan.experiment.cache, plan.experiment.workdir, store.id, weights_digest)
        record = plan.experiment.indices[store.dataset].load_partition(entry)
        root = Path(plan.experiment.config.datasets[store.dataset].root)
        folder = plan.experiment.store_path(store)
        manifest, path = manifest_path(folder, entry.name, member), record.images[number].path
        image, fault = _tried(partial(compare, teachers[config], folder, root, record, member, number))
        if image is None:
            recomputed.append(Recomputed("features", path, manifest, **fault))
            continue
        item = Recomputed(
            "features",
            path,
            manifest,
            image.equal,
            image.cosine,
            CLOSE,
            image.source_changed,
            image.as_then,
            recorded=sources_of(read_manifest(manifest)) is not None,
        )
        recomputed.append(item)
    return recomputed
