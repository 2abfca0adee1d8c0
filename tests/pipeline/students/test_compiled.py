"""The student under torch.compile: the same numbers, and one graph for batches of all sizes."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from benchmarks.gpu.small_students import DEPTH, assert_same, batch, make_student, results
from cache_schemas.errors import BadInput
from pipeline.students import backends
from pipeline.students import compiled as compiled_module
from pipeline.students.backends import backend_for
from pipeline.students.sparse_mix import Activation
from pipeline.students.stochastic_depth import masks
from pipeline.students.waffleiron import Norm

torch.set_num_threads(1)

SIZES = ([40, 30], [25, 3, 12], [80], [1, 90, 0, 7], [33, 34, 35, 36, 37, 38, 39, 40, 41], [60, 61], [300, 2])
MIXES = 2


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start with nothing compiled; everything up to the generated code is real, which a C++ compiler would take a
    minute to build."""
    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(compiled_module, "_COMPILED", {})
    monkeypatch.setattr(compiled_module.torch, "compile", partial(torch.compile, backend="aot_eager"))
    yield
    torch._dynamo.reset()


def test_the_same_numbers_and_no_batch_is_compiled_for_by_itself(compiler: Any) -> None:
    student, reference = make_student("compiled"), make_student("reference")
    graphs = []
    for sizes in SIZES:
        clouds = batch(sizes)
        assert_same(results(student, clouds), results(reference, clouds))
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] == MIXES  # 4 layers on 3 planes share them
    assert graphs[1] == graphs[-1] <= 2 * MIXES
    assert not counters["graph_break"]


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("norm", "activation"), [("layer", "gelu"), ("batch", "relu")])
def test_every_variant(compiler: Any, norm: Norm, activation: Activation, checkpointing: bool) -> None:
    student = make_student("compiled", norm, activation, checkpointing=checkpointing)
    reference = make_student("reference", norm, activation)
    for sizes in SIZES[:3]:
        clouds, drop = batch(sizes), masks(0, 0, list(range(len(sizes))), DEPTH, 0.3)
        assert_same(results(student, clouds, drop), results(reference, clouds, drop))


def test_one_point(compiler: Any) -> None:
    for sizes in ([1], [0, 1, 0]):
        student = make_student("compiled").eval()
        found, expected = student(batch(sizes)), make_student("reference").eval()(batch(sizes))
        assert (found - expected).abs().max() <= 1e-12
    assert counters["stats"]["unique_graphs"] == 0


@pytest.mark.slow
def test_generated_code_for_many_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, with the code that torch.compile generates, which has limits of its own for how large a size is."""
    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(compiled_module, "_COMPILED", {})
    student, reference = make_student("compiled"), make_student("reference")
    graphs = []
    for sizes in (*SIZES, [5000, 2000], [9000]):
        clouds = batch(sizes)
        assert_same(results(student, clouds), results(reference, clouds))
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] == MIXES
    assert graphs[-1] <= 2 * MIXES


def test_which_backend_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backend_for("auto", "cpu") == "torch"
    assert backend_for("auto", "cuda") == "torch"
    assert backend_for("reference", "cpu") == "reference"
    backend_for.cache_clear()
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BadInput, match="no-such-compiler was not found"):
        backend_for("compiled", "cpu")
    assert backend_for("compiled", "cuda") == "compiled"
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(BadInput, match="NVIDIA GPU"):
        backend_for("triton", "cpu")
    backend_for.cache_clear()
    assert set(backends.MEASURED) == {"cpu"}
