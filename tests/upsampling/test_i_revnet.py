"""i-RevNet: exact inverse, unit Jacobian, phase order, and the memory-saving pass against plain autograd."""

from __future__ import annotations

import copy

import pytest
import torch

from zoo.upsampling.i_revnet import IRevBlock, IRevNet


def small(**kw) -> IRevNet:
    return IRevNet(**({"in_channels": 3, "num_classes": 5, "depths": (2, 2), "strides": (1, 2)} | kw))


@pytest.mark.parametrize("training", [False, True])
def test_inverse(parity, training):
    net = small().double().train(training)
    x = torch.randn(3, 3, 8, 12, dtype=torch.float64)
    features = net.forward_features(x)
    before = copy.deepcopy(net.state_dict())
    error = (net.inverse(features) - x).abs().max()
    assert features.numel() == x.numel()
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())  # the inverse leaves statistics alone
    parity("i_revnet", error.detach(), 1e-10, oracle="inverse of the forward pass in float64")


@pytest.mark.parametrize("stride", [1, 2])
def test_block_by_hand(stride):
    block = IRevBlock(2, stride).double().eval()
    x1, x2 = torch.randn(2, 1, 2, 4, 4, dtype=torch.float64)
    y1, y2 = block(x1, x2)
    f = block.residual(x2)
    for c in range(2 * stride**2):
        phase, channel = divmod(c, 2)  # phase-major: the channel varies fastest
        dy, dx = divmod(phase, stride)
        assert torch.equal(y1[:, c], x2[:, channel, dy::stride, dx::stride])
        assert torch.allclose(y2[:, c], x1[:, channel, dy::stride, dx::stride] + f[:, c], atol=1e-14)


def test_volume_is_kept():
    net = small(in_channels=1, depths=(1, 1), strides=(1, 2), init_ds=2).double().eval()
    jacobian = torch.autograd.functional.jacobian(
        lambda v: net.forward_features(v.view(1, 1, 4, 4)).flatten(), torch.randn(16).double()
    )
    assert float(torch.linalg.det(jacobian).abs()) == pytest.approx(1, abs=1e-9)


def test_memory_saving_gives_the_same_gradients_and_statistics():
    plain = small().double()
    saving = small(memory_saving=True).double()
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    results = []
    for net in (plain, saving):
        leaf = x.clone().requires_grad_()
        for p in (net.blocks[0].residual[0].weight,):
            p.requires_grad_(False)
        out = net(leaf)
        out.square().sum().backward()
        results.append((out, leaf.grad, [p.grad for p in net.parameters()], dict(net.named_buffers())))
    (o1, l1, g1, b1), (o2, l2, g2, b2) = results
    assert torch.allclose(o1, o2, atol=1e-12)
    assert torch.allclose(l1, l2, atol=1e-9)
    for a, b in zip(g1, g2, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, atol=1e-8)
    assert all(torch.allclose(v, b2[k]) for k, v in b1.items())  # running statistics moved once, not twice


def test_saved_memory_does_not_grow_with_depth():
    def saved(depth: int, memory_saving: bool) -> int:
        net = small(depths=(depth,), strides=(1,), memory_saving=memory_saving)
        kept: dict[int, int] = {}
        weights = {p.untyped_storage().data_ptr() for p in net.parameters()}

        def pack(t: torch.Tensor) -> torch.Tensor:
            if t.untyped_storage().data_ptr() not in weights:
                kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            out = net(torch.randn(2, 3, 16, 16))
        assert out.requires_grad
        return sum(kept.values())

    assert saved(12, True) == saved(2, True)
    assert saved(12, False) > 3 * saved(2, False)
    assert saved(12, True) < 0.35 * saved(12, False)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"init_ds": 1}, "must be even"),
        ({"strides": (1,)}, "as many strides"),
        ({"strides": (1, 3)}, "as many strides"),
        ({"memory_saving": True, "dropout": 0.1}, "redraw dropout"),
    ],
)
def test_bad_arguments(bad, message):
    with pytest.raises(ValueError, match=message):
        small(**bad)


def test_odd_sizes():
    with pytest.raises(ValueError, match="divisible by 4"):
        small()(torch.zeros(1, 3, 8, 6))
    assert small(num_classes=0)(torch.zeros(1, 3, 8, 8)).shape == (1, 48, 2, 2)
    for size in ((7, 7), (8, 7), (5, 8), (1, 1), (0, 8)):
        for memory_saving in (False, True):
            with pytest.raises(ValueError, match=rf"divisible by 4, received \(1, 3, {size[0]}, {size[1]}\)"):
                small(memory_saving=memory_saving)(torch.zeros(1, 3, *size))
    net = small()
    for shape in ((1, 47, 2, 2), (48, 2, 2), (1, 48, 0, 2)):
        with pytest.raises(ValueError, match=r"features \(N, 48, H, W\), received"):
            net.inverse(torch.zeros(shape))


def test_injective_network_of_the_paper():
    """CIFAR: 3 channels and 29 zero ones, 16, 64, 256 channels a half; 3,072 numbers become 32,768, and come back."""
    net = IRevNet(3, 5, depths=(1, 2, 1), strides=(1, 2, 2), init_ds=1, width=16).double().eval()
    assert [b.residual[-1].out_channels for b in net.blocks] == [16, 64, 64, 256]
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    features = net.forward_features(x)
    assert features[0].numel() == 32_768
    assert float((net.inverse(features) - x).detach().abs().max()) < 1e-10
    first = net.blocks[0]
    before = torch.cat(first.inverse(*first(*torch.nn.functional.pad(x, (0, 0, 0, 0, 0, 29)).chunk(2, 1))), 1)
    assert float(before[:, 3:].detach().abs().max()) < 1e-10  # the padding itself comes back as zeros


def test_odd_channels_need_padding():
    net = small(in_channels=1, init_ds=1, width=3, memory_saving=True).double()
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    net(x).sum().backward()
    net.eval()  # BatchNorm over nearly constant channels would magnify rounding
    assert float((net.inverse(net.forward_features(x)) - x).detach().abs().max()) < 1e-10
    with pytest.raises(ValueError, match="width"):
        small(in_channels=1, init_ds=1)
    with pytest.raises(ValueError, match="received 1"):
        small(in_channels=3, init_ds=1, width=1)
