"""Batch-channel normalization and the estimated batch norm inside it."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from zoo.normalization.batch_channel_norm import BatchChannelNorm2d, EstimatedBatchNorm


def loop(x, norm, groups, eps):
    """Channel by channel, then sample by sample and group by group; the outer gain is one number a group."""
    inner = torch.empty_like(x)
    for c in range(x.shape[1]):
        values = x[:, c]
        mean = values.sum() / values.numel()
        var = ((values - mean) ** 2).sum() / values.numel()
        inner[:, c] = norm.bn.weight[c] * (values - mean) / (var + eps) ** 0.5 + norm.bn.bias[c]
    out, each = torch.empty_like(x), x.shape[1] // groups
    for n in range(x.shape[0]):
        for g in range(groups):
            values = inner[n, g * each : (g + 1) * each]
            mean = values.sum() / values.numel()
            var = ((values - mean) ** 2).sum() / values.numel()
            out[n, g * each : (g + 1) * each] = norm.weight[g] * (values - mean) / (var + eps) ** 0.5 + norm.bias[g]
    return out


def randomised(norm):
    norm = norm.double()
    for p in norm.parameters():
        nn.init.normal_(p)
    return norm


def test_plain_loop(parity):
    norm = randomised(BatchChannelNorm2d(6, 3, eps=1e-2))
    x = torch.randn(4, 6, 3, 2, dtype=torch.float64, requires_grad=True)
    y, expected = norm(x), loop(x, norm, 3, 1e-2)
    probe, wanted = torch.randn_like(y), (x, *norm.parameters())
    found = torch.autograd.grad(y, wanted, probe)
    grads = torch.autograd.grad(expected, wanted, probe)
    error = max((a - b).abs().max().item() for a, b in zip((y, *found), (expected, *grads), strict=True))
    parity("batch_channel_norm", error, 1e-11, oracle="plain loop for both norms")


def test_outer_gain_has_one_number_a_group():
    assert BatchChannelNorm2d(64).weight.shape == (32,)
    assert BatchChannelNorm2d(64, per_channel=True).weight.shape == (64,)
    assert BatchChannelNorm2d(64).bn.weight.shape == (64,)


def test_per_channel_equals_per_group_when_gains_agree():
    grouped, each = randomised(BatchChannelNorm2d(6, 3)), BatchChannelNorm2d(6, 3, per_channel=True).double()
    each.bn.load_state_dict(grouped.bn.state_dict())
    with torch.no_grad():
        each.weight.copy_(grouped.weight.repeat_interleave(2))
        each.bias.copy_(grouped.bias.repeat_interleave(2))
    x = torch.randn(4, 6, 3, 2, dtype=torch.float64)
    assert torch.allclose(grouped(x), each(x), atol=1e-12)


def test_estimates_written_out(parity):
    norm = randomised(EstimatedBatchNorm(3, eps=1e-2, momentum=0.3))
    mean, var, worst = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64), 0.0
    for step in range(4):
        x = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True) * 3 + step
        about_old = ((x.detach() - mean.view(1, -1, 1, 1)) ** 2).mean((0, 2, 3))  # centred at the mean before this step
        mean = 0.7 * mean + 0.3 * x.detach().mean((0, 2, 3))
        var = 0.7 * var + 0.3 * about_old
        c = (1, -1, 1, 1)
        slope = norm.weight.view(c) / (var.view(c) + 1e-2) ** 0.5
        expected = (x - mean.view(c)) * slope + norm.bias.view(c)
        y, probe = norm(x), torch.randn(2, 3, 2, 2, dtype=torch.float64)
        (grad,) = torch.autograd.grad(y, x, probe)
        # nothing flows through the estimates: the gradient is that of an affine map
        worst = max(worst, (y - expected).abs().max().item(), (grad - probe * slope).abs().max().item())
    worst = max(worst, (norm.running_mean - mean).abs().max().item(), (norm.running_var - var).abs().max().item())
    parity("estimated_batch_norm", worst, 1e-12, oracle="the update written out over several steps")


def test_estimates_move_and_settle_at_the_data():
    norm = EstimatedBatchNorm(2, momentum=0.1)
    generator = torch.Generator().manual_seed(1)
    for _ in range(200):
        norm(torch.randn(8, 2, 4, 4, generator=generator) * 3 + 5)
    assert torch.allclose(norm.running_mean, torch.full((2,), 5.0), atol=0.5)
    assert torch.allclose(norm.running_var, torch.full((2,), 9.0), atol=2.0)
    still = EstimatedBatchNorm(2, momentum=0.0)  # the released class
    still(torch.randn(8, 2, 4, 4) * 3 + 5)
    assert torch.equal(still.running_mean, torch.zeros(2))
    assert torch.equal(still.running_var, torch.ones(2))


def test_a_batch_of_one_works_with_estimates():
    assert torch.isfinite(BatchChannelNorm2d(4, 2, estimated=True)(torch.randn(1, 4, 3, 3))).all()


def test_evaluation_is_the_running_form():
    norm = randomised(BatchChannelNorm2d(6, 3, estimated=True))
    norm(torch.randn(4, 6, 3, 3, dtype=torch.float64))
    norm.eval()
    x = torch.randn(4, 6, 3, 3, dtype=torch.float64)
    inner = F.batch_norm(x, norm.bn.running_mean, norm.bn.running_var, norm.bn.weight, norm.bn.bias)
    scale, shift = norm.bn.eval_affine()
    assert torch.allclose(inner, x * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1), atol=1e-12)
    assert torch.allclose(norm(x), torch.cat([norm(s) for s in x.split(1)]), atol=1e-12)


def test_two_forward_passes_before_the_backward_pass():
    norm = EstimatedBatchNorm(3)
    x = torch.randn(2, 3, 2, 2, requires_grad=True)
    (norm(x) + norm(2 * x)).sum().backward()  # buffers of the first pass have moved on by now
    assert torch.isfinite(x.grad).all()


def test_checkpointing_moves_the_estimates_once():
    plain = EstimatedBatchNorm(3)
    repeated = copy.deepcopy(plain)
    x = torch.randn(2, 3, 2, 2, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    plain(x).pow(2).sum().backward()
    checkpoint(repeated, other, use_reentrant=False).pow(2).sum().backward()
    assert torch.allclose(x.grad, other.grad, atol=1e-6)
    assert torch.allclose(plain.running_var, repeated.running_var)
    assert int(repeated.num_batches_tracked) == 1


@pytest.mark.parametrize("estimated", [True, False])
def test_compiled_steps_follow_eager_ones(estimated):
    plain = BatchChannelNorm2d(4, 2, estimated=estimated)
    other = copy.deepcopy(plain)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager_decomp_partition")
    for _ in range(3):
        x = torch.randn(4, 4, 2, 2) * 2 + 1
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        plain(a).pow(3).sum().backward()
        compiled(b).pow(3).sum().backward()
        assert torch.allclose(a.grad, b.grad, atol=1e-4, rtol=1e-4)
    assert torch.allclose(plain.bn.running_var, other.bn.running_var)


def test_refusals():
    with pytest.raises(ValueError, match=r"10 channels do not divide into 4 groups; allowed: 1, 2, 5, 10"):
        BatchChannelNorm2d(10, 4)
    with pytest.raises(ValueError, match="4 channels"):
        BatchChannelNorm2d(4, 2)(torch.ones(2, 5, 2, 2))
    with pytest.raises(ValueError, match="more than one value"):
        BatchChannelNorm2d(4, 2)(torch.ones(1, 4, 1, 1))
    with pytest.raises(ValueError, match="momentum"):
        EstimatedBatchNorm(4, momentum=2)
    with pytest.raises(TypeError, match="floating-point"):
        BatchChannelNorm2d(4, 2)(torch.ones(2, 4, 2, 2, dtype=torch.int32))
