"""The study's networks: exact weight normalization, moments after initialisation, normalization propagation."""

import copy

import pytest
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import nn

from zoo.normalization.bn_vs_wn import ChannelAffine, PropagatedReLU, TranslatedReLU, bn_vs_wn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(x + self.bn2(self.conv2(self.act(self.bn1(self.conv1(x))))))


def net():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), Block(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 4),
    )  # fmt: skip


def test_it_is_weight_normalization(parity):
    model = bn_vs_wn(nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3))).double()
    nn.init.normal_(model[1].weight)
    nn.init.normal_(model[1].bias)
    v, x = model[0].parametrizations.weight.original, torch.randn(2, 2, 5, 5, dtype=torch.float64)
    w = torch.stack([g * f / f.square().sum().sqrt() for g, f in zip(model[1].weight, v, strict=True)])
    expected = F.conv2d(x, w, model[1].bias)
    y = model(x)
    wanted = [v, *model[1].parameters()]
    grads = [torch.autograd.grad(o.pow(2).sum(), wanted, retain_graph=True) for o in (y, expected)]
    error = max((a - b).detach().abs().max() for a, b in [(y, expected), *zip(*grads, strict=True)])
    parity("bn_vs_wn", error, 1e-11, oracle="convolution with g v / ||v|| built filter by filter, gradients too")


def test_data_dependent_start_equals_batch_norm_in_training():
    before = net().double()
    x = torch.randn(16, 1, 8, 8, dtype=torch.float64)
    model = bn_vs_wn(copy.deepcopy(before), x)
    assert torch.allclose(model(x)[:, :0], before(x)[:, :0])
    for name in ("1", "3.bn1", "3.bn2"):
        seen = []
        handle = model.get_submodule(name).register_forward_hook(lambda m, a, o, seen=seen: seen.append(o))
        model(x)
        handle.remove()
        var, mean = torch.var_mean(seen[0], (0, 2, 3), correction=0)
        assert mean.abs().max() < 1e-8
        assert (var - 1).abs().max() < 1e-6
    # The same first forward pass as batch normalization, up to eps: only the statistics' gradient is gone.
    assert torch.allclose(model(x), before(x), atol=1e-3)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


def test_propagated_relu_keeps_standard_normal_moments():
    y = PropagatedReLU()(torch.randn(2_000_000, generator=torch.Generator().manual_seed(0)))
    assert y.mean().abs() < 5e-3
    assert y.std() == pytest.approx(1, abs=5e-3)


def test_variants_train():
    for variant in ("weight_norm", "norm_prop", "wn_translated_relu"):
        model = bn_vs_wn(net(), variant=variant)
        kinds = {type(m) for m in model.modules()}
        assert ChannelAffine in kinds
        assert (nn.ReLU in kinds) == (variant == "weight_norm")
        model(torch.randn(4, 1, 8, 8)).square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    act = TranslatedReLU()
    nn.init.constant_(act.threshold, -0.5)
    z = torch.randn(50)
    assert torch.equal(act(z), F.relu(z + 0.5) - 0.5) or torch.allclose(act(z), F.relu(z + 0.5) - 0.5, atol=1e-6)


def test_state_travels():
    model = bn_vs_wn(net(), torch.randn(8, 1, 8, 8))
    fresh = bn_vs_wn(net())
    fresh.load_state_dict(model.state_dict())
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(fresh(x), model(x))
    assert torch.equal(copy.deepcopy(model)(x), model(x))


def test_bad_input():
    with pytest.raises(ValueError, match="no batch norm in Linear"):
        bn_vs_wn(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="variant is weight_norm"):
        bn_vs_wn(net(), variant="wn")
    with pytest.raises(ValueError, match="takes no batch"):
        bn_vs_wn(net(), torch.randn(2, 1, 8, 8), "norm_prop")
    with pytest.raises(ValueError, match="fused norm and activation '1'"):
        bn_vs_wn(nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), BatchNormAct2d(2)))
