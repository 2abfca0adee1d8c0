"""The public Python face of Griddle: what is named here is kept stable. Nothing heavy is imported before it is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cache_schemas.errors import BadInput, DamagedCache, GriddleError

if TYPE_CHECKING:
    from pipeline.opened.cache import OpenedCache, open_cache
    from pipeline.opened.features import OpenedFeatures
    from pipeline.opened.run import OpenedRun, open_run
    from pipeline.opened.store import OpenedStore

__all__ = [
    "BadInput",
    "DamagedCache",
    "GriddleError",
    "OpenedCache",
    "OpenedFeatures",
    "OpenedRun",
    "OpenedStore",
    "open_cache",
    "open_run",
]

_WHERE = {
    "OpenedCache": "pipeline.opened.cache",
    "OpenedFeatures": "pipeline.opened.features",
    "OpenedRun": "pipeline.opened.run",
    "OpenedStore": "pipeline.opened.store",
    "open_cache": "pipeline.opened.cache",
    "open_run": "pipeline.opened.run",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'griddle' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
