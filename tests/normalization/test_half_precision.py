"""Data in bfloat16, parameters and statistics in float32: outputs and gradients as near to float64 as bfloat16 can say."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo.normalization import _kernels
from zoo.registry.lookup import registry

#: Settings in which every part of a layer takes part; ghost batches, open clips, moving averages past their warm-up.
SETTINGS = {
    "batch_renorm": {"schedule": (0, 1, 1), "momentum": 0.3},
    "batch_channel_norm": {"num_groups": 4},
    "four_things_bn": {"ghost_size": 2},
    "moving_average_bn": {"buffer_size": 2, "warmup": 2, "clip_after": 2, "decay": 0.6},
}
VARIANTS = {
    "batch_channel_norm estimated": ("batch_channel_norm", {"num_groups": 4, "estimated": True}),
    "batch_channel_norm per channel": ("batch_channel_norm", {"num_groups": 4, "per_channel": True}),
    "four_things_bn groups": ("four_things_bn", {"ghost_size": 2, "num_groups": 4}),
    "four_things_bn whole batch": ("four_things_bn", {}),
    "positional_norm biased": ("positional_norm", {"unbiased": False}),
    "ada_norm sample variance": ("ada_norm", {"unbiased": True, "scale": 1.5, "k": 0.3}),
    "streaming_norm current": ("streaming_norm", {"alpha": (0.0, 1.0), "beta": (0.0, 0.0, 1.0)}),
}
OWN = [n for n, m in registry().raw.methods.items() if m["kind"] == "norm" and m["target"].startswith("zoo.")]
C, SHAPE = 16, (4, 16, 32, 32)  # samples just large enough for a kernel call each
#: Of the largest value: its ulp, and what a damping of 0.3 makes of the rounding before it.
ULP = 1.25 * 2**-7


def training_steps(layer: nn.Module, x: Tensor, upstream: Tensor) -> list[Tensor]:
    """Third of three steps: output, gradient of the input, gradients of the parameters, buffers."""
    found: list[Tensor] = []
    for step in range(3):
        leaf = (x * 2.0**step).requires_grad_()  # a power of two is exact in every precision
        layer.zero_grad()
        y = layer(leaf)
        y.backward(upstream)
        found = [y.detach(), leaf.grad, *(p.grad for p in layer.parameters()), *layer.buffers()]
    return found


@pytest.mark.parametrize(
    ("offset", "order"), [(0.0, torch.contiguous_format), (4.0, torch.contiguous_format), (2.0, torch.channels_last)]
)
@pytest.mark.parametrize("name", [*OWN, *VARIANTS])
def test_bfloat16_is_float64_but_for_its_rounding(name: str, offset: float, order: torch.memory_format) -> None:
    method, arguments = VARIANTS.get(name, (name, SETTINGS.get(name, {})))
    layer = zoo.create(method, C, **arguments).train()
    for p in layer.parameters():
        nn.init.uniform_(p, 0.5, 1.5)
    exact = copy.deepcopy(layer).double()
    x = (torch.randn(SHAPE) + offset).bfloat16().contiguous(memory_format=order)
    upstream = (torch.randn(SHAPE) + 0.3 * x).bfloat16().contiguous(memory_format=order)
    ours, wanted = training_steps(layer, x, upstream), training_steps(exact, x.double(), upstream.double())
    assert ours[0].dtype is ours[1].dtype is torch.bfloat16
    for received, expected, share in zip(ours, wanted, [ULP] * 2 + [2e-4] * len(ours), strict=False):
        error = (received.double() - expected.double()).abs().max()
        assert error <= share * expected.double().abs().max().clamp_min(1e-3)


@pytest.mark.parametrize("samples", [1, 2, 6])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_kernels_against_plain_sums(samples: int, dtype: torch.dtype) -> None:
    x, dy = torch.randn(6, 4, 5, 3).add(2).to(dtype), torch.randn(6, 4, 5, 3).to(dtype)
    weight, bias, eps = torch.rand(4).to(_kernels.wide_dtype(x)), torch.rand(4).to(_kernels.wide_dtype(x)), 1e-3
    grouped = x.double().unflatten(0, (-1, samples)).requires_grad_()  # sample i belongs to i mod samples
    mean = grouped.mean((0, 3, 4), keepdim=True)
    var = (grouped - mean).square().mean((0, 3, 4), keepdim=True)
    expected = (grouped - mean) / (var + eps).sqrt() * weight.double().view(4, 1, 1) + bias.double().view(4, 1, 1)
    (wanted,) = torch.autograd.grad(expected, grouped, dy.double().view_as(grouped))
    tolerance = 0.03 if dtype is torch.bfloat16 else 1e-12
    with torch.no_grad():
        y, found_mean, found_var = _kernels.batch_norm(x, weight, bias, eps, samples)
        dx, dweight, dbias = _kernels.batch_norm_backward(dy, x, weight, found_mean, (found_var + eps).rsqrt())
    assert found_mean.shape == (samples, 4)
    assert torch.allclose(found_var.double(), var.detach().view(samples, 4), rtol=1e-4 if tolerance > 1e-3 else 1e-12)
    for received, right in ((y, expected), (dx, wanted)):
        assert torch.allclose(received.double().view_as(right), right, atol=tolerance, rtol=tolerance)
    assert torch.allclose(dbias.double(), dy.double().sum((0, 2, 3)), rtol=1e-3)
    assert dweight.shape == (4,)


def test_kernels_stay_out_where_somebody_looks() -> None:
    x = torch.randn(2, 3, 4)
    assert not _kernels.fits(x)  # a second derivative may follow
    with torch.no_grad():
        assert _kernels.fits(x)
        assert not _kernels.fits(x.to("meta"))
        assert not _kernels.fits(x[:0])
        seen = []
        torch.func.vmap(lambda v: seen.append(_kernels.fits(v)) or v)(x)
        assert seen == [False]


@pytest.mark.parametrize("name", OWN)
def test_the_kernels_constants_stay(name: str) -> None:
    """Mean 0 and variance 1 are shared by all calls; nothing may write them."""
    layer = zoo.create(name, 32).train()
    x = torch.randn(4, 32, 6, 6).bfloat16().requires_grad_()
    layer(x).sum().backward()
    for size in (32, 128, 36):
        mean, var, _ = _kernels._standard(size, torch.float32)
        assert not mean.any()
        assert (var == 1).all()


def test_evaluation_in_inference_mode_leaves_training_possible() -> None:
    _kernels._standard.cache_clear()
    _kernels.counting.cache_clear()
    layer, x = zoo.create("moving_average_bn", 6), torch.randn(4, 6, 5, 5)
    with torch.inference_mode():
        layer.eval()(x)
        layer.train()(x)
    leaf = x.clone().requires_grad_()
    layer(leaf).sum().backward()
    assert leaf.grad.isfinite().all()
