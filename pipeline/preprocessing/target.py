"""Where one partition is written. A computation of any stage takes a target, and publishes it through `Target.writer`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache_schemas.schema import StoreSchema
from cache_schemas.writing import PartitionWriter
from pipeline.datasets.records import PartitionRecord
from pipeline.plan.parts import Store


@dataclass(frozen=True)
class Target:
    """One partition of one store, which is to be computed and published.

    Attributes:
        store: the store that it belongs to.
        partition: its record in the dataset's index.
        member: its member digest for this store.
        folder: the store's folder.
    """

    store: Store
    partition: PartitionRecord
    member: str
    folder: Path

    def writer(self, schema: StoreSchema, attributes: Mapping[str, Any]) -> PartitionWriter:
        """The context in which its arrays are written and published."""
        return PartitionWriter(
            self.folder,
            schema,
            partition=self.partition.name,
            member_digest=self.member,
            identity=self.store.identity,
            attributes=attributes,
        )
