"""A stage that cannot fit is not started: what is still to be written, against the free space of the cache."""

from __future__ import annotations

from collections.abc import Iterable

from cache_schemas.errors import GriddleError
from pipeline.common.log import bytes_in_words
from pipeline.plan.cost.estimate import StoreEstimate, free_bytes, pending
from pipeline.plan.parts import STAGES, Lot
from pipeline.plan.plan import Plan


def check_space(plan: Plan, lots: Iterable[Lot]) -> str | None:
    """Refuse to start on lots whose missing partitions do not fit where the cache lies.

    Stores whose size nobody can say before (a teacher of an unknown name) are not counted.

    Returns:
        What will be written and what is free, in words; None where nothing will be.

    Raises:
        GriddleError: naming the bytes needed and free, store by store, and the way out.
    """
    stores = sorted(
        (store for store in pending(plan, lots) if store.bytes), key=lambda store: STAGES.index(store.stage)
    )
    needed = sum(store.bytes or 0 for store in stores)
    if not needed:
        return None
    free = free_bytes(plan.experiment.cache)
    if needed > free:
        raise GriddleError(_refusal(plan, stores, needed, free))
    parts: dict[str, int] = {}
    for store in stores:
        parts[store.stage] = parts.get(store.stage, 0) + (store.bytes or 0)
    return (
        f"about {bytes_in_words(needed)} to be written to {plan.experiment.cache} "
        f"({', '.join(f'{stage} {bytes_in_words(size)}' for stage, size in parts.items())}); free there: {bytes_in_words(free)}"
    )


def _refusal(plan: Plan, stores: list[StoreEstimate], needed: int, free: int) -> str:
    lines = "\n".join(
        f"  {store.folder}: {store.to_compute} partition(s), about {store.bytes or 0:,} bytes"
        for store in stores
    )
    return (
        f"the cache does not fit: about {needed:,} bytes ({bytes_in_words(needed)}) are still to be written to "
        f"{plan.experiment.cache}, and {free:,} bytes ({bytes_in_words(free)}) are free there:\n{lines}\n"
        f"Nothing was computed. Free some space there (`griddle cache gc` names what no config refers to), write "
        f"`cache: FOLDER` of a larger disk in the config, or ask for less: smaller `image_size`, fewer `variants` "
        f"or `spares`, `partitions` of a dataset. `griddle plan` shows what each of them comes to."
    )
