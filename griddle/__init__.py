"""The public Python face of Griddle: what is named here is kept stable."""

from cache_schemas.errors import BadInput, DamagedCache, GriddleError

__all__ = ["BadInput", "DamagedCache", "GriddleError"]
