"""Kullback-Leibler divergence against torch.distributions, F.kl_div and samples."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Categorical, MultivariateNormal, Normal, kl_divergence

from zoo.generative.kl_divergence import KLDivergence, categorical_kl, estimate_kl, gaussian_kl


def random_gaussian(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(4, 3, 3, generator=generator, dtype=torch.float64)
    return torch.randn(4, 3, generator=generator, dtype=torch.float64), a @ a.mT + 0.1 * torch.eye(3).double()


def test_closed_forms(parity):
    (m0, c0), (m1, c1) = random_gaussian(0), random_gaussian(1)
    wanted = kl_divergence(MultivariateNormal(m0, c0), MultivariateNormal(m1, c1))
    error = (gaussian_kl(m0, c0, m1, c1) - wanted).abs().max()
    logits = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    target = torch.rand(5, 7, dtype=torch.float64).softmax(1)
    ours, theirs = KLDivergence()(logits, target), F.kl_div(logits.log_softmax(1), target, reduction="batchmean")
    error = max(error, (ours - theirs).abs().detach())
    a, b = (torch.autograd.grad(v, logits)[0] for v in (ours, theirs))
    error = max(error, (a - b).abs().max())
    reverse = kl_divergence(Categorical(logits=logits), Categorical(probs=target)).mean()
    error = max(error, (KLDivergence(reverse=True)(logits, target) - reverse).abs().detach())
    parity("kl_divergence", error, 1e-12, oracle="torch.distributions and F.kl_div, gradients too")


def test_zeros():
    p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.5, 0.25])
    assert float(categorical_kl(p, q)) == pytest.approx(0.5 * 0.6931472)
    assert categorical_kl(q, p) == float("inf")
    assert categorical_kl(p, p) == 0
    loss = KLDivergence()(torch.zeros(2, 3, requires_grad=True), torch.eye(3)[:2])
    torch.testing.assert_close(loss, torch.tensor(3.0).log())
    loss.backward()


def test_index_targets_are_cross_entropy():
    logits, target = torch.randn(4, 5), torch.tensor([0, 4, 2, 2])
    torch.testing.assert_close(KLDivergence()(logits, target), F.cross_entropy(logits, target))
    each = KLDivergence(reduction="none")(logits, target)
    torch.testing.assert_close(each.sum(), KLDivergence(reduction="sum")(logits, target))


def test_estimators():
    p, q = Normal(torch.tensor(0.0).double(), 1.0), Normal(torch.tensor(0.3).double(), 1.1)
    torch.manual_seed(0)
    x = p.sample((200_000,))
    truth = float(kl_divergence(p, q))
    k1, k2, k3 = (estimate_kl(p.log_prob(x), q.log_prob(x), name) for name in ("k1", "k2", "k3"))
    assert float(k1.mean()) == pytest.approx(truth, abs=4e-3)
    assert float(k3.mean()) == pytest.approx(truth, abs=2e-3)
    assert (k3 >= 0).all()
    assert (k1 < 0).any()
    assert k3.std() < 0.6 * k1.std()
    assert abs(float(k2.mean()) - truth) > 1e-4  # biased


def test_bad_input():
    with pytest.raises(ValueError, match="received 'batchmean'"):
        KLDivergence(reduction="batchmean")
    with pytest.raises(ValueError, match=r"like logits \(2, 3\), received \(2, 4\)"):
        KLDivergence()(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="k1, k2 and k3"):
        estimate_kl(torch.zeros(1), torch.zeros(1), "k4")


def test_asymmetry_and_no_triangle():
    """KL is no distance: the two directions differ, and a way through a third distribution can be shorter."""
    p, q, r = (torch.tensor([x, 1 - x], dtype=torch.float64) for x in (0.5, 0.1, 0.01))
    assert float(categorical_kl(p, q)) == pytest.approx(0.5108256, abs=1e-6)
    assert float(categorical_kl(q, p)) == pytest.approx(0.3680642, abs=1e-6)
    assert categorical_kl(p, r) > categorical_kl(p, q) + categorical_kl(q, r)


def test_covariances_that_are_none():
    eye, flat = torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    for pair in ((eye, flat), (flat, eye)):
        with pytest.raises(torch.linalg.LinAlgError, match="positive-definite"):
            gaussian_kl(torch.zeros(2), pair[0], torch.zeros(2), pair[1])
