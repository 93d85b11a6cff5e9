"""The spatial transformer in front of backbones: identity at the start, gradients to both, a learned shift, compiled."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import zoo
from zoo.upsampling.spatial_transformer import TRANSFORMS

BACKBONES = {
    "resnet18": {},
    "vit_tiny_patch16_224": {"img_size": 64},
    "mobilenetv3_small_050": {},
    "convnext_atto": {},
}


@pytest.fixture(scope="module")
def backbones():
    torch.manual_seed(0)
    return {name: zoo.create(name, num_classes=5, **options) for name, options in BACKBONES.items()}


@pytest.mark.parametrize("transform", list(TRANSFORMS))
@pytest.mark.parametrize("name", list(BACKBONES))
def test_front_end(backbones, name, transform):
    backbone = backbones[name].eval()
    front = zoo.create("spatial_transformer", 3, transform=transform)
    model = torch.nn.Sequential(front, backbone)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        plain = backbone(x)
        torch.testing.assert_close(model.eval()(x), plain, rtol=1e-4, atol=1e-4)  # begins as the identity
        bias = front.head.bias.clone()
        front.head.bias.add_(0.2 * torch.randn(bias.shape, generator=torch.Generator().manual_seed(2)))
        assert not torch.allclose(model(x), plain, rtol=1e-3, atol=1e-3)  # and is not one when it has moved
        front.head.bias.copy_(bias)
    model.train()
    model.zero_grad()
    F.cross_entropy(model(x), torch.tensor([1, 3])).backward()
    grads = [front.head.weight.grad, front.head.bias.grad, *(p.grad for p in backbone.parameters())]
    assert all(g is not None and torch.isfinite(g).all() for g in grads)
    assert all(g.abs().max() > 0 for g in grads[:2])  # where to look is learned from the backbone's loss


@pytest.mark.parametrize("transform", list(TRANSFORMS))
def test_front_end_gradient_by_differences(transform):
    """The gradient that reaches the transformation through a backbone is that of the loss, in float64."""
    torch.manual_seed(0)
    backbone = zoo.create("test_convnext", num_classes=3).double().eval()
    front = zoo.create("spatial_transformer", 3, transform=transform).double()
    with torch.no_grad():
        front.head.bias.add_(0.05 * torch.randn_like(front.head.bias))
    model = torch.nn.Sequential(front, backbone)
    x, y = torch.randn(1, 3, 32, 32, dtype=torch.float64), torch.tensor([1])
    F.cross_entropy(model(x), y).backward()
    grad = front.head.bias.grad.clone()
    for i in range(0, len(grad), max(1, len(grad) // 6)):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                front.head.bias[i] += sign * 1e-7
                values.append(F.cross_entropy(model(x), y).item())
                front.head.bias[i] -= sign * 1e-7
        assert (values[0] - values[1]) / 2e-7 == pytest.approx(grad[i].item(), rel=1e-3, abs=1e-6)


def test_attention_crops_for_a_smaller_backbone():
    """A crop of half the side: the backbone sees a fourth of the pixels."""
    front = zoo.create("spatial_transformer", 3, transform="attention", output_size=(32, 32))
    backbone = zoo.create("vit_tiny_patch16_224", img_size=32, num_classes=5).eval()
    with torch.no_grad():
        front.head.bias.copy_(torch.tensor([0.5, 0.0, 0.0]))
    x = torch.randn(2, 3, 64, 64)
    model = torch.nn.Sequential(front, backbone).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(x), backbone(x[..., 16:48, 16:48]), rtol=1e-4, atol=1e-4)
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-4)
