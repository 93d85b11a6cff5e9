"""AdaNorm with its stop-gradient, and LayerNorm-simple."""

from __future__ import annotations

import pytest
import torch
from timm.layers import LayerNorm2d

from zoo.normalization.ada_norm import AdaNorm, AdaNorm2d, ada_norm


def written_out(x, scale, k, eps, unbiased, stop=True):
    centred = x - x.sum(-1, keepdim=True) / x.shape[-1]
    var = (centred**2).sum(-1, keepdim=True) / (x.shape[-1] - unbiased)
    y = centred / (var + eps) ** 0.5
    factor = scale * (1 - k * y)
    return (factor.detach() if stop else factor) * y


@pytest.mark.parametrize("unbiased", [False, True])
def test_written_out(parity, unbiased):
    x = torch.randn(3, 4, 7, dtype=torch.float64, requires_grad=True)
    y, expected = AdaNorm(7, 1.7, 0.3, 1e-2, unbiased)(x), written_out(x, 1.7, 0.3, 1e-2, unbiased)
    probe = torch.randn_like(y)
    (a,) = torch.autograd.grad(y, x, probe)
    (b,) = torch.autograd.grad(expected, x, probe)
    error = max((y - expected).abs().max().item(), (a - b).abs().max().item())
    parity("ada_norm", error, 1e-12, oracle="the equations in plain tensor arithmetic with autograd and detach")


def test_without_the_stop_only_the_gradient_differs():
    x = torch.randn(3, 64, dtype=torch.float64, requires_grad=True)
    y, flowing = ada_norm(x), written_out(x, 2.0, 0.1, 1e-5, False, stop=False)
    assert torch.allclose(y, flowing, atol=1e-12)
    probe = torch.randn_like(y)
    (a,) = torch.autograd.grad(y, x, probe)
    (b,) = torch.autograd.grad(flowing, x, probe)
    assert 0.03 < ((a - b).norm() / a.norm()) < 0.3


def test_authors_epsilon_outside_the_root_is_close():
    x = torch.randn(4, 64, dtype=torch.float64)
    y = (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-5)
    assert torch.allclose(ada_norm(x, unbiased=True), 2.0 * (1 - 0.1 * y) * y, atol=2e-4)


def test_output_is_not_centred():
    """The mean over channels is -C k: the factor takes more from positive values than it gives to negative ones."""
    y = AdaNorm(32, scale=2.0, k=0.1, eps=1e-12)(torch.randn(5, 32, dtype=torch.float64))
    assert torch.allclose(y.mean(-1), torch.full((5,), -0.2, dtype=torch.float64), atol=1e-9)


def test_channels_first_is_the_same_function():
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    assert torch.allclose(AdaNorm2d(6)(x), AdaNorm(6)(x.movedim(1, -1)).movedim(-1, 1), atol=1e-14)


def test_simple(parity):
    """LayerNorm-simple: layer norm without gain and shift; and AdaNorm with k = 0, C = 1."""
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    norm = LayerNorm2d(6, eps=1e-2, affine=False)
    assert not list(norm.parameters())
    y, expected = norm(x), torch.empty_like(x)
    for n in range(2):
        for h in range(3):
            for w in range(4):
                values = other[n, :, h, w]
                mean = values.sum() / 6
                expected[n, :, h, w] = (values - mean) / (((values - mean) ** 2).sum() / 6 + 1e-2) ** 0.5
    probe = torch.randn_like(y)
    (a,) = torch.autograd.grad(y, x, probe)
    (b,) = torch.autograd.grad(expected, other, probe)
    assert torch.allclose(AdaNorm2d(6, scale=1.0, k=0.0, eps=1e-2)(x), y, atol=1e-13)
    error = max((y - expected).abs().max().item(), (a - b).abs().max().item())
    parity("layer_norm_simple", error, 1e-12, oracle="plain loop over positions")


def test_refusals():
    with pytest.raises(ValueError, match="num_channels >= 2"):
        AdaNorm(1, unbiased=True)
    with pytest.raises(ValueError, match="k >= 0"):
        AdaNorm(4, k=-1)
    with pytest.raises(ValueError, match="4 channels"):
        AdaNorm(4)(torch.ones(2, 5))
    with pytest.raises(TypeError, match="floating-point"):
        AdaNorm(4)(torch.ones(2, 4, dtype=torch.int64))


def test_second_derivatives_and_transforms_of_maps():
    """The factor stays a constant in the second derivative, too, as the written-out detach has it."""
    x = torch.randn(2, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    probe, other = torch.randn_like(x), torch.randn_like(x)

    def derivatives(f):
        (first,) = torch.autograd.grad(f(x), x, probe, create_graph=True)
        return first, torch.autograd.grad(first, x, other)[0]

    def plain(v):
        return written_out(v.movedim(1, -1), 1.7, 0.3, 1e-2, True).movedim(-1, 1)

    for a, b in zip(derivatives(lambda v: ada_norm(v, 1.7, 0.3, 1e-2, True, dim=1)), derivatives(plain), strict=True):
        assert torch.allclose(a, b, atol=1e-12)
    rows = torch.func.jacrev(lambda v: ada_norm(v, dim=1))(x.detach()).flatten(0, 3).flatten(1)
    columns = torch.autograd.functional.jacobian(lambda v: ada_norm(v, dim=1), x.detach()).flatten(0, 3).flatten(1)
    assert torch.allclose(rows, columns, atol=1e-12)


def test_compiled_maps_in_any_memory_order():
    """Compiled, moments are stored by strides that the code works out: they must be those of what it stores."""
    maps, step = AdaNorm2d(6, k=0.3), torch.compile(AdaNorm2d(6, k=0.3), fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 6, 5, 3).permute(0, 1, 3, 2).requires_grad_()
    found = []
    for layer in (maps, step):
        y = layer(x)
        found.append((y, *torch.autograd.grad(y, x, torch.arange(float(y.numel())).view(y.shape) / 50)))
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_half_precision_differentiates_twice():
    """The way back with kernels keeps what it standardised; with a graph it goes by the input."""
    x = torch.randn(2, 64, 20, 20).bfloat16().requires_grad_()
    y, probe = AdaNorm2d(64)(x), torch.randn(2, 64, 20, 20).bfloat16()
    (plain,) = torch.autograd.grad(y, x, probe, retain_graph=True)
    (grad,) = torch.autograd.grad(y, x, probe, create_graph=True)
    assert (plain - grad).abs().max() <= 2**-6 * grad.abs().max()
    (second,) = torch.autograd.grad(grad.float().square().sum(), x)
    wide = x.detach().float().requires_grad_()
    (first,) = torch.autograd.grad(AdaNorm2d(64)(wide), wide, probe.float(), create_graph=True)
    (expected,) = torch.autograd.grad(first.square().sum(), wide)
    assert (second.float() - expected).abs().max() <= 0.05 * expected.abs().max()
