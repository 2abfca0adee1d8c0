"""Running the teacher again on random images of the feature store, and comparing. No checksum can show such a difference."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cache_schemas.errors import BadInput
from cache_schemas.manifest import is_valid, manifest_path
from cache_schemas.verify import Problem
from pipeline.config.model import Teacher
from pipeline.plan.plan import Plan
from pipeline.teachers.loaded import LoadedTeacher, load_teacher
from pipeline.teachers.same_features import CLOSE, Compared, compare, readable
from pipeline.teachers.weights_lock import check_weights


@dataclass(frozen=True)
class Recomputed:
    """One image that was computed again."""

    compared: Compared

    @property
    def result(self) -> str:
        return "bit-equal" if self.compared.equal else "same" if self.compared.same else "differs"

    @property
    def problem(self) -> Problem | None:
        if self.compared.same:
            return None
        return Problem(
            self.compared.manifest,
            f"the teacher gives other features for {self.compared.image}: lowest cosine {self.compared.cosine:.6f}, "
            f"and {CLOSE} is needed",
            self.compared.manifest,
        )

    def facts(self) -> dict[str, Any]:
        return {
            "image": self.compared.image,
            "manifest": str(self.compared.manifest),
            "result": self.result,
            "lowest_cosine": self.compared.cosine,
            "as_then": self.compared.as_then,
        }


def recompute_images(plan: Plan, paths: Sequence[Path], count: int, device: torch.device) -> list[Recomputed]:
    """Compute `count` random images of the plan's feature stores again; each teacher is loaded once.

    Args:
        paths: only images of these stores or manifests; all if there are none.

    Raises:
        BadInput: if none of them is there.
    """
    candidates = []
    for lot in plan.lots("features"):
        folder = plan.experiment.store_path(lot.store)
        for entry, member in lot.members:
            manifest = manifest_path(folder, entry.name, member).absolute()
            named = not paths or any(manifest.is_relative_to(path.absolute()) for path in paths)
            if named and is_valid(folder, entry.name, member):
                assert isinstance(lot.store.source, Teacher)
                rows = readable(lot.store.source, folder, entry.name, member)
                candidates += [(lot.store, entry, member, number) for number in rows]
    if not candidates:
        raise BadInput("--recompute: no feature partition of this config is there, or among the given paths")
    teachers: dict[Teacher, LoadedTeacher] = {}
    recomputed = []
    for store, entry, member, number in random.sample(candidates, min(count, len(candidates))):
        config = store.source
        assert isinstance(config, Teacher)
        if config not in teachers:
            teachers[config] = load_teacher(config, device)
            teacher_id = store.id
            check_weights(
                plan.experiment.cache, plan.experiment.workdir, teacher_id, teachers[config].weights_digest
            )
        record = plan.experiment.indices[store.dataset].load_partition(entry)
        root = Path(plan.experiment.config.datasets[store.dataset].root)
        recomputed.append(
            Recomputed(
                compare(teachers[config], plan.experiment.store_path(store), root, record, member, number)
            )
        )
    return recomputed
