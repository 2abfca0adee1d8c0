"""What commands choose by themselves."""

import pytest
import torch

from stages.options import pick_device


def test_float32_is_float32_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own choice lets convolutions, such as a teacher's patch embedding, through TF32. No GPU is needed to see it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert pick_device("features") == torch.device("cuda")
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_without_a_gpu_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("features") == torch.device("cpu")
    captured = capsys.readouterr()
    assert "features: no GPU found" in captured.out + captured.err
