"""Heads compute what they say, and start where the papers let them start."""

import torch

from pipeline.students.heads import LinearHead, MlpHead, ProbeHead

torch.set_num_threads(1)


def test_linear_head() -> None:
    head, x = LinearHead(4, 6), torch.randn(3, 4)
    torch.testing.assert_close(head(x), x @ head.linear.weight.T + head.linear.bias)


def test_mlp_head_has_one_relu_and_no_norm() -> None:
    head, x = MlpHead(4, 6, hidden=8), torch.randn(3, 4)
    hidden = (x @ head.linear_in.weight.T + head.linear_in.bias).clamp(min=0)
    torch.testing.assert_close(head(x), hidden @ head.linear_out.weight.T + head.linear_out.bias)
    assert MlpHead(4, 6).linear_in.out_features == 2048


def test_heads_of_the_published_sizes() -> None:
    def size(head: torch.nn.Module) -> int:
        return sum(p.numel() for p in head.parameters())

    assert size(LinearHead(768, 1024)) == 768 * 1024 + 1024
    assert size(MlpHead(768, 1024)) == 768 * 2048 + 2048 + 2048 * 1024 + 1024


def test_probe_starts_at_zero_and_learns() -> None:
    head, x = ProbeHead(4, 3), torch.randn(50, 4) * 5 + 2
    assert head(x).eq(0).all()
    head(x)[:, 0].sum().backward()
    assert head.linear.bias.grad is not None
    assert head.linear.bias.grad[0] == 50
    torch.nn.init.eye_(head.linear.weight)
    logits = head(x)
    torch.testing.assert_close(logits.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(logits.std(0, unbiased=False), torch.ones(3), atol=1e-4, rtol=0)
