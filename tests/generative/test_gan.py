"""The GAN's losses against the closed form of the game on finite distributions, and where gradients may go."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from zoo.generative.gan import GAN, discriminator_loss, generator_loss


def test_value_of_the_game(parity):
    """At the best discriminator p / (p + q) the loss is ln 4 - 2 JSD(p, q); and no other discriminator is better."""
    worst = 0.0
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        counts = torch.randint(1, 9, (2, 6), generator=generator)
        logits = (counts[0] / counts[0].sum()).double().log() - (counts[1] / counts[1].sum()).double().log()
        real, fake = (logits.repeat_interleave(c) for c in counts)  # samples in exact proportion
        p, q = (c.double() / c.sum() for c in counts)
        m = (p + q) / 2
        jsd = 0.5 * (p * (p / m).log()).sum() + 0.5 * (q * (q / m).log()).sum()
        found = discriminator_loss(real, fake)
        worst = max(worst, float((found - (math.log(4) - 2 * jsd)).abs()))
        assert discriminator_loss(real + 0.1, fake + 0.1) > found
    parity("gan", worst, 1e-6, oracle="ln 4 - 2 JSD on finite distributions")


def test_losses_are_the_cross_entropies():
    a, b = torch.randn(6), torch.randn(6)
    wanted = F.binary_cross_entropy_with_logits(a, torch.ones(6)) + F.binary_cross_entropy_with_logits(
        b, torch.zeros(6)
    )
    torch.testing.assert_close(discriminator_loss(a, b), wanted)
    torch.testing.assert_close(generator_loss(b), -torch.sigmoid(b).log().mean())
    torch.testing.assert_close(generator_loss(b, saturating=True), (1 - torch.sigmoid(b)).log().mean())
    assert torch.isfinite(generator_loss(torch.tensor([-500.0])))


def test_saturating_gradient_vanishes_when_fakes_are_rejected():
    logits = torch.full((4,), -8.0, requires_grad=True)
    saturating = torch.autograd.grad(generator_loss(logits, True), logits)[0].norm()
    other = torch.autograd.grad(generator_loss(logits), logits)[0].norm()
    assert other > 1000 * saturating


def test_each_loss_reaches_its_own_network_only():
    model = GAN(5, 3, 8)
    out = model(torch.rand(4, 5))
    out["d_loss"].backward(retain_graph=True)
    assert all(p.grad is None for p in model.generator.parameters())
    assert all(p.grad is not None for p in model.discriminator.parameters())
    model.zero_grad(set_to_none=True)
    out["g_loss"].backward()
    assert all(p.grad is not None and p.grad.any() for p in model.generator.parameters())
    assert all(p.grad is None for p in model.discriminator.parameters())


def test_generator_loss_is_what_the_discriminator_says():
    model = GAN(5, 3, 8)
    out = model(torch.rand(4, 5))
    torch.testing.assert_close(out["g_loss"], generator_loss(model.judge(out["output"])))


def test_compiles_and_bad_input():
    model = GAN(5, 3, 8)
    out = torch.compile(model, backend="eager", fullgraph=True)(torch.rand(4, 5))
    assert torch.isfinite(out["d_loss"])
    assert float(model.sample(3).min().detach()) > 0
    with pytest.raises(ValueError, match="latent=0"):
        GAN(5, 0)
    with pytest.raises(ValueError, match=r"5 values a sample, received \(2, 6\)"):
        model(torch.zeros(2, 6))


def test_losses_stay_finite_for_a_sure_discriminator():
    logits = torch.tensor([-500.0, 500.0], requires_grad=True)
    for loss in (discriminator_loss(logits, logits), generator_loss(logits), generator_loss(logits, saturating=True)):
        assert torch.isfinite(loss)
        assert torch.isfinite(torch.autograd.grad(loss, logits)[0]).all()
