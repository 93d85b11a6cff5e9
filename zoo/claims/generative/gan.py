"""Claims of Generative Adversarial Nets."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.generative.gan import GAN, generator_loss


def early_gradient(seeds: Sequence[int]) -> Outcome:
    """With a discriminator trained first, the minimax loss leaves the generator a far smaller gradient."""
    x = digits().x_train.flatten(1)
    ratios = []
    for seed in seeds:
        torch.manual_seed(seed)
        model = GAN(64, 20, 64)
        optimizer = torch.optim.Adam(model.discriminator.parameters(), lr=1e-3)
        for _ in range(200):
            optimizer.zero_grad(set_to_none=True)
            model(x[torch.randint(len(x), (100,))])["d_loss"].backward()
            optimizer.step()
        fake = model.judge(model.sample(500))
        sizes = []
        for saturating in (False, True):
            gradients = torch.autograd.grad(
                generator_loss(fake, saturating), list(model.generator.parameters()), retain_graph=True
            )
            sizes.append(float(torch.cat([g.flatten() for g in gradients]).norm()))
        ratios.append(sizes[0] / sizes[1])
    return Outcome(
        status=verdict(min(ratios) > 10),
        measured={"gradient norm, non-saturating / minimax": mean_and_spread(ratios)},
        setting="digits 8x8, untrained generator, discriminator after 200 Adam steps of 100 real and 100 fake images",
        tolerance="more than ten times in every seed",
    )


def ring_modes(seeds: Sequence[int]) -> Outcome:
    """How many modes of a ring of eight Gaussians (radius 2, std 0.05) does a trained pair reach?"""
    angle = torch.arange(8) * torch.pi / 4
    centres = 2 * torch.stack([angle.cos(), angle.sin()], 1)
    hit = []
    for seed in seeds:
        torch.manual_seed(seed)
        model = GAN(2, 16, 64, bounded=False)
        steps = [torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.5, 0.99)) for net in model.children()]
        for _ in range(1500):
            real = centres[torch.randint(8, (128,))] + 0.05 * torch.randn(128, 2)
            model.zero_grad(set_to_none=True)
            out = model(real)
            (out["d_loss"] + out["g_loss"]).backward()
            for optimizer in steps:
                optimizer.step()
        with torch.no_grad():
            distance, index = torch.cdist(model.sample(2000), centres).min(1)
        hit.append(float(sum(int((distance[index == k] < 0.25).sum()) >= 20 for k in range(8))))
    return Outcome(
        status=verdict(min(hit) >= 7),
        measured={"modes of eight with at least 1 % of the samples": mean_and_spread(hit)},
        setting="ring of 8 Gaussians, networks of 64 units, simultaneous Adam 1e-3 (0.5, 0.99), 1500 steps of 128",
        tolerance="at least seven modes in every seed",
    )
