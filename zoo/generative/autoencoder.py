"""A plain autoencoder, the contrast to VAE and GAN (Hinton & Salakhutdinov 2006): reconstruction and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


def _stack(sizes: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index, (a, b) in enumerate(itertools.pairwise(sizes)):
        layers += [nn.Linear(a, b)] if index == len(sizes) - 2 else [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers)


class Autoencoder(nn.Module):
    """``x -> code -> x``: a deterministic code with no prior, so decoded noise means nothing.

    Args:
        in_features: D, values of a sample once flattened.
        latent: size of the code.
        hidden: sizes of the hidden layers of the encoder; the decoder mirrors them.

    Shape:
        ``(N, *) -> {"loss": scalar, "output": (N, *), "code": (N, latent)}``; the loss is the squared error of a
        sample, summed over its values, averaged over the batch.

    Raises:
        ValueError: sizes below 1, or inputs of another size.
    """

    def __init__(self, in_features: int = 784, latent: int = 20, hidden: Sequence[int] = (500,)) -> None:
        super().__init__()
        sizes = [in_features, *hidden, latent]
        if min(sizes) < 1:
            raise ValueError(f"autoencoder needs sizes >= 1, received {sizes}")
        self.in_features, self.latent = in_features, latent
        self.encoder, self.decoder = _stack(sizes), _stack(sizes[::-1])

    def encode(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        if flat.shape[1] != self.in_features:
            raise ValueError(f"autoencoder was made for {self.in_features} values a sample, received {tuple(x.shape)}")
        return self.encoder(flat)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        code = self.encode(x)
        output = self.decoder(code).view_as(x)
        loss = F.mse_loss(output, x, reduction="sum") / len(x)
        return {"loss": loss, "output": output, "code": code}
