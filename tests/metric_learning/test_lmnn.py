"""LMNN against plain loops over target neighbours and impostors."""

from __future__ import annotations

import pytest
import torch

from zoo.metric_learning.lmnn import LMNN


def loop(z, labels, inputs, k, mu, margin):
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(z)):
        same = [j for j in range(len(z)) if j != i and labels[j] == labels[i]]
        same.sort(key=lambda j, i=i: float(((inputs[i] - inputs[j]) ** 2).sum()))
        for j in same[:k]:
            near = ((z[i] - z[j]) ** 2).sum()
            total = total + (1 - mu) * near
            for other in range(len(z)):
                if labels[other] != labels[i]:
                    total = total + mu * torch.clamp(margin + near - ((z[i] - z[other]) ** 2).sum(), min=0)
    return total / len(z)


@pytest.mark.parametrize(("k", "mu"), [(1, 0.5), (3, 0.3), (9, 0.5)])
def test_plain_loop(parity, k, mu):
    torch.manual_seed(k)
    x, labels = torch.randn(14, 4, dtype=torch.float64), torch.randint(0, 3, (14,))
    linear = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
    ours = LMNN(k, mu)(x @ linear, labels, inputs=x)
    theirs = loop(x @ linear, labels, x, k, mu, 1.0)
    a, b = (torch.autograd.grad(v, linear)[0] for v in (ours, theirs))
    error = max(float((ours - theirs).detach().abs()), float((a - b).abs().max()))
    parity("lmnn", error, 1e-10, oracle="plain loops over neighbours and impostors, gradients too")


def test_convex_in_the_metric():
    """With fixed neighbours the loss is convex in M = L^T L: on a segment it lies below its chord."""
    torch.manual_seed(0)
    x, labels = torch.randn(20, 3, dtype=torch.float64), torch.randint(0, 2, (20,))
    a, b = (m @ m.T for m in torch.randn(2, 3, 3, dtype=torch.float64))

    def value(metric):
        return LMNN()(x @ torch.linalg.cholesky(metric + 1e-9 * torch.eye(3).double()), labels, inputs=x)

    ends = value(a), value(b)
    for t in (0.2, 0.5, 0.8):
        assert value((1 - t) * a + t * b) <= (1 - t) * ends[0] + t * ends[1] + 1e-9


def test_limits_and_reductions():
    x = torch.tensor([[0.0, 0], [1, 0], [10, 0], [11, 0]])
    labels = torch.tensor([0, 0, 1, 1])
    assert float(LMNN(1)(x, labels)) == pytest.approx(0.5)  # no impostor within reach: half of each pull of 1
    each = LMNN(1, reduction="none")(x, labels)
    torch.testing.assert_close(each.sum(), LMNN(1, reduction="sum")(x, labels))
    alone = torch.randn(3, 2, requires_grad=True)
    loss = LMNN()(alone, torch.arange(3))  # nobody has a neighbour
    loss.backward()
    assert float(loss.detach()) == 0
    compiled = torch.compile(LMNN(1), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, labels), LMNN(1)(x, labels))


def test_bad_input():
    with pytest.raises(ValueError, match=r"received 0, 0\.5 and 1\.0"):
        LMNN(0)
    with pytest.raises(ValueError, match="received 'median'"):
        LMNN(reduction="median")
    with pytest.raises(ValueError, match="embeddings"):
        LMNN()(torch.zeros(3), torch.zeros(3))


def test_a_single_class_pulls_only():
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    loss = LMNN(2, mu=0.4)(x, torch.zeros(6).long())
    torch.testing.assert_close(loss, loop(x, torch.zeros(6).long(), x.detach(), 2, 0.4, 1.0))
    loss.backward()
    assert torch.isfinite(x.grad).all()
    empty = LMNN(reduction="sum")(torch.zeros(0, 3), torch.zeros(0).long())
    assert float(empty) == 0
