"""MetaCleaner: the cleaned class in a loop, its limits, the plain network at test time, the sampler."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.noisy_labels.metacleaner import ClassGroupSampler, MetaCleaner


class Tiny(nn.Module):
    """The few methods of timm that the algorithm uses."""

    def __init__(self):
        super().__init__()
        self.num_features, self.body, self.fc = 5, nn.Linear(4, 5), nn.Linear(5, 3)

    def forward_features(self, x):
        return self.body(x).tanh()

    def forward_head(self, x, pre_logits=False):
        return x if pre_logits else self.fc(x)

    def get_classifier(self):
        return self.fc

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


def test_cleaned_class_in_a_loop(parity):
    model = Tiny().double()
    task = MetaCleaner(model, per_class=3, hidden=6).double()
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.tensor([2, 2, 2, 0, 0, 0])
    result = task(x, y)
    v, g = model.forward_features(x), task.trainable_module.weighting.g
    rows = []
    for c in range(2):
        group = v[3 * c : 3 * c + 3]
        score = g(torch.cat([group[0], group[1], group[2]]))
        alpha = score.exp() / score.exp().sum()
        rows.append(model.fc(alpha[0] * group[0] + alpha[1] * group[1] + alpha[2] * group[2]))
    expected = F.cross_entropy(torch.stack(rows), torch.tensor([2, 0]))
    error = (result["loss"] - expected).abs().detach()
    for p in (model.body.weight, g[0].weight):
        pair = [torch.autograd.grad(t, p, retain_graph=True)[0] for t in (result["loss"], expected)]
        error = torch.maximum(error, (pair[0] - pair[1]).abs().max())
    parity("metacleaner", error, 1e-12, oracle="weighted sums of features written out per class")


def test_limits_and_evaluation():
    model = Tiny()
    x, y = torch.randn(6, 4), torch.tensor([2, 2, 2, 0, 0, 0])
    one = MetaCleaner(model, per_class=1)
    assert torch.allclose(one(x, y)["loss"], F.cross_entropy(model(x), y))
    task = MetaCleaner(model, per_class=3, num_samples=6)
    for p in task.trainable_module.weighting.parameters():
        nn.init.zeros_(p)
    means = model.forward_features(x).view(2, 3, 5).mean(1)
    assert torch.allclose(task(x, y, index=torch.arange(6))["output"], model.fc(means), atol=1e-6)
    assert len(task.suspects(2)) == 2
    assert torch.equal(task.eval()(x, y)["output"], model(x))


def test_sampler():
    labels = torch.tensor([0] * 10 + [1] * 10 + [2] * 2)
    sampler = ClassGroupSampler(labels, classes=2, per_class=4, seed=1)
    assert len(sampler) == 2
    for batch in sampler:
        groups = labels[torch.tensor(batch)].view(2, 4)
        assert (groups == groups[:, :1]).all()
        assert groups[0, 0] != groups[1, 0]
    assert list(ClassGroupSampler(labels, 2, 4, seed=1)) == list(ClassGroupSampler(labels, 2, 4, seed=1))


def test_bad_input():
    with pytest.raises(TypeError, match="forward_features"):
        MetaCleaner(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="multiple"):
        MetaCleaner(Tiny(), per_class=4)(torch.randn(6, 4), torch.zeros(6, dtype=torch.int64))
    with pytest.raises(ValueError, match="classes"):
        ClassGroupSampler([0, 1], 3, 1)
