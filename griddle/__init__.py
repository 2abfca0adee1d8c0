"""The public Python face of Griddle: what is named here is kept stable. Nothing heavy is imported before it is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cache_schemas.errors import BadInput, DamagedCache, GriddleError

if TYPE_CHECKING:
    from pipeline.cache.open_cache import OpenedCache, open_cache
    from pipeline.cache.open_features import OpenedFeatures
    from pipeline.cache.open_store import OpenedStore
    from pipeline.datasets.listing import check_none_empty, files_in, folders_in
    from pipeline.datasets.reader import AbsentPartition, Reader, Traits
    from pipeline.datasets.readers import reader_named
    from pipeline.datasets.records import ImageRecord, PartitionRecord, ScanRecord
    from pipeline.geometry.calibration import MaskRule, RigidStep
    from pipeline.training.open_run import OpenedRun, open_run

__all__ = [
    "AbsentPartition",
    "BadInput",
    "DamagedCache",
    "GriddleError",
    "ImageRecord",
    "MaskRule",
    "OpenedCache",
    "OpenedFeatures",
    "OpenedRun",
    "OpenedStore",
    "PartitionRecord",
    "Reader",
    "RigidStep",
    "ScanRecord",
    "Traits",
    "check_none_empty",
    "files_in",
    "folders_in",
    "open_cache",
    "open_run",
    "reader_named",
]

_WHERE = {
    "AbsentPartition": "pipeline.datasets.reader",
    "ImageRecord": "pipeline.datasets.records",
    "MaskRule": "pipeline.geometry.calibration",
    "OpenedCache": "pipeline.cache.open_cache",
    "OpenedFeatures": "pipeline.cache.open_features",
    "OpenedRun": "pipeline.training.open_run",
    "OpenedStore": "pipeline.cache.open_store",
    "PartitionRecord": "pipeline.datasets.records",
    "Reader": "pipeline.datasets.reader",
    "RigidStep": "pipeline.geometry.calibration",
    "ScanRecord": "pipeline.datasets.records",
    "Traits": "pipeline.datasets.reader",
    "check_none_empty": "pipeline.datasets.listing",
    "files_in": "pipeline.datasets.listing",
    "folders_in": "pipeline.datasets.listing",
    "open_cache": "pipeline.cache.open_cache",
    "open_run": "pipeline.training.open_run",
    "reader_named": "pipeline.datasets.readers",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'griddle' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
