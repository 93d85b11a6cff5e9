"""Variational autoencoder (Kingma & Welling, arXiv 1312.6114) with a Bernoulli or Gaussian decoder."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class VAEOutput(NamedTuple):
    """``loss`` is the mean of ``reconstruction + beta * kl``, ``(N,)`` each, in nats; ``output`` the decoder's mean."""

    loss: Tensor
    output: Tensor
    reconstruction: Tensor
    kl: Tensor
    mean: Tensor
    log_variance: Tensor


def standard_normal_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    r""":math:`KL(N(\mu, \sigma^2) \| N(0, I)) = -
    \frac12 \sum_j (1 + \ln\sigma_j^2 - \mu_j^2 - \sigma_j^2)`, appendix B.

    ``(N, d), (N, d) -> (N,)``.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)


class VAE(nn.Module):
    r"""Encoder :math:`q(z|x) = N(\mu(x), \sigma^2(x))`, decoder :math:`p(x|z)`, trained on the bound

    .. math:: \mathcal L = E_q[\ln p(x|z)] - KL(q(z|x) \| N(0, I)), \quad z = \mu + \sigma \odot \epsilon

    with one sample of :math:`\epsilon` for each x (the paper's L = 1). ``beta=0`` with ``sample=False`` is a plain
    autoencoder. One hidden layer of ``hidden`` units on either side, tanh, weights N(0, 0.01).

    Args:
        in_features: D, number of values of an input once flattened.
        latent: d of z.
        hidden: units of the two hidden layers (paper: 500 for MNIST).
        likelihood: ``"bernoulli"`` for values in [0, 1] (a density only for binary ones), ``"gaussian"`` with unit
            variance otherwise.
        beta: weight of the divergence; 1 in the paper.

    Shape:
        ``(N, *)`` with D values each. In training z is sampled; in eval mode it is the mean, unless ``sample`` says.

    Raises:
        ValueError: sizes below 1, an unknown likelihood, or inputs of another size.
    """

    def __init__(
        self,
        in_features: int = 784,
        latent: int = 20,
        hidden: int = 500,
        likelihood: Literal["bernoulli", "gaussian"] = "bernoulli",
        beta: float = 1.0,
    ) -> None:
        super().__init__()
        if min(in_features, latent, hidden) < 1:
            raise ValueError(f"vae needs sizes >= 1, received {in_features=}, {latent=}, {hidden=}")
        if likelihood not in ("bernoulli", "gaussian"):
            raise ValueError(f"vae knows the likelihoods 'bernoulli' and 'gaussian', received {likelihood!r}")
        if beta < 0:
            raise ValueError(f"vae needs beta >= 0, received {beta}")
        self.in_features, self.latent, self.likelihood, self.beta = in_features, latent, likelihood, beta
        self.encoder = nn.Sequential(nn.Linear(in_features, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.Tanh(), nn.Linear(hidden, in_features))
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.1)  # N(0, 0.01): the second number is a variance
                nn.init.zeros_(layer.bias)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, *) -> (mean, log_variance)``, each ``(N, d)``; the log-variance is kept within ±20."""
        flat = x.flatten(1)
        if flat.shape[1] != self.in_features:
            raise ValueError(f"vae was made for {self.in_features} values a sample, received {tuple(x.shape)}")
        mean, log_variance = self.encoder(flat).chunk(2, dim=1)
        return mean, log_variance.clamp(-20, 20)

    def decode(self, z: Tensor) -> Tensor:
        """Mean of p(x|z), ``(N, d) -> (N, D)``."""
        raw = self.decoder(z)
        return torch.sigmoid(raw) if self.likelihood == "bernoulli" else raw

    def negative_log_likelihood(self, raw: Tensor, x: Tensor) -> Tensor:
        """-ln p(x|z) of each sample from the decoder's raw output, summed over the D values: ``(N,)``."""
        if self.likelihood == "bernoulli":
            return F.binary_cross_entropy_with_logits(raw, x, reduction="none").sum(1)
        return 0.5 * ((raw - x).square() + math.log(2 * math.pi)).sum(1)

    def forward(self, x: Tensor, sample: bool | None = None) -> VAEOutput:
        mean, log_variance = self.encode(x)
        z = mean
        if self.training if sample is None else sample:
            z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        raw = self.decoder(z)
        reconstruction = self.negative_log_likelihood(raw, x.flatten(1))
        kl = standard_normal_kl(mean, log_variance)
        output = (torch.sigmoid(raw) if self.likelihood == "bernoulli" else raw).view_as(x)
        return VAEOutput((reconstruction + self.beta * kl).mean(), output, reconstruction, kl, mean, log_variance)

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        """Decoder means of ``count`` draws from the prior, ``(count, D)``."""
        parameter = next(self.parameters())
        return self.decode(torch.randn(count, self.latent, device=parameter.device, dtype=parameter.dtype))
