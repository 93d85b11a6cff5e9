"""The steps of a layer that :mod:`zoo.noisy_labels.layerwise` is made of, each against autograd."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.noisy_labels import _layers, _nodes
from zoo.noisy_labels.learning_to_reweight import LearningToReweight

N = 5
CONVOLUTIONS = {
    "wider than its map": (nn.Conv2d(3, 4, 3, padding=1), (2, 2), True),
    "wider, one position": (nn.Conv2d(3, 4, 5, padding=2, bias=False), (1, 1), True),
    "wider, no padding left": (nn.Conv2d(3, 4, 3, padding=2), (2, 1), True),
    "wider along a signal": (nn.Conv1d(3, 4, 5, padding=(2,)), (4,), True),
    "wider in a volume": (nn.Conv3d(2, 3, 3, padding=1), (2, 1, 2), True),
    "wider in one direction": (nn.Conv2d(3, 4, 3, padding=1), (2, 3), False),
    "as wide": (nn.Conv2d(3, 4, 3, padding=1), (3, 3), False),
    "strided": (nn.Conv2d(3, 4, 3, padding=1, stride=2), (2, 2), False),
    "dilated": (nn.Conv2d(3, 4, 3, padding=2, dilation=2), (2, 2), False),
    "in groups": (nn.Conv2d(4, 4, 3, padding=1, groups=2), (2, 2), False),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_gradient_of_a_kernel(name):
    layer, size, wider = CONVOLUTIONS[name]
    layer = layer.double()
    torch.manual_seed(0)
    a = torch.randn(N, layer.in_channels, *size, dtype=torch.float64)
    out = layer(a)
    b = torch.randn_like(out)
    wanted = torch.autograd.grad(out, list(layer.parameters()), b)
    found = {k: v for k, v in _layers.weigh(layer, a, b).items() if v is not None}
    assert _layers.wider(layer, a) is wider
    for p, w in zip(layer._parameters, wanted, strict=False):
        torch.testing.assert_close(found[p], w, rtol=1e-12, atol=1e-13)
    assert len(found) == len(wanted)


@pytest.mark.parametrize("offset", [0.0, 30.0])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 8, 9])
def test_gradients_of_a_group_norm_row_by_row(length, offset):
    torch.manual_seed(0)
    layer = nn.GroupNorm(3, 6, eps=0.1).double()
    nn.init.normal_(layer.weight)
    a = (torch.randn(N, 6, length, dtype=torch.float64) + offset).requires_grad_()
    b = torch.randn_like(a)
    (wanted,) = torch.autograd.grad(layer(a), a, b)
    each = [torch.autograd.grad(layer(a[i : i + 1]), list(layer.parameters()), b[i : i + 1]) for i in range(N)]
    kept = []
    plain = layer(a)
    saved = plain.grad_fn._saved_result1, plain.grad_fn._saved_result2
    assert _nodes.shares_sums(layer, a, plain)
    output = _nodes.Grouped.apply(a, plain.detach(), layer, *saved, lambda *t: kept.extend(t))
    with mock.patch.object(_nodes, "_short", wraps=_nodes._short) as short:
        (found,) = torch.autograd.grad(output, a, b)
    assert short.called == (1 < length < 8)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)
    for f, w in zip(kept, zip(*each, strict=True), strict=True):
        torch.testing.assert_close(f, torch.stack(w), rtol=1e-11, atol=1e-12)


def test_a_step_over_small_maps():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, 2, 1), nn.GroupNorm(3, 6, eps=0.1), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1),
        nn.GroupNorm(2, 4), nn.Tanh(), nn.Flatten(), nn.Linear(16, 3),
    ).double()  # fmt: skip
    x, y = torch.randn(16, 1, 3, 3, dtype=torch.float64), torch.arange(16) % 3
    gradients = []
    for way in (True, False):
        model.zero_grad()
        result = LearningToReweight(model, layerwise=way)(x[:9], y[:9], meta_batch=(x[9:], y[9:]))
        result["loss"].backward()
        assert 0 < int((result["weights"] > 0).sum()) < 9
        gradients.append([result["weights"], *(p.grad.clone() for p in model.parameters())])
    for found, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rows", [3, 40])
def test_slopes_in_pieces(rows, monkeypatch):
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3, padding=1).double()
    a, b = torch.randn(rows, 3, 4, 4, dtype=torch.float64), torch.randn(rows, 4, 4, 4, dtype=torch.float64)
    direction = {k: torch.randn_like(p) for k, p in layer.named_parameters()}
    wanted = (F.conv2d(a, direction["weight"], direction["bias"], padding=1) * b).sum((1, 2, 3))
    for piece in (2**18, 100):
        monkeypatch.setattr(_layers, "PIECE", piece)
        torch.testing.assert_close(_layers.slopes(layer, a, b, direction), wanted, rtol=1e-12, atol=1e-12)


def test_which_layer_is_trained_is_part_of_the_answer():
    class Scaled(nn.Module):
        """Right by layer only while nobody asks for the gradient of the last layer, whose weight is used twice."""

        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x):
            return self.last(torch.tanh(self.first(x)) * self.last.weight[0])

    torch.manual_seed(0)
    model = Scaled().double()
    algorithm, answers = LearningToReweight(model), []
    x, y = torch.randn(12, 6, dtype=torch.float64), torch.arange(12) % 3
    for trained in (model.first, model.last, model.first):
        model.requires_grad_(False)
        trained.requires_grad_(True)
        algorithm(x[:7], y[:7], meta_batch=(x[7:], y[7:]))["loss"].backward()
        answers.append(list(algorithm.layerwise.answers.values())[-1])
    assert answers == [True, False, False]
    assert list(algorithm.layerwise.answers.values()) == [True, False]
