"""Generative adversarial nets (Goodfellow et al., arXiv 1406.2661): the two losses and a small pair of networks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    r"""What D minimises: :math:`-E \ln D(x) - E \ln(1 - D(G(z)))`, from logits. Its minimum over D is
    :math:`\ln 4 - 2\,JSD(p_{data}, p_g)`."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def generator_loss(fake_logits: Tensor, saturating: bool = False) -> Tensor:
    r"""What G minimises: :math:`-E \ln D(G(z))`, or with ``saturating`` the minimax form :math:`E \ln(1 - D(G(z)))`,
    whose gradient vanishes while D rejects every sample."""
    return -F.softplus(fake_logits).mean() if saturating else F.softplus(-fake_logits).mean()


class GAN(nn.Module):
    """Generator and discriminator as perceptrons with a loss for each; the loop owns two optimizers.

    ``forward(real)`` returns both losses of one batch. The discriminator's sees the fakes detached; the generator's
    leaves no gradient in the discriminator. So one ``(d_loss + g_loss).backward()`` gives the gradients of the
    simultaneous update of the authors' code.

    Args:
        features: D, values of a sample once flattened; samples lie in (0, 1) when ``bounded``.
        latent: size of the noise, uniform on [-1, 1].
        hidden: units of the hidden layers, two in each network.
        saturating: the minimax loss for the generator.
        bounded: sigmoid at the generator's end.

    Raises:
        ValueError: sizes below 1, or inputs of another size.
    """

    def __init__(
        self, features: int = 784, latent: int = 100, hidden: int = 240, saturating: bool = False, bounded: bool = True
    ) -> None:
        super().__init__()
        if min(features, latent, hidden) < 1:
            raise ValueError(f"gan needs sizes >= 1, received {features=}, {latent=}, {hidden=}")
        self.features, self.latent, self.saturating = features, latent, saturating
        self.generator = nn.Sequential(
            nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, features),
            nn.Sigmoid() if bounded else nn.Identity(),
        )  # fmt: skip
        self.discriminator = nn.Sequential(
            nn.Linear(features, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden), nn.LeakyReLU(0.2),
            nn.Linear(hidden, 1),
        )  # fmt: skip

    def noise(self, count: int) -> Tensor:
        parameter = next(self.parameters())
        return torch.rand(count, self.latent, device=parameter.device, dtype=parameter.dtype) * 2 - 1

    def sample(self, count: int) -> Tensor:
        """``(count, D)``, with gradient to the generator."""
        return self.generator(self.noise(count))

    def judge(self, x: Tensor) -> Tensor:
        """Logit of "real", ``(N, *) -> (N,)``."""
        flat = x.flatten(1)
        if flat.shape[1] != self.features:
            raise ValueError(f"gan was made for {self.features} values a sample, received {tuple(x.shape)}")
        return self.discriminator(flat).squeeze(1)

    def forward(self, real: Tensor) -> dict[str, Tensor]:
        """``{"d_loss", "g_loss", "output"}``; ``output`` are the fakes, ``(N, D)``."""
        fake = self.sample(len(real))
        d_loss = discriminator_loss(self.judge(real), self.judge(fake.detach()))
        # The same function of the fakes with D's parameters held fixed: no gradient of G's loss may reach D.
        frozen = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        logits = torch.func.functional_call(self.discriminator, frozen, (fake,)).squeeze(1)
        return {"d_loss": d_loss, "g_loss": generator_loss(logits, self.saturating), "output": fake}
