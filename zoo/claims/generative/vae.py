"""Claims of Auto-Encoding Variational Bayes, on the 8 x 8 digits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.train import batches
from zoo.generative.vae import VAE

EPOCHS, BATCH = 40, 100


def trained(latent: int, seed: int, beta: float = 1.0) -> VAE:
    """``beta=0`` trains a plain autoencoder: no noise, no divergence."""
    torch.manual_seed(seed)
    model = VAE(64, latent, 200, beta=beta)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(seed)
    x = digits().x_train
    for _ in range(EPOCHS):
        for index in batches(len(x), BATCH, generator):
            optimizer.zero_grad(set_to_none=True)
            model(x[index], sample=beta > 0).loss.backward()
            optimizer.step()
    return model.eval()


def superfluous_latents(seeds: Sequence[int]) -> Outcome:
    """Forty latent dimensions do not overfit against ten: the bound on test data stays, the extra ones switch off."""
    x = digits().x_test
    bound: dict[int, list[float]] = {10: [], 40: []}
    active: list[float] = []
    for seed in seeds:
        for latent, values in bound.items():
            model = trained(latent, seed)
            with torch.no_grad():
                torch.manual_seed(seed)
                values.append(sum(float(model(x, sample=True).loss) for _ in range(5)) / 5)
                if latent == 40:
                    active.append(float((model.encode(x)[0].var(0) > 0.01).sum()))
    mean = {k: sum(v) / len(v) for k, v in bound.items()}
    return Outcome(
        status=verdict(mean[40] < mean[10] + 0.5, max(active) < 20),
        measured={
            **{f"negative bound in nats, {k} latents": mean_and_spread(v) for k, v in bound.items()},
            "active of 40": mean_and_spread(active),
        },
        setting=f"digits 8x8, one hidden layer of 200, Adam 2e-3, {EPOCHS} epochs of batch {BATCH}, 500 test images",
        tolerance="bound with 40 latents at most 0.5 nats worse than with 10; fewer than 20 of the 40 active",
    )


def nearest(x: Tensor, to: Tensor) -> float:
    return float(torch.cdist(x.flatten(1), to.flatten(1)).min(1).values.mean())


def prior_samples(seeds: Sequence[int]) -> Outcome:
    """Decoded draws from N(0, I) look like data with a VAE, not with an autoencoder of the same networks."""
    data = digits()
    found: dict[str, list[float]] = {"VAE": [], "autoencoder": []}
    for seed in seeds:
        for name, beta in (("VAE", 1.0), ("autoencoder", 0.0)):
            model = trained(10, seed, beta)
            torch.manual_seed(seed)
            found[name].append(nearest(model.sample(500), data.x_train))
    real = nearest(data.x_test, data.x_train)
    return Outcome(
        status=verdict(max(found["VAE"]) < 1.25 * real, min(found["autoencoder"]) > 1.5 * real),
        measured={
            **{f"{k}: distance to the nearest training image": mean_and_spread(v) for k, v in found.items()},
            "test images": round(real, 4),
        },
        setting="as above with 10 latents; 500 samples, Euclidean distance over 64 pixels",
        tolerance="VAE within 25 % of real test images, autoencoder beyond 50 %, in every seed",
    )
