"""Both senses of layer normalization on feature maps, against plain loops."""

from __future__ import annotations

import pytest
import torch
from timm.layers import GroupNorm1, LayerNorm, LayerNorm2d

from zoo.normalization.layer_norm import ChannelLayerNorm


def loop(x, gain, shift, eps):
    """Position by position over the channels of (N, C, L)."""
    out = torch.empty_like(x)
    for n in range(x.shape[0]):
        for p in range(x.shape[2]):
            values = x[n, :, p]
            mean = values.sum() / len(values)
            var = ((values - mean) ** 2).sum() / len(values)
            out[n, :, p] = gain * (values - mean) / (var + eps) ** 0.5 + shift
    return out


def randomised(norm):
    norm = norm.double()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    return norm


def compare(norm, x, expected_of):
    x = x.requires_grad_()
    other = x.detach().clone().requires_grad_()
    y, expected = norm(x), expected_of(other)
    probe = torch.randn_like(y)
    (grad,) = torch.autograd.grad(y, x, probe)
    (expected_grad,) = torch.autograd.grad(expected, other, probe)
    return max((y - expected).abs().max(), (grad - expected_grad).abs().max())


def test_plain_loop(parity):
    norm = randomised(LayerNorm2d(5, eps=1e-2))
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    error = compare(norm, x, lambda v: loop(v.flatten(2), norm.weight, norm.bias, 1e-2).view(v.shape))
    parity("layer_norm", error, 1e-12, oracle="plain loop over positions")


def test_all_plain_loop(parity):
    norm = randomised(GroupNorm1(5, eps=1e-2))

    def by_sample(x):
        rows = []
        for sample in x:
            mean = sample.sum() / sample.numel()
            var = ((sample - mean) ** 2).sum() / sample.numel()
            rows.append((sample - mean) / (var + 1e-2) ** 0.5)
        return torch.stack(rows) * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)

    error = compare(norm, torch.randn(2, 5, 3, 4, dtype=torch.float64), by_sample)
    parity("layer_norm_all", error, 1e-12, oracle="plain loop over samples")


def test_the_two_senses_differ():
    x = torch.randn(2, 8, 4, 4)
    assert (LayerNorm2d(8)(x) - GroupNorm1(8)(x)).abs().max() > 0.1


@pytest.mark.parametrize("shape", [(4, 5), (2, 5, 7), (2, 5, 3, 4), (2, 5, 2, 3, 2)])
def test_any_number_of_positions(shape):
    norm = randomised(ChannelLayerNorm(5, eps=1e-2))
    x = torch.randn(shape, dtype=torch.float64)
    as_rows = x.flatten(2) if x.dim() > 2 else x[..., None]
    assert compare(norm, x, lambda v: loop(v.reshape(as_rows.shape), norm.weight, norm.bias, 1e-2).view(shape)) < 1e-12


def test_channels_last_is_the_same_function():
    first, last = randomised(LayerNorm2d(5, eps=1e-3)), LayerNorm(5, eps=1e-3).double()
    last.load_state_dict(first.state_dict())
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    assert torch.allclose(first(x), last(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), atol=1e-13)


def test_recentring_of_the_weights_is_lost_but_not_the_scale_of_one_unit():
    """Adding one row vector to every row of W changes nothing; scaling one row does."""
    norm = ChannelLayerNorm(6, eps=1e-12, affine=False)
    x, w = torch.randn(4, 3, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    y = norm(x @ w.T)
    assert torch.allclose(norm(x @ (w + torch.randn(1, 3, dtype=torch.float64)).T), y, atol=1e-9)
    assert torch.allclose(norm(x @ (7 * w).T), y, atol=1e-9)
    w[0] *= 7
    assert (norm(x @ w.T) - y).abs().max() > 0.1


def test_channels_are_checked():
    with pytest.raises(ValueError, match="5 channels"):
        ChannelLayerNorm(5)(torch.ones(2, 4))
