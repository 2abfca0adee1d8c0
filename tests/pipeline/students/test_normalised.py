"""LayerNorm before its scale and shift: the types that its kernels take on each kind of device."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pipeline.students.normalised import normalised, normalised_backward, statistics_type

TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", TYPES)
def test_mean_and_deviation_on_a_cpu(dtype: torch.dtype) -> None:
    rows = torch.randn(7, 5).to(dtype)
    _, mean, deviation = normalised(rows, 1e-5)
    assert mean.dtype == deviation.dtype == statistics_type(dtype, "cpu")
    assert normalised_backward(torch.ones_like(rows), rows, mean, deviation).dtype == dtype


@pytest.mark.parametrize("dtype", TYPES)
def test_mean_and_deviation_on_a_gpu(dtype: torch.dtype) -> None:
    """As torch describes what comes out there, for which no GPU is needed. Its backward takes no other type."""
    with FakeTensorMode():
        _, mean, deviation = normalised(torch.empty(7, 5, dtype=dtype, device="cuda"), 1e-5)
    assert mean.dtype == deviation.dtype == statistics_type(dtype, "cuda")
