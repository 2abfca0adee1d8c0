"""The lease of a run folder: only one process trains there. Another one waits, or takes over from a dead one and says so."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import socket
import stat
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from cache_schemas.errors import GriddleError
from cache_schemas.publish import set_aside, write_json
from pipeline.common.log import log
from pipeline.common.run_files import LEASE

HEARTBEAT_SECONDS = 10.0
LONGEST = 1 << 16
"""Bytes of a lease that are read. A whole one has some hundred."""
DEAD_SECONDS = 60.0
"""A holder on another host counts as dead if its heartbeat has not changed for so long, measured by our own clock. So does one whose
lease was garbled: a holder that lives writes it again with its next heartbeat."""


class Lease:
    """Held while the `with` block runs. A thread renews the heartbeat."""

    def __init__(
        self, folder: Path, heartbeat: float = HEARTBEAT_SECONDS, dead: float = DEAD_SECONDS
    ) -> None:
        self._path = folder / LEASE
        self._heartbeat = heartbeat
        self._dead = dead
        self._stop = threading.Event()
        self._lost = False

    def __enter__(self) -> Lease:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._acquire()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._holder().get("nonce") == self._nonce:
            self._path.unlink(missing_ok=True)

    def check(self) -> None:
        """Call right before each write: two trainers must not write one folder.

        Reads the lease, for this process may have been stopped for so long that another one took over, and its own heartbeat
        has not run since it goes on.

        Raises:
            GriddleError: if another trainer took this one for dead, or the lease is gone.
        """
        try:
            if not (self._lost or self._is_ours()):
                self._lost = True
        except OSError as error:  # a disk that is absent for a while; the next check may succeed, and the next write would fail
            log(f"the lease {self._path} cannot be read: {error}")
            return
        if self._lost and not self._holder():
            raise GriddleError(
                f"the lease of {self._path.parent.name} is gone: another trainer took over and is done, or the file was "
                f"deleted. This one stops; the same command goes on from its last checkpoint"
            )
        if self._lost:
            raise GriddleError(
                f"{self._path.parent.name} was taken over by {_name(self._holder())}, which found this trainer's "
                f"heartbeat still; this one stops"
            )

    def _acquire(self) -> None:
        waited_for: Any = None
        moved = time.monotonic()
        beat: Any = None
        while not self._create():
            holder = self._holder()
            if holder != beat:
                beat, moved = holder, time.monotonic()
            if _is_dead(holder) or time.monotonic() - moved > self._dead:
                log(f"taking over {self._path.parent.name} from {_name(holder)}, which is dead")
                if self._take(holder):
                    return
                continue
            if holder and holder["nonce"] != waited_for:
                waited_for = holder["nonce"]
                log(f"{self._path.parent.name} is being trained by {_name(holder)}; waiting for it")
            time.sleep(min(1.0, self._heartbeat))

    def _create(self) -> bool:
        self._nonce = os.urandom(8).hex()
        return self._link(self._path)

    def _take(self, holder: dict[str, Any]) -> bool:
        """Replace the dead lease by ours, without an instant without a lease; False if another process was faster.

        Of several processes only the one that holds the claim acts, and only while the dead lease is still in place.
        A claim whose process died is removed after the time for which a holder may be silent.
        """
        claim = self._path.with_name(f".lease-claim-{holder.get('nonce')}")
        began = time.monotonic()
        while not self._link(claim):
            if self._holder() != holder:
                return False
            if time.monotonic() - began > self._dead:
                claim.unlink(missing_ok=True)
            time.sleep(min(0.05, self._heartbeat))
        try:
            if self._holder() != holder:
                return False
            if self._path.is_dir():
                set_aside(self._path)
            write_json(self._path, self._body())
            return True
        finally:
            claim.unlink(missing_ok=True)

    def _link(self, target: Path) -> bool:
        """Create our lease under that name, unless the file exists."""
        beside = self._path.with_name(f".lease-{self._nonce}-{os.urandom(4).hex()}")
        write_json(beside, self._body())
        try:
            os.link(beside, target)
        except FileExistsError:
            return False
        finally:
            beside.unlink()
        return True

    def _renew(self) -> None:
        while not self._stop.wait(self._heartbeat):
            try:
                if self._is_ours():
                    write_json(self._path, self._body())
                else:
                    self._lost = True
            except OSError as error:  # a full or absent disk for a while; the next beat may succeed
                log(f"the heartbeat of {self._path} could not be written: {error}")

    def _is_ours(self) -> bool:
        """Whether this process holds the lease. One that was garbled is ours until another one takes it; one that is gone is
        not, for another one may have taken it, trained and left."""
        holder = self._holder()
        if "garbled" in holder:
            return self._take(holder) or bool(self._holder().get("nonce") == self._nonce)
        return bool(holder.get("nonce") == self._nonce)

    def _body(self) -> dict[str, Any]:
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "job": os.environ.get("SLURM_JOB_ID"),
            "nonce": self._nonce,
            "beat": time.time(),
        }

    def _holder(self) -> dict[str, Any]:
        return _read(self._path)


def _read(path: Path) -> dict[str, Any]:
    """The lease in a file; {} if there is none. Of what is no lease of ours, a nonce that stands for its bytes, and `garbled`."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            data = b"a folder, a pipe or a device"
        else:
            with open(path, "rb") as file:
                data = file.read(LONGEST)
    except FileNotFoundError:
        if not path.is_symlink():
            return {}
        data = b"a link to nothing"
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        body = None
    if _is_lease(body):
        return dict(body)
    return {"nonce": hashlib.sha256(data).hexdigest()[:16], "garbled": True}


def _is_lease(body: Any) -> bool:
    """Whether a value is what `Lease` writes."""
    return (
        isinstance(body, dict)
        and isinstance(body.get("host"), str)
        and type(body.get("pid")) is int
        and 0 < body["pid"] < 2**31
        and isinstance(body.get("job"), str | None)
        and isinstance(body.get("nonce"), str)
        and re.fullmatch(r"[0-9A-Za-z]{1,64}", body["nonce"]) is not None
        and type(body.get("beat")) in (int, float)
        and math.isfinite(body["beat"])
    )


def _is_dead(holder: dict[str, Any]) -> bool:
    """Whether the holder is certainly dead. Only processes on this host can be checked."""
    if holder.get("host") != socket.gethostname():
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _name(holder: dict[str, Any]) -> str:
    if not holder or "garbled" in holder:
        return "a process that is not known, for its lease is damaged"
    job = f", job {holder['job']}" if holder.get("job") else ""
    return f"process {holder.get('pid')} on {holder.get('host')}{job}"
