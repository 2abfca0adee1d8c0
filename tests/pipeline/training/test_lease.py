"""One trainer in a run folder at a time: a second one waits, or takes over from a dead one and says so."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cache_schemas.errors import GriddleError
from pipeline.training import lease as leases
from pipeline.training.lease import Lease

REPOSITORY = Path(__file__).resolve().parents[3]
BEAT = 0.02
FOREVER = 10.0


class Trainer:
    """A thread that enters a lease and stays in it until it is told to leave."""

    def __init__(self, folder: Path, dead: float = FOREVER) -> None:
        self.inside = threading.Event()
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._train, args=(folder, dead), daemon=True)
        self._thread.start()

    def _train(self, folder: Path, dead: float) -> None:
        with Lease(folder, heartbeat=BEAT, dead=dead):
            self.inside.set()
            self._leave.wait(20)

    def leave(self) -> None:
        self._leave.set()
        self._thread.join(20)


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[Callable[..., Trainer]]:
    """Makes trainers of tmp_path, all of which leave at the end."""
    made: list[Trainer] = []

    def make(dead: float = FOREVER) -> Trainer:
        made.append(Trainer(tmp_path, dead))
        return made[-1]

    yield make
    for one in made:
        one.leave()


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def lie_there(folder: Path, **holder: Any) -> None:
    body = {"host": socket.gethostname(), "pid": os.getpid(), "job": None, "nonce": "00", "beat": 1.0}
    (folder / "lease.json").write_text(json.dumps({**body, **holder}))


def holder_in(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "lease.json").read_bytes())


def test_a_lease_says_who_holds_it_and_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    with Lease(tmp_path / "run", heartbeat=BEAT):
        holder = holder_in(tmp_path / "run")
        assert (holder["host"], holder["pid"], holder["job"]) == (socket.gethostname(), os.getpid(), "4711")
        assert abs(holder["beat"] - time.time()) < 5
    assert list((tmp_path / "run").iterdir()) == []


def test_the_heartbeat_moves(tmp_path: Path) -> None:
    with Lease(tmp_path, heartbeat=BEAT):
        first = holder_in(tmp_path)
        deadline = time.monotonic() + 5
        while holder_in(tmp_path)["beat"] == first["beat"]:
            assert time.monotonic() < deadline
            time.sleep(BEAT)
        assert holder_in(tmp_path)["nonce"] == first["nonce"]


def test_a_second_trainer_waits_until_the_first_one_leaves(
    trainer: Callable[..., Trainer], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    first = trainer()
    assert first.inside.wait(5)
    second = trainer()
    assert not second.inside.wait(0.3)
    first.leave()
    assert second.inside.wait(5)
    said = capsys.readouterr().err
    waiting = f"{tmp_path.name} is being trained by process {os.getpid()} on {socket.gethostname()}"
    assert said.count(waiting) == 1
    assert "taking over" not in said


def test_the_lease_is_released_after_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with Lease(tmp_path, heartbeat=BEAT):
            raise MemoryError("of the GPU")

    with pytest.raises(MemoryError, match="of the GPU"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_dead_process_of_this_host_is_taken_over_at_once(
    tmp_path: Path, dead_pid: int, capsys: pytest.CaptureFixture[str]
) -> None:
    lie_there(tmp_path, pid=dead_pid, job="12", beat=time.time())
    began = time.monotonic()
    with Lease(tmp_path, heartbeat=1.0, dead=FOREVER):
        assert time.monotonic() - began < 0.9
        assert holder_in(tmp_path)["pid"] == os.getpid()
    said = capsys.readouterr().err
    assert (
        f"taking over {tmp_path.name} from process {dead_pid} on {socket.gethostname()}, job 12, which is dead"
        in said
    )
    assert list(tmp_path.iterdir()) == []


HOLDER = """
import sys, time
from pathlib import Path
from pipeline.training.lease import Lease
with Lease(Path(sys.argv[1])):
    print("inside", flush=True)
    time.sleep(60)
"""


def test_a_killed_trainer_is_taken_over(tmp_path: Path, trainer: Callable[..., Trainer]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "inside\n"
    waiting = trainer()
    assert not waiting.inside.wait(0.2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert waiting.inside.wait(5)


@pytest.mark.parametrize("ahead", [-1e6, 0.0, 1e6], ids=["clock behind", "same clock", "clock ahead"])
def test_another_host_is_dead_when_its_heartbeat_stands_still_by_our_clock(
    ahead: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Its pid is alive here, which says nothing of it.
    lie_there(tmp_path, host="elsewhere", beat=time.time() + ahead)
    began = time.monotonic()
    with Lease(tmp_path, heartbeat=BEAT, dead=0.2):
        assert 0.2 <= time.monotonic() - began < 5
    said = capsys.readouterr().err
    assert f"is being trained by process {os.getpid()} on elsewhere; waiting for it" in said
    assert f"taking over {tmp_path.name} from process {os.getpid()} on elsewhere" in said


def test_another_host_lives_as_long_as_its_heartbeat_moves(
    tmp_path: Path, trainer: Callable[..., Trainer]
) -> None:
    def beat(number: int) -> None:
        lie_there(tmp_path / "beside", host="elsewhere", beat=float(number))
        os.replace(tmp_path / "beside" / "lease.json", tmp_path / "lease.json")

    (tmp_path / "beside").mkdir()
    beat(0)
    waiting = trainer(dead=0.2)
    for number in range(1, 13):
        assert not waiting.inside.wait(0.04)
        beat(number)
    assert waiting.inside.wait(5)


def test_a_lease_that_was_cut_off_holds_nobody_up_for_ever(tmp_path: Path) -> None:
    (tmp_path / "lease.json").write_bytes(b"")
    began = time.monotonic()
    with Lease(tmp_path, heartbeat=BEAT, dead=0.2):
        assert time.monotonic() - began >= 0.2


GARBLED = {
    "no object": b"[]",
    "null": b"null",
    "no JSON": b"\x00\xff{",
    "deep": b"[" * 50_000,
    "no pid": b'{"host": "HOST", "nonce": "00", "beat": 1.0, "job": null}',
    "a pid that is no number": b'{"host": "HOST", "pid": "x", "nonce": "00", "beat": 1.0, "job": null}',
    "a pid beyond all": b'{"host": "HOST", "pid": 99999999999999999999, "nonce": "00", "beat": 1.0, "job": null}',
    "the group's pid": b'{"host": "HOST", "pid": 0, "nonce": "00", "beat": 1.0, "job": null}',
    "a nonce with a path": b'{"host": "HOST", "pid": 1, "nonce": "a/../b", "beat": 1.0, "job": null}',
    "a nonce too long": b'{"host": "HOST", "pid": 1, "nonce": "'
    + b"a" * 300
    + b'", "beat": 1.0, "job": null}',
    "a beat that differs from itself": b'{"host": "HOST", "pid": 1, "nonce": "00", "beat": NaN, "job": null}',
    "a folder": None,
    "a link to nothing": None,
    "a pipe": None,
}


def garble(path: Path, kind: str) -> None:
    path.unlink(missing_ok=True)
    if kind == "a folder":
        path.mkdir()
    elif kind == "a link to nothing":
        path.symlink_to("nothing")
    elif kind == "a pipe":
        os.mkfifo(path)
    else:
        path.write_bytes((GARBLED[kind] or b"").replace(b"HOST", socket.gethostname().encode()))


@pytest.mark.parametrize("kind", GARBLED)
def test_a_garbled_lease_is_taken_over_after_a_while(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    garble(tmp_path / "lease.json", kind)
    began = time.monotonic()
    with Lease(tmp_path, heartbeat=BEAT, dead=0.2) as lease:
        assert 0.2 <= time.monotonic() - began < 5
        lease.check()
        assert holder_in(tmp_path)["pid"] == os.getpid()
    assert "its lease is damaged" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if ".damaged-" not in path.name] == []


@pytest.mark.parametrize("kind", ["null", "a folder"])
def test_who_holds_a_lease_that_was_garbled_goes_on_and_keeps_it(kind: str, tmp_path: Path) -> None:
    with Lease(tmp_path, heartbeat=BEAT) as lease:
        nonce = holder_in(tmp_path)["nonce"]
        garble(tmp_path / "lease.json", kind)
        lease.check()
        assert holder_in(tmp_path)["nonce"] == nonce


def test_whose_lease_is_gone_stops_for_another_may_have_come_and_left(tmp_path: Path) -> None:
    with Lease(tmp_path, heartbeat=BEAT) as lease:
        (tmp_path / "lease.json").unlink()
        with pytest.raises(GriddleError, match="is gone: another trainer took over and is done"):
            lease.check()
    assert list(tmp_path.iterdir()) == []


def test_who_goes_on_after_a_pause_finds_out_before_it_writes(tmp_path: Path) -> None:
    """No heartbeat of its own has run since: the check alone must see it."""
    with Lease(tmp_path, heartbeat=FOREVER) as lease:
        lease.check()
        lie_there(tmp_path, host="elsewhere", nonce="another")
        with pytest.raises(GriddleError, match=r"was taken over by process \d+ on elsewhere"):
            lease.check()


def test_who_was_taken_for_dead_leaves_the_new_holders_lease_alone(tmp_path: Path) -> None:
    with Lease(tmp_path, heartbeat=BEAT):
        lie_there(tmp_path, host="elsewhere", nonce="another")
        time.sleep(5 * BEAT)
        assert holder_in(tmp_path)["nonce"] == "another"
    assert holder_in(tmp_path)["nonce"] == "another"


@pytest.mark.parametrize(
    "dead_holder",
    [False, True],
    ids=["nobody before", "a dead holder"],
)
def test_of_many_trainers_one_at_a_time_is_inside(dead_holder: bool, tmp_path: Path, dead_pid: int) -> None:
    inside = most = entered = 0
    lock = threading.Lock()

    def take() -> None:
        nonlocal inside, most, entered
        with Lease(tmp_path, heartbeat=BEAT, dead=FOREVER):
            with lock:
                inside, entered = inside + 1, entered + 1
                most = max(most, inside)
            time.sleep(0.005)
            with lock:
                inside -= 1

    if dead_holder:
        lie_there(tmp_path, pid=dead_pid)
    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (entered, most) == (6, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_taker_that_comes_too_late_waits_for_the_one_that_was_faster(
    tmp_path: Path, dead_pid: int, trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find the dead holder; the second one takes over and starts before the first one goes on."""
    lie_there(tmp_path, pid=dead_pid)
    faster: list[Trainer] = []

    def let_the_other_one_pass(line: str) -> None:
        if line.startswith("taking over") and not faster:
            faster.append(trainer())
            assert faster[0].inside.wait(5)

    monkeypatch.setattr(leases, "log", let_the_other_one_pass)
    slower = trainer()
    assert not slower.inside.wait(0.5)
    assert faster[0].inside.is_set()
    faster[0].leave()
    assert slower.inside.wait(5)


def test_a_claim_whose_taker_died_is_dropped(tmp_path: Path, dead_pid: int) -> None:
    lie_there(tmp_path, pid=dead_pid)
    (tmp_path / ".lease-claim-00").write_text("{}")
    began = time.monotonic()
    with Lease(tmp_path, heartbeat=BEAT, dead=0.2):
        assert 0.2 <= time.monotonic() - began < 5
    assert list(tmp_path.iterdir()) == []
