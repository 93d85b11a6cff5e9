"""Moving average batch norm: forward and backward statistics written out, warm-up, state, compilation."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from zoo.normalization.moving_average_bn import CentredConv2d, CentredLinear, MovingAverageBatchNorm2d

SETTING = {"buffer_size": 3, "warmup": 4, "clip_after": 6, "clip": 1.2, "decay": 0.9, "eps": 1e-2}


class WrittenOut:
    """The equations for (N, C, L), channel by channel with Python lists for the windows."""

    def __init__(self, gain, shift, buffer_size, warmup, clip_after, clip, decay, eps):
        self.gain, self.shift, self.m, self.warmup = gain, shift, buffer_size, warmup
        self.clip_after, self.clip, self.decay, self.eps = clip_after, clip, decay, eps
        self.squares, self.products, self.step = [], [], 0
        self.running = torch.ones_like(gain)

    def __call__(self, x, dy):
        y, dx, dgain = torch.empty_like(x), torch.empty_like(x), torch.empty_like(self.gain)
        square, product = torch.empty_like(self.gain), torch.empty_like(self.gain)
        for c in range(x.shape[1]):
            square[c] = (x[:, c] ** 2).sum() / x[:, c].numel()
        self.squares.append(square)
        moving = self.step >= self.warmup
        var = sum(self.squares[-self.m :]) / self.m if moving else square
        r = ((var + self.eps) / (self.running + self.eps)) ** 0.5
        r = r.clamp(1 / self.clip, self.clip) if self.step >= self.clip_after else torch.ones_like(r)
        chi = (var + self.eps) ** 0.5
        for c in range(x.shape[1]):
            z = x[:, c] / chi[c]
            y[:, c] = self.gain[c] * r[c] * z + self.shift[c]
            dgain[c] = (dy[:, c] * r[c] * z).sum()
            product[c] = (self.gain[c] * r[c] * dy[:, c] * z).sum() / z.numel()
        self.products.append(product)
        mean_product = sum(self.products[-self.m :]) / self.m if moving else product
        for c in range(x.shape[1]):
            dz = self.gain[c] * r[c] * dy[:, c]
            dx[:, c] = (dz - x[:, c] / chi[c] * mean_product[c]) / chi[c]
        self.running = self.decay * self.running + (1 - self.decay) * var
        self.step += 1
        return y, dx, dgain, dy.sum((0, 2))


def test_written_out(parity):
    norm = MovingAverageBatchNorm2d(3, **SETTING).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    oracle, worst = WrittenOut(norm.weight.detach(), norm.bias.detach(), **SETTING), 0.0
    for step in range(10):
        x = torch.randn(2, 3, 4, dtype=torch.float64) * (1 + 0.3 * step) + 0.5
        dy = torch.randn_like(x)
        x.requires_grad_()
        y = norm(x)
        found = (y, *torch.autograd.grad(y, (x, norm.weight, norm.bias), dy))
        expected = oracle(x.detach(), dy)
        worst = max(worst, *((a - b).abs().max().item() for a, b in zip(found, expected, strict=True)))
    assert (oracle.running - norm.running_var).abs().max() < 1e-12
    parity("moving_average_bn", worst, 1e-11, oracle="the equations written out over several steps")


def test_warm_up_is_rms_batch_norm_with_its_exact_gradient():
    norm = MovingAverageBatchNorm2d(3, eps=1e-3).double()
    nn.init.normal_(norm.weight)
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    y = norm(x)
    rms = (x.square().mean((0, 2, 3), keepdim=True) + 1e-3).sqrt()
    expected = norm.weight.view(1, -1, 1, 1) * x / rms
    probe = torch.randn_like(y)
    found = torch.autograd.grad(y, (x, norm.weight), probe)
    wanted = torch.autograd.grad(expected, (x, norm.weight), probe)
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_train_and_eval_agree_on_a_still_distribution():
    norm = MovingAverageBatchNorm2d(2, warmup=20, clip_after=20, buffer_size=8)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(64, 2, 8, 8, generator=generator) * 3
    for _ in range(300):
        norm(x[torch.randint(64, (16,), generator=generator)])
    training = norm(x[:16])
    assert torch.allclose(training, norm.eval()(x[:16]), atol=0.05)
    scale, shift = norm.eval_affine()
    assert torch.allclose(norm(x), x * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1), atol=1e-6)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_moves_the_state_once_and_keeps_the_gradient(reentrant):
    plain = MovingAverageBatchNorm2d(3, **SETTING).double()
    repeated = copy.deepcopy(plain)
    for _ in range(8):
        x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
        other = x.detach().clone().requires_grad_()
        probe = torch.randn_like(x)
        (plain(x) * probe).sum().backward()
        (checkpoint(repeated, other, use_reentrant=reentrant) * probe).sum().backward()
        assert torch.allclose(x.grad, other.grad, atol=1e-12)
    for key, value in plain.state_dict().items():
        assert torch.allclose(value, repeated.state_dict()[key], atol=1e-12), key


def test_compiled_steps_follow_eager_ones():
    """Past the warm-up and with the correction on: forward, gradient, and the store that backward writes."""
    plain = MovingAverageBatchNorm2d(3, **SETTING)
    other = copy.deepcopy(plain)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager_decomp_partition")
    for _ in range(9):
        x = torch.randn(2, 3, 4)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        plain(a).pow(3).sum().backward()
        compiled(b).pow(3).sum().backward()
        assert torch.allclose(a.grad, b.grad, atol=1e-4, rtol=1e-4)
    for key, value in plain.state_dict().items():
        assert torch.allclose(value, other.state_dict()[key], atol=1e-4), key


def test_state_survives_dict_and_copy():
    norm = MovingAverageBatchNorm2d(3, **SETTING)
    for _ in range(7):
        norm(torch.randn(2, 3, 4)).pow(2).sum().backward()
    fresh = MovingAverageBatchNorm2d(3, **SETTING)
    fresh.load_state_dict(norm.state_dict())
    x = torch.randn(2, 3, 4)
    expected = copy.deepcopy(norm)(x)
    assert torch.equal(norm(x), expected)
    assert torch.equal(fresh(x), expected)


def test_a_batch_of_one_works():
    norm = MovingAverageBatchNorm2d(3)
    x = torch.randn(1, 3, requires_grad=True)
    norm(x).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_centred_conv(parity):
    conv = CentredConv2d(4, 6, 3, stride=2, padding=1, groups=2).double()
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    # conv(x, W - mean(W)) = conv(x, W) - mean(W) * (sum of the window): a box convolution, one filter a group
    box = F.conv2d(x, torch.ones(2, 2, 3, 3, dtype=torch.float64), None, 2, 1, 1, 2).repeat_interleave(3, 1)
    means = conv.weight.mean((1, 2, 3)).view(1, -1, 1, 1)
    expected = F.conv2d(x, conv.weight, conv.bias, 2, 1, 1, 2) - means * box
    y = conv(x)
    probe = torch.randn_like(y)
    (a,) = torch.autograd.grad(y, conv.weight, probe)
    (b,) = torch.autograd.grad(expected, conv.weight, probe)
    parity(
        "centred_conv",
        max((y - expected).abs().max().item(), (a - b).abs().max().item()),
        1e-12,
        oracle="plain convolution minus a box convolution",
    )


def test_centred_filters_do_not_see_a_constant():
    assert CentredConv2d(4, 6, 3, bias=False)(torch.ones(1, 4, 5, 5)).abs().max() < 1e-6
    assert CentredLinear(5, 3, bias=False)(torch.ones(2, 5)).abs().max() < 1e-6
    assert 0.05 < CentredConv2d(64, 64, 3).weight.std() * 24 < 1.0  # kaiming, not N(0, 1)


def test_refusals():
    with pytest.raises(ValueError, match="buffer_size"):
        MovingAverageBatchNorm2d(3, buffer_size=0)
    with pytest.raises(ValueError, match="decay"):
        MovingAverageBatchNorm2d(3, decay=1.0)
    with pytest.raises(ValueError, match="3 channels"):
        MovingAverageBatchNorm2d(3)(torch.ones(2, 4, 2, 2))
    with pytest.raises(TypeError, match="floating-point"):
        MovingAverageBatchNorm2d(3)(torch.ones(2, 3, 2, 2, dtype=torch.int64))
