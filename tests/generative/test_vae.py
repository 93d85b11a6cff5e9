"""The VAE's terms against torch.distributions, its limits, its switches."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from zoo.generative.vae import VAE, standard_normal_kl


def test_bound(parity):
    model = VAE(12, 3, 7).double()
    x = torch.rand(5, 3, 4, dtype=torch.float64)
    torch.manual_seed(1)
    out = model(x)
    torch.manual_seed(1)
    q = Normal(out.mean, (0.5 * out.log_variance).exp())
    z = q.rsample()
    # Bernoulli on grey values: the cross-entropy that the class refuses to call a density.
    likelihood = Bernoulli(model.decode(z), validate_args=False).log_prob(x.flatten(1)).sum(1)
    bound = likelihood - kl_divergence(q, Normal(torch.zeros(3).double(), 1.0)).sum(1)
    grads = [torch.autograd.grad(v, list(model.parameters()), retain_graph=True) for v in (out.loss, -bound.mean())]
    error = max(float((a - b).abs().max()) for a, b in zip(*grads, strict=True))
    parity(
        "vae",
        max(error, float((out.loss + bound.mean()).detach().abs())),
        1e-12,
        oracle="torch.distributions, gradients too",
    )


def test_gaussian_likelihood():
    model = VAE(6, 2, 4, likelihood="gaussian").eval()
    x = torch.randn(3, 6)
    out = model(x)
    wanted = -Normal(model.decode(out.mean), 1.0).log_prob(x).sum(1)
    torch.testing.assert_close(out.reconstruction, wanted)


def test_divergence_is_zero_only_at_the_prior():
    assert standard_normal_kl(torch.zeros(1, 4), torch.zeros(1, 4)) == 0
    assert (standard_normal_kl(0.1 * torch.randn(50, 4), 0.1 * torch.randn(50, 4)) > 0).all()


def test_sampling_follows_mode_and_argument():
    model = VAE(6, 2, 4)
    x = torch.rand(3, 6)
    assert not torch.equal(model(x).output, model(x).output)
    assert torch.equal(model(x, sample=False).output, model(x, sample=False).output)
    model.eval()
    assert torch.equal(model(x).output, model(x).output)
    assert not torch.equal(model(x, sample=True).output, model(x, sample=True).output)


def test_beta_zero_without_sampling_is_an_autoencoder():
    model = VAE(6, 2, 4, beta=0.0)
    x = torch.rand(3, 6)
    out = model(x, sample=False)
    torch.testing.assert_close(out.loss, out.reconstruction.mean())
    out.loss.backward()
    assert not model.encoder[-1].weight.grad[2:].any()  # the variances' half learns nothing


def test_mean_is_over_samples_not_over_pixels():
    """Twice the pixels, twice the loss: a mean over pixels would weigh the divergence D times as much."""
    for features in (10, 20):
        model = VAE(features, 2, 4).eval()
        with torch.no_grad():
            model.decoder[-1].weight.zero_()
        torch.testing.assert_close(model(torch.rand(3, features)).reconstruction, torch.full((3,), features * 0.693147))


def test_shapes_copy_compile_meta():
    model = VAE(6, 2, 4).eval()
    x = torch.rand(3, 2, 3)
    assert model(x).output.shape == x.shape
    assert model.sample(7).shape == (7, 6)
    torch.testing.assert_close(torch.compile(model, backend="eager", fullgraph=True)(x).loss, model(x).loss)
    torch.testing.assert_close(copy.deepcopy(model)(x).loss, model(x).loss)
    with torch.device("meta"):
        VAE(6, 2, 4)


def test_bad_input():
    with pytest.raises(ValueError, match="latent=0"):
        VAE(6, 0)
    with pytest.raises(ValueError, match="received 'poisson'"):
        VAE(6, 2, likelihood="poisson")
    with pytest.raises(ValueError, match=r"6 values a sample, received \(2, 5\)"):
        VAE(6, 2)(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="beta"):
        VAE(6, 2, beta=-1.0)


def test_extreme_inputs_stay_finite():
    """Encoders far off: the clamp of the log-variance keeps loss and gradient finite."""
    model = VAE(6, 2, 4)
    out = model(1e6 * torch.ones(3, 6))
    out.kl.sum().backward()
    assert torch.isfinite(out.kl).all()
    assert all(torch.isfinite(p.grad).all() for p in model.encoder.parameters())
