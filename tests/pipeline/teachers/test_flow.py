"""Images through a teacher: their order, what is on its way at once, and what happens where one cannot be had."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from cache_schemas.errors import BadInput, GriddleError
from pipeline.config.model import Teacher
from pipeline.teachers import flow as flow_module
from pipeline.teachers.flow import Flow, Passage, filled_up, out_of_memory
from pipeline.teachers.loaded import load_teacher

CPU = torch.device("cpu")


class Fake:
    """A teacher whose patch grid is the image's first value; it may be slow, or fail."""

    device = CPU

    def __init__(self, meanwhile: Callable[[float], object] = lambda value: None) -> None:
        self.meanwhile, self.shapes, self.running, self.most = meanwhile, [], 0, 0
        self.lock = threading.Lock()

    def features(self, images: Tensor) -> np.ndarray:
        with self.lock:
            self.shapes.append(tuple(images.shape))
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            self.meanwhile(float(images[0, 0, 0, 0]))
        finally:
            with self.lock:
                self.running -= 1
        assert torch.get_num_threads() == 1
        return images[:, 0, :1, :1, None].numpy()


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def image(value: float) -> Tensor:
    return torch.full((3, 2, 2), value)


def flow_of(teacher: Fake, name: str = "t") -> Flow[float]:
    return Flow(teacher, name, 8, lambda grid: float(grid[0, 0, 0, 0]))


def through(flow: Flow[float], values: list[float]) -> list[float]:
    passage: Passage[float] = Passage()
    with ThreadPoolExecutor(1) as taker:
        taken = taker.submit(lambda: list(flow.take(passage)))
        flow.hand_in(passage, [partial(image, value) for value in values])
        return taken.result()


@pytest.mark.usefixtures("four_threads")
def test_images_come_in_order_each_alone_and_as_many_at_once_as_there_are_threads() -> None:
    rng = np.random.default_rng(0)
    teacher = Fake(lambda value: time.sleep(rng.uniform(0, 0.01)))
    with flow_of(teacher) as flow:
        values = [float(v) for v in range(60)]
        assert through(flow, values) == values
        assert through(flow, values[:1]) == values[:1]
    assert set(teacher.shapes) == {(1, 3, 2, 2)}
    assert 1 < teacher.most <= 4
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four_threads")
def test_no_more_is_on_its_way_than_the_window() -> None:
    taken, loaded, most = 0, 0, 0

    def load(value: float) -> Tensor:
        nonlocal loaded, most
        loaded += 1
        most = max(most, loaded - taken)
        return image(value)

    with flow_of(Fake()) as flow, ThreadPoolExecutor(1) as hands:
        passage: Passage[float] = Passage()
        handing = hands.submit(flow.hand_in, passage, [partial(load, float(v)) for v in range(100)])
        values = flow.take(passage)
        for _ in range(20):
            next(values)
            taken += 1
            time.sleep(0.005)  # a slow writer: the rest must wait
        assert loaded < 20 + flow.window + 2
        for _ in values:
            taken += 1
        handing.result()
    assert loaded == 100
    assert flow.lanes <= most <= flow.window + 1  # one may be taken and not yet counted here


@pytest.mark.usefixtures("four_threads")
def test_an_image_that_cannot_be_had_ends_its_partition_alone() -> None:
    def load(value: float) -> Tensor:
        if value == 5:
            raise BadInput("image 5 is cut")
        return image(value)

    with flow_of(Fake()) as flow, ThreadPoolExecutor(1) as taker:
        for _ in range(3):  # so often that lost places would block it
            passage: Passage[float] = Passage()

            def take(passage: Passage[float] = passage) -> list[float]:
                try:
                    return list(flow.take(passage))
                except BadInput:
                    flow.give_up(passage)
                    raise

            taken = taker.submit(take)
            flow.hand_in(passage, [partial(load, float(v)) for v in range(200)])
            with pytest.raises(BadInput, match="image 5 is cut"):
                taken.result()
        assert through(flow, [1.0, 2.0, 3.0]) == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
        ),
        MemoryError("Unable to allocate 2.00 GiB"),
    ],
)
def test_out_of_memory_is_said_in_our_words(error: Exception) -> None:
    def fail(value: float) -> None:
        raise error

    with flow_of(Fake(fail), "dinov2_s") as flow, pytest.raises(GriddleError) as caught:
        through(flow, [0.0])
    assert not isinstance(caught.value, BadInput)  # a retry may do
    assert "cpu ran out of memory on teacher dinov2_s" in str(caught.value)
    assert "fewer --threads" in str(caught.value)
    assert str(error)[:20] in str(caught.value)


@pytest.mark.parametrize(
    ("batch", "mend"),
    [
        (8, "Write teachers.dinov2_s.images_per_batch: 4."),
        (1, "images_per_batch is 1 already: this teacher needs a larger GPU"),
    ],
)
def test_out_of_memory_on_a_gpu_says_the_batch_size_to_set(batch: int, mend: str) -> None:
    error = out_of_memory(RuntimeError("CUDA out of memory"), torch.device("cuda"), "dinov2_s", 2, batch)
    assert mend in str(error)
    assert "what is published stays" in str(error)


def test_another_error_stays_what_it_is() -> None:
    def fail(value: float) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    with flow_of(Fake(fail)) as flow, pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        through(flow, [0.0])


def test_a_short_batch_is_filled_up_with_its_last_image() -> None:
    batch = filled_up([image(1.0), image(2.0)], 4)
    assert [float(one[0, 0, 0]) for one in batch] == [1.0, 2.0, 2.0, 2.0]
    assert filled_up([image(1.0)], 1).shape == (1, 3, 2, 2)


def test_on_a_gpu_a_batch_is_put_together_on_its_lanes_own_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another stream's work would not be waited for. No GPU is needed: the streams are pretended."""
    lane = threading.local()
    seen: list[tuple[str, bool]] = []

    @contextlib.contextmanager
    def on(stream: object) -> Iterator[None]:
        lane.stream = stream
        yield
        lane.stream = None

    class OnGpu(Fake):
        device = torch.device("cuda")

        def features(self, images: Tensor) -> np.ndarray:
            seen.append(("features", lane.stream is not None))
            return super().features(images)

    def put_together(images: list[Tensor], batch: int) -> Tensor:
        seen.append(("together", getattr(lane, "stream", None) is not None))
        return filled_up(images, batch)

    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: object())
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(flow_module, "filled_up", put_together)
    with flow_of(OnGpu()) as flow:
        assert through(flow, [1.0, 2.0]) == [1.0, 2.0]
    assert seen == [("together", True), ("features", True)]


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize("layer", ["last", "last keys"])
def test_a_real_teacher_gives_the_same_bits_side_by_side(layer: str) -> None:
    config = Teacher.model_validate(
        {"model": "vit_tiny_patch16_224", "weights": "untrained", "layer": layer, "image_size": (32, 64)}
    )
    teacher = load_teacher(config, CPU)
    images = torch.rand(40, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    with Flow(teacher, "t", 8, lambda grid: grid) as flow, ThreadPoolExecutor(1) as taker:
        alone = [teacher.features(image[None]) for image in images]
        passage: Passage[np.ndarray] = Passage()
        taken = taker.submit(lambda: list(flow.take(passage)))
        flow.hand_in(passage, [partial(images.__getitem__, i) for i in range(len(images))])
        np.testing.assert_array_equal(np.stack(taken.result()), np.stack(alone))
