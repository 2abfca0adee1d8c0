"""One piece of work for each scan of a partition, on all cores that a job was given."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def for_each(
    work: Callable[[Item], Result], items: Sequence[Item], threads: int | None = None
) -> list[Result]:
    """`work` of every item, in the items' order, on `threads` threads (default: all cores that this process may use).

    Threads, not processes: reading, searching neighbours and sorting voxels all run outside the interpreter's lock,
    and results need not be copied. What `work` raises is raised here.
    """
    import dask

    tasks = [dask.delayed(work, pure=False, traverse=False)(item) for item in items]
    # A pool of this call's own: the one that dask keeps would be without its threads in a forked process, and wait.
    with ThreadPoolExecutor(cores(threads)) as pool:
        results = dask.compute(*tasks, scheduler="threads", pool=pool, traverse=False)
    return list(results)


def cores(threads: int | None) -> int:
    """As many as asked for, and no more than there are."""
    available = len(os.sched_getaffinity(0))
    return max(1, min(threads or available, available))
