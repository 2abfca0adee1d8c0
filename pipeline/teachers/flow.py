"""Images through a teacher: decoded ahead in threads, several forward passes side by side, results in order.

On a CPU every image is computed alone, by one thread, as many at once as there are threads: what comes out depends
neither on `images_per_batch` nor on the number of threads, and no thread ever waits for another in the middle of a
matrix product. On a GPU images go in batches that are all of one size, the last one filled up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from cache_schemas.errors import GriddleError

GPU_LANES = 2
"""Forward passes at once on a GPU: one computes while the other's images and features are copied."""

Load = Callable[[], Tensor]
"""Gives one image, (3, H, W) float32 in [0, 1]."""


class Teaching(Protocol):
    """What a flow needs of a `LoadedTeacher`. `features` is called from several threads at once."""

    @property
    def device(self) -> torch.device: ...

    def features(self, images: Tensor) -> np.ndarray: ...


@dataclass
class _Batch:
    inputs: list[Future[Tensor]]
    grids: Future[np.ndarray]


@dataclass
class Passage:
    """The images of one partition on their way through the teacher: one thread hands them in, another takes them.

    Attributes:
        seconds: from the first image handed in to the last patch grid taken.
    """

    seconds: float = 0.0
    _began: float = field(default_factory=time.monotonic)
    _batches: SimpleQueue[_Batch | None] = field(default_factory=SimpleQueue)
    _all_taken: bool = False
    _given_up: bool = False


class Flow:
    """A context in which a teacher runs over images; leaving it drops what is on its way and ends its threads.

    At most `window` batches are on their way at any time: memory is bounded by it.

    Attributes:
        threads: that decode; those that torch was given when the flow was made.
        lanes: forward passes at once.
        batch: images in each of them.
    """

    def __init__(self, teacher: Teaching, name: str, images_per_batch: int) -> None:
        self._teacher, self._name = teacher, name
        self._on_gpu = teacher.device.type == "cuda"
        self.threads = torch.get_num_threads()
        self.lanes = GPU_LANES if self._on_gpu else self.threads
        self.batch = images_per_batch if self._on_gpu else 1
        self.window = self.lanes + max(self.lanes, -(-2 * self.threads // self.batch))
        self._lane = threading.local()

    def __enter__(self) -> Flow:
        torch.set_num_threads(
            1
        )  # the threads are ours; those that torch starts inside each would come on top
        self._slots = threading.Semaphore(self.window)
        self._decoders = ThreadPoolExecutor(self.threads, "decode", torch.set_num_threads, (1,))
        self._lanes = ThreadPoolExecutor(self.lanes, "teacher", self._open_lane)
        return self

    def __exit__(self, *_: object) -> None:
        for pool in (self._lanes, self._decoders):
            pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(self.threads)

    def hand_in(self, passage: Passage, loads: Sequence[Load]) -> None:
        """Hand in images; blocks while enough are on their way, and ends early if the taker gave up."""
        try:
            for first in range(0, len(loads), self.batch):
                self._slots.acquire()
                if passage._given_up:
                    self._slots.release()
                    return
                inputs = [self._decoders.submit(load) for load in loads[first : first + self.batch]]
                passage._batches.put(_Batch(inputs, self._lanes.submit(self._run, inputs)))
        finally:
            passage._batches.put(None)

    def take(self, passage: Passage) -> Iterator[np.ndarray]:
        """The features (1 to `batch`, rows, cols, C) of the images handed in, in their order.

        Who stops before the end, for whatever reason, calls `give_up`.

        Raises:
            BadInput: what the load of an image raised.
            GriddleError: if the device has not the memory.
        """
        while (batch := passage._batches.get()) is not None:
            try:
                grids = batch.grids.result()
            finally:
                self._slots.release()
            passage.seconds = time.monotonic() - passage._began
            yield grids
        passage._all_taken = True

    def give_up(self, passage: Passage) -> None:
        """Drop what is still on its way and will not be taken, so that others have its place."""
        passage._given_up = True
        while not passage._all_taken:
            batch = passage._batches.get()
            if batch is None:
                passage._all_taken = True
                return
            batch.grids.cancel()
            for load in batch.inputs:
                load.cancel()
            with suppress(Exception):  # of a partition that is lost already
                if not batch.grids.cancelled():
                    batch.grids.result()
            self._slots.release()

    def _open_lane(self) -> None:
        torch.set_num_threads(1)
        # A stream of its own, so that one lane's copies run beside the other's arithmetic.
        self._lane.stream = torch.cuda.Stream(self._teacher.device) if self._on_gpu else None

    def _run(self, inputs: list[Future[Tensor]]) -> np.ndarray:
        stream: Any = self._lane.stream
        try:
            images = torch.stack([future.result() for future in inputs])  # (1 to batch, 3, H, W)
            short = self.batch - len(images)
            if short:
                images = torch.cat([images, images[-1:].expand(short, -1, -1, -1)])
            with torch.cuda.stream(stream) if self._on_gpu else nullcontext():
                return self._teacher.features(images)[: len(inputs)]
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            raise GriddleError(self._what_to_do(error)) from error

    def _what_to_do(self, error: BaseException) -> str:
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        setting = f"teachers.{self._name}.images_per_batch"
        if not self._on_gpu:
            at_once = f"{self.lanes} image(s), one for each thread"
            mend = (
                f"Give the job fewer --threads or more memory; {setting} does not matter here, a CPU computes each image "
                f"alone."
            )
        elif self.batch > 1:
            at_once = f"{self.lanes} batches of {self.batch} images"
            mend = f"Write {setting}: {self.batch // 2}."
        else:
            at_once = f"{self.lanes} images"
            mend = (
                f"{setting} is 1 already: this teacher needs a larger GPU, a smaller image_size or bfloat16."
            )
        return (
            f"{self._teacher.device} ran out of memory on teacher {self._name} with {at_once} at once ({said}).\n{mend} "
            f"Then run the same command again: what is published stays, only what was in flight is computed anew."
        )


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    told = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
    return any(words in str(error) for words in told)
