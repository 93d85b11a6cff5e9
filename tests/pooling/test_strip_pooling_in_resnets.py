"""Strip pooling where the paper's network has it: places in timm's ResNets, what they see, gradients, the head."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

import zoo
from zoo.pooling.strip_pooling import MixedPooling, StripPooling, add_strip_pooling

# Last block of stages 1 to 3 and every block of stage 4.
PLACES = {
    "resnet18": ["layer1.1.act1.1", "layer2.1.act1.1", "layer3.1.act1.1", "layer4.0.act1.1", "layer4.1.act1.1"],
    "resnet50": [
        "layer1.2.act2.1",
        "layer2.3.act2.1",
        "layer3.5.act2.1",
        "layer4.0.act2.1",
        "layer4.1.act2.1",
        "layer4.2.act2.1",
    ],
}


@pytest.mark.parametrize("name", list(PLACES))
def test_places_and_gradients(name):
    torch.manual_seed(0)
    model = zoo.create(name, num_classes=5, zero_init_last=False)  # otherwise the branches begin at zero
    weights = set(model.state_dict())
    assert add_strip_pooling(model) == PLACES[name]
    found = {p: m for p, m in model.named_modules() if isinstance(m, StripPooling)}
    assert list(found) == PLACES[name]
    assert weights < set(model.state_dict())  # every weight of the backbone keeps its name
    seen = {}
    for path, strip in found.items():
        block = model.get_submodule(path.rsplit(".", 2)[0])
        narrow = block.conv2 if hasattr(block, "conv3") else block.conv1
        assert strip.in_channels == narrow.out_channels
        strip.register_forward_hook(lambda m, given, out, path=path: seen.__setitem__(path, (given[0], out)))
    x = torch.randn(2, 3, 64, 64)
    F.cross_entropy(model(x), torch.tensor([0, 1])).backward()
    assert list(seen) == PLACES[name]
    for given, out in seen.values():
        assert (given >= 0).all()  # after the ReLU
        assert out.shape == given.shape
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert all(m.gate.weight.grad.abs().max() > 0 for m in found.values())


def test_after_the_narrow_convolution_of_a_bottleneck():
    """One block written out: conv, norm, ReLU, conv 3 x 3, norm, ReLU, strips, conv, norm, sum, ReLU."""
    torch.manual_seed(0)
    model = zoo.create("resnet50", num_classes=5, zero_init_last=False).eval()
    add_strip_pooling(model)
    block = model.layer1[2]
    x = torch.randn(2, 256, 7, 9)
    y = F.relu(block.bn1(block.conv1(x)))
    y = F.relu(block.bn2(block.conv2(y)))
    y = block.bn3(block.conv3(block.act2[1](y)))
    torch.testing.assert_close(block(x), F.relu(x + y))


def test_open_gates_leave_the_network_as_it_was():
    torch.manual_seed(0)
    model = zoo.create("resnet18", num_classes=5, zero_init_last=False).eval()
    changed = copy.deepcopy(model)
    add_strip_pooling(changed)
    assert not any(m.training for m in changed.modules())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert not torch.allclose(changed(x), model(x), atol=1e-3)
        for m in changed.modules():
            if isinstance(m, StripPooling):
                m.gate.weight.zero_()
                m.gate.bias.fill_(50.0)
        torch.testing.assert_close(changed(x), model(x))
        compiled = torch.compile(changed, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), changed(x))


def test_mixed_pooling_in_a_head():
    """The head of the paper on a dilated ResNet: a reduction, two mixed blocks, classes at every position."""
    torch.manual_seed(0)
    backbone = zoo.create("resnet50", num_classes=0, output_stride=8)
    add_strip_pooling(backbone)
    head = torch.nn.Sequential(
        torch.nn.Conv2d(2048, 32, 1), MixedPooling(32), MixedPooling(32), torch.nn.Conv2d(32, 4, 1)
    )
    x = torch.randn(2, 3, 64, 72)
    y = head(backbone.forward_features(x))
    assert y.shape == (2, 4, 8, 9)
    F.cross_entropy(y, torch.randint(0, 4, (2, 8, 9))).backward()
    for p in (*head.parameters(), *backbone.parameters()):
        assert p.grad is not None
        assert torch.isfinite(p.grad).all()


def test_bad_input():
    model = zoo.create("resnet18", num_classes=5)
    add_strip_pooling(model)
    before = sum(isinstance(m, StripPooling) for m in model.modules())
    with pytest.raises(ValueError, match=r"layer1\.1\.act1 already"):
        add_strip_pooling(model)
    assert sum(isinstance(m, StripPooling) for m in model.modules()) == before
    with pytest.raises(ValueError, match="layer1 to layer4, received ConvNeXt"):
        add_strip_pooling(zoo.create("convnext_atto"))
    assert add_strip_pooling(zoo.create("resnet18").double())  # the blocks follow its type
