"""Images through a teacher: decoded ahead in threads, several forward passes side by side, results in order.

On a CPU every image is computed alone, by one thread; as many images at once as there are threads. The features then
depend neither on `images_per_batch` nor on the number of threads, and no thread waits for another within a matrix product.
On a GPU images go in batches of one size; the last one is filled up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from cache_schemas.errors import GriddleError

GPU_LANES = 2
"""Forward passes at once on a GPU: one computes while the other's images and features are copied."""

Load = Callable[[], Tensor]
"""Gives one image, (3, H, W) float32 in [0, 1]."""


Out = TypeVar("Out")


class Teaching(Protocol):
    """What a flow needs of a `LoadedTeacher`. `features` is called from several threads at once."""

    @property
    def device(self) -> torch.device: ...

    def features(self, images: Tensor) -> np.ndarray: ...


@dataclass
class _Batch(Generic[Out]):
    inputs: list[Future[Tensor]]
    outputs: Future[list[Future[Out]]]


@dataclass
class Passage(Generic[Out]):
    """The images of one partition on their way through the teacher: one thread hands them in, another takes them.

    Attributes:
        seconds: from the first image handed in, or the last patch grid of the partition before if that came later, to
            the last patch grid taken.
    """

    seconds: float = 0.0
    _handed_in: float = field(default_factory=time.monotonic)
    _batches: SimpleQueue[_Batch[Out] | None] = field(default_factory=SimpleQueue)
    _all_taken: bool = False
    _given_up: bool = False


class Flow(Generic[Out]):
    """A context in which a teacher runs over images; leaving it drops what is on its way and ends its threads.

    At most `window` batches are on their way at any time: memory is bounded by it.

    Args:
        then: called with each image's patch grid (1, rows, cols, C), in a thread beside the forward passes.

    Attributes:
        threads: for the work before and after the forward passes; those that torch had when the flow was made.
        lanes: forward passes at once.
        batch: images in each of them.
    """

    def __init__(
        self, teacher: Teaching, name: str, images_per_batch: int, then: Callable[[np.ndarray], Out]
    ) -> None:
        self._teacher, self._name, self._then = teacher, name, then
        self._on_gpu = teacher.device.type == "cuda"
        self.threads = torch.get_num_threads()
        self.lanes = GPU_LANES if self._on_gpu else self.threads
        self.batch = images_per_batch if self._on_gpu else 1
        self.window = self.lanes + max(self.lanes, -(-2 * self.threads // self.batch))
        self._lane = threading.local()

    def __enter__(self) -> Flow[Out]:
        # The threads are ours; those that torch starts inside each would come on top.
        torch.set_num_threads(1)
        self._slots = threading.Semaphore(self.window)
        self._taken = time.monotonic()
        self._helpers = ThreadPoolExecutor(self.threads, "helper", torch.set_num_threads, (1,))
        self._lanes = ThreadPoolExecutor(self.lanes, "teacher", self._open_lane)
        return self

    def __exit__(self, *_: object) -> None:
        for pool in (self._lanes, self._helpers):
            pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(self.threads)

    def hand_in(self, passage: Passage[Out], loads: Sequence[Load]) -> None:
        """Hand in images; blocks while enough are on their way, and ends early if the taker gave up."""
        try:
            for first in range(0, len(loads), self.batch):
                self._slots.acquire()
                if passage._given_up:
                    self._slots.release()
                    return
                inputs = [self._helpers.submit(load) for load in loads[first : first + self.batch]]
                passage._batches.put(_Batch(inputs, self._lanes.submit(self._run, inputs)))
        finally:
            passage._batches.put(None)

    def take(self, passage: Passage[Out]) -> Iterator[Out]:
        """What `then` returned for each image handed in, in their order.

        A caller that stops before the end, for whatever reason, calls `give_up`.

        Raises:
            BadInput: what the load of an image raised, or `then`.
            GriddleError: if the device has not the memory.
        """
        began = None
        while (batch := passage._batches.get()) is not None:
            try:
                outputs = [output.result() for output in batch.outputs.result()]
            finally:
                self._slots.release()
            began = began or max(passage._handed_in, self._taken)
            self._taken = time.monotonic()
            passage.seconds = self._taken - began
            yield from outputs
        passage._all_taken = True

    def give_up(self, passage: Passage[Out]) -> None:
        """Drop what is still on its way and will not be taken, so that others have its place."""
        passage._given_up = True
        while not passage._all_taken:
            batch = passage._batches.get()
            if batch is None:
                passage._all_taken = True
                return
            batch.outputs.cancel()
            for load in batch.inputs:
                load.cancel()
            with suppress(Exception, CancelledError):  # of a partition that is lost already
                wait(batch.outputs.result())
            self._slots.release()

    def _open_lane(self) -> None:
        torch.set_num_threads(1)
        if self._on_gpu:
            # A stream of its own, so that one lane's copies run beside the other's arithmetic.
            torch.cuda.synchronize(self._teacher.device)
            self._lane.stream = torch.cuda.Stream(self._teacher.device)

    def _run(self, inputs: list[Future[Tensor]]) -> list[Future[Out]]:
        on_stream: Any = torch.cuda.stream(self._lane.stream) if self._on_gpu else nullcontext()
        try:
            ready = [future.result() for future in inputs]
            with (
                on_stream
            ):  # images that lie on a GPU are put together there: another stream would not wait for it
                grids = self._teacher.features(filled_up(ready, self.batch))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise out_of_memory(error, self._teacher.device, self._name, self.lanes, self.batch) from error
        return [self._helpers.submit(self._then, grids[i : i + 1]) for i in range(len(inputs))]


def filled_up(images: list[Tensor], batch: int) -> Tensor:
    """(batch, 3, H, W): the last image over and over where there are fewer."""
    return torch.stack([*images, *images[-1:] * (batch - len(images))])


def out_of_memory(
    error: BaseException, device: torch.device, name: str, lanes: int, batch: int
) -> GriddleError:
    """The device's message, and which setting of the config to change."""
    message = next(iter(str(error).strip().splitlines()), type(error).__name__)
    setting = f"teachers.{name}.images_per_batch"
    if device.type == "cpu":
        at_once = f"{lanes} image(s), one for each thread,"
        mend = f"Give the job fewer --threads or more memory; {setting} does not matter here, a CPU computes each image alone."
    elif batch > 1:
        at_once = f"{lanes} batches of {batch} images"
        mend = f"Write {setting}: {batch // 2}."
    else:
        at_once = f"{lanes} images"
        mend = f"{setting} is 1 already: this teacher needs a larger GPU, a smaller image_size or bfloat16."
    return GriddleError(
        f"{device} ran out of memory on teacher {name} with {at_once} at once ({message}).\n{mend} Then run the same "
        f"command again: what is published stays, only what was in flight is computed anew."
    )


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    # On a CPU torch raises a bare RuntimeError: its text is all there is to go by.
    phrases = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
    return any(phrase in str(error) for phrase in phrases)
