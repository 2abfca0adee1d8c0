"""What a training may meet beside its own errors: a full disk, a file-size limit, a worker process that is killed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cache_schemas.disk import in_words, naming
from cache_schemas.errors import GriddleError
from pipeline.common.log import log

_WORKER = "DataLoader worker"
"""What torch's errors about a dead worker process begin with; they are raised wherever the training just is."""


@contextmanager
def run_faults(folder: Path) -> Iterator[None]:
    """A context for a training or scoring that writes into `folder`.

    Raises:
        GriddleError: for an error of the disk, naming the file or else the folder, and for a worker that died, saying what to
            lower.
    """
    with _quiet_threads():
        try:
            with naming(folder):
                yield
        except OSError as error:
            explained = in_words(error)
            if explained is None:
                raise
            raise explained from error
        except RuntimeError as error:
            if not str(error).startswith(_WORKER):
                raise
            raise GriddleError(_about_worker(str(error))) from error


def _about_worker(said: str) -> str:
    """torch's message, and what can be done."""
    message = said.strip().rstrip(".").removeprefix(_WORKER).strip()
    if "Bus error" in said or "shared memory" in said:
        cause = (
            "the shared memory is full. Make it larger (`df -h /dev/shm`; docker: --shm-size), or lower `workers` in the "
            "config: each keeps some batches there"
        )
    elif "Killed" in said or "exited unexpectedly" in said:  # torch does not always learn by what signal
        cause = (
            "the system kills a process so when the memory is full (`dmesg` or the job's account say so). Lower `workers` in "
            "the config, each of which takes memory of its own, or `batch`; or ask for more memory. If it is not the memory, `workers: 0` shows the error itself"
        )
    else:
        cause = "run with `workers: 0` in the config to see the error itself"
    return (
        f"a process that makes batches has died ({message}): {cause}. Then run the same command again: it goes on from the "
        f"last checkpoint."
    )


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Errors of the disk in a package's thread, such as TensorBoard's, are logged in one line: the training meets them, too."""
    before = threading.excepthook

    def tell(args: Any) -> None:
        if isinstance(args.exc_value, OSError) and args.exc_value.errno is not None:
            log(f"a thread ({args.thread.name if args.thread else '?'}): {os.strerror(args.exc_value.errno)}")
        else:
            before(args)

    threading.excepthook = tell
    try:
        yield
    finally:
        threading.excepthook = before
