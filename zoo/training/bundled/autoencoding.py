"""``vae_digits``: a variational autoencoder of 8 x 8 digits with ten latent dimensions."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.claims.data import digits
from zoo.claims.train import batches
from zoo.generative.vae import VAE
from zoo.models.small import vae_digits

EPOCHS, BATCH, LR, DRAWS = 120, 100, 2e-3, 20


@torch.no_grad()
def bound(model: VAE, x: Tensor, seed: int = 0) -> float:
    """Negative evidence lower bound in nats an image, averaged over ``DRAWS`` samples of the code."""
    torch.manual_seed(seed)
    model.eval()
    return sum(float(model(x, sample=True).loss) for _ in range(DRAWS)) / DRAWS


def make(seed: int = 0) -> tuple[VAE, dict[str, float]]:
    """Adam on the bound, one sample of the code an image, the rate falling to zero along a cosine."""
    data = digits()
    torch.manual_seed(seed)
    model, generator = vae_digits(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    model.train()
    for _ in range(EPOCHS):
        for index in batches(len(data.x_train), BATCH, generator):
            optimizer.zero_grad(set_to_none=True)
            model(data.x_train[index]).loss.backward()
            optimizer.step()
        schedule.step()
    return model, {"negative bound": round(bound(model, data.x_test), 3)}
