"""Zarr's event loop, ended before Zarr ends it: it waits 0.2 s for its thread, and on a busy machine closes a running loop.

Python then prints "Cannot close a running event loop" after all is done.
"""

from __future__ import annotations

import atexit

from zarr.core import sync

PATIENCE = 30.0
"""Seconds."""


def stop_loop(patience: float = PATIENCE) -> None:
    """Stop Zarr's loop and wait for its thread; if it does not end, leave both to the system."""
    loop, thread = sync.loop[0], sync.iothread[0]
    if loop is None or thread is None or loop.is_closed():
        return
    loop.call_soon_threadsafe(loop.stop)
    thread.join(patience)
    if thread.is_alive() or loop.is_running():
        sync.loop[0] = sync.iothread[0] = None


# What is registered last is called first: Zarr has registered its own when it was imported above.
atexit.register(stop_loop)
