"""DivideMix: the mixture against scikit-learn, the loss against a written-out step, splitting by the other network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.noisy_labels.dividemix import DivideMix, clean_probability, sharpen


def test_mixture_against_scikit_learn():
    mixture = pytest.importorskip("sklearn.mixture")
    g = torch.Generator().manual_seed(0)
    losses = torch.cat([torch.rand(300, generator=g) * 0.4, 2 + torch.randn(200, generator=g) * 0.3]).clamp_min(0)
    x = ((losses - losses.min()) / (losses.max() - losses.min())).double().numpy().reshape(-1, 1)
    reference = mixture.GaussianMixture(2, max_iter=100, tol=1e-8, reg_covar=5e-4, random_state=0).fit(x)
    expected = reference.predict_proba(x)[:, int(np.argmin(reference.means_))]
    got = clean_probability(losses, iterations=200, tol=1e-9).numpy()
    assert np.abs(got - expected).max() < 1e-3
    assert (got[:300] > 0.5).all()
    assert (got[300:] < 0.5).all()


def test_step_written_out(parity):
    nets = [nn.Linear(4, 3).double() for _ in range(2)]
    task = DivideMix(nets[0], 8, nets[1], warmup=1, lambda_u=20.0, ramp=4.0).double()
    x, y, index = torch.randn(8, 4, dtype=torch.float64), torch.randint(0, 3, (8,)), torch.arange(8)
    task.clean.copy_(torch.rand(2, 8))
    torch.manual_seed(4)
    result = task(x, y, index=index, epoch=3)
    torch.manual_seed(4)
    p = [net(x).softmax(1).detach() for net in nets]
    expected = torch.zeros((), dtype=torch.float64)
    for own in (0, 1):
        alpha = torch.tensor(4.0)
        b = torch.distributions.Beta(alpha, alpha).sample()
        mix, partner = max(b, 1 - b).double(), torch.randperm(8)
        soft = []
        for n in range(8):
            w = task.clean[1 - own, n]
            onehot = F.one_hot(y[n], 3).double()
            q = w * onehot + (1 - w) * p[own][n] if w > 0.5 else (p[0][n] + p[1][n]) / 2
            soft.append(q**2 / (q**2).sum())
        soft = torch.stack(soft)
        z = nets[own](mix * x + (1 - mix) * x[partner])
        soft = mix * soft + (1 - mix) * soft[partner]
        labelled = [n for n in range(8) if task.clean[1 - own, n] > 0.5]
        rest = [n for n in range(8) if n not in labelled]
        assert labelled
        assert rest
        expected = expected + sum(F.cross_entropy(z[n], soft[n]) for n in labelled) / len(labelled)
        expected = expected + 10.0 * F.mse_loss(z.softmax(1)[rest], soft[rest])
        u = torch.full((3,), 1 / 3, dtype=torch.float64)
        expected = expected + (u * (u / z.softmax(1).mean(0)).log()).sum()
    error = (result["loss"] - expected).abs().detach()
    for net in nets:
        pair = [torch.autograd.grad(v, net.weight, retain_graph=True)[0] for v in (result["loss"], expected)]
        error = torch.maximum(error, (pair[0] - pair[1]).abs().max())
    parity("dividemix", error, 1e-10, oracle="one step written out per sample with torch's soft cross-entropy and MSE")


def test_warmup_and_epoch_pass():
    task = DivideMix(nn.Linear(4, 3), 12, warmup=2, penalty=1.0)
    x, y, index = torch.randn(12, 4), torch.randint(0, 3, (12,)), torch.arange(12)
    losses = [F.cross_entropy(net(x), y) for net in task.trainable_module.nets]
    entropy = [-(z.softmax(1) * z.log_softmax(1)).sum(1).mean() for z in (n(x) for n in task.trainable_module.nets)]
    assert torch.allclose(task(x, y, index=index, epoch=0)["loss"], sum(losses) - sum(entropy))
    task.train().start_epoch(2, batches=[(x, y, index)])
    assert task.training
    expected = clean_probability(F.cross_entropy(task.trainable_module.nets[1](x), y, reduction="none"))
    assert torch.allclose(task.clean[1].double(), expected, atol=1e-5)
    assert len(task.suspects(3)) == 3
    with pytest.raises(ValueError, match="every training sample"):
        task.start_epoch(2, batches=[(x[:4], y[:4], index[:4])])
    with pytest.raises(ValueError, match="batches="):
        task.start_epoch(2)


def test_sharpen():
    p = torch.tensor([[0.8, 0.2]])
    assert torch.allclose(sharpen(p, 0.5), torch.tensor([[0.64, 0.04]]) / 0.68)
    with pytest.raises(ValueError, match="dividemix needs"):
        DivideMix(nn.Linear(2, 2), 4, warmup=0)
