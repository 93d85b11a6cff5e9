"""Networks of the families without images to classify, small enough to come with the package and to be looked into."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from zoo.activations.siren import SirenNet
from zoo.generative._flows import FlowChain
from zoo.generative.planar_flow import PlanarFlow
from zoo.generative.vae import VAE
from zoo.memory._babi_words import WORDS
from zoo.memory.memn2n import MemN2N
from zoo.metric_learning._distances import EmbeddingNet
from zoo.models.mlp import mlp
from zoo.models.resnet import SmallResNet

M = TypeVar("M", bound=nn.Module)


Draw = Callable[[int, torch.Generator], tuple[Tensor, ...]]


def _made_for(model: M, size: tuple[int, ...], draw: Draw | None = None) -> M:
    """Record the size of one input, which is what MACs are counted for, and how to draw inputs that make sense."""
    model.pretrained_cfg = {"input_size": size}  # type: ignore[assignment]
    if draw is not None:
        model.sample_inputs = draw  # type: ignore[assignment]
    return model


def _points(count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    return (2 * torch.rand(count, 2, generator=generator) - 1,)


def _questions(count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Stories of ten sentences of five words, and questions of four."""
    return tuple(torch.randint(1, len(WORDS) + 1, (count, *shape), generator=generator) for shape in ((10, 5), (4,)))


def _brightness(count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    return (torch.rand(count, 1, 8, 8, generator=generator),)


def _normal(count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    return (torch.randn(count, 2, generator=generator),)


def siren_image(out_features: int = 3, hidden_features: int = 96, hidden_layers: int = 3) -> SirenNet:
    """A picture as a function: points ``(*, 2)`` of (row, column) in [-1, 1] to colours ``(*, 3)`` in [-1, 1].

    ``zoo.activations.siren.coordinate_grid(H, W)`` makes the points, for any H and W.
    """
    return _made_for(SirenNet(2, out_features, hidden_features, hidden_layers), (2,), _points)


def memn2n_babi(dim: int = 20, hops: int = 3, memory: int = 50) -> MemN2N:
    """MemN2N in the vocabulary that all twenty bAbI tasks share (``zoo.memory.babi.WORDS``)."""
    return _made_for(MemN2N(len(WORDS) + 1, dim, hops, memory), (memory, 8), _questions)


def planar_chain(dim: int = 2, length: int = 16) -> FlowChain:
    """``length`` planar flows one after another: ``(N, dim) -> ((N, dim), (N,))``.

    Raises:
        ValueError: ``length`` or ``dim`` below 1.
    """
    if length < 1:
        raise ValueError(f"a chain has at least one flow, received length={length}")
    return _made_for(
        FlowChain(PlanarFlow(dim, init_std=0.5) for _ in range(length)), (dim,), _normal if dim == 2 else None
    )


def embedding_resnet8(dim: int = 64, in_chans: int = 1, size: int = 28) -> EmbeddingNet:
    """ResNet-8 features on the unit sphere: ``(N, in_chans, H, W) -> (N, dim)``, each row of length 1."""
    net = EmbeddingNet(SmallResNet(1, num_classes=0, in_chans=in_chans), 64, dim)
    return _made_for(net, (in_chans, size, size))


def vae_digits(latent: int = 10, hidden: int = 200, in_chans: int = 1, size: int = 8) -> VAE:
    """VAE with a Bernoulli decoder for images in [0, 1]: ``(N, in_chans, size, size)``."""
    draw = _brightness if (in_chans, size) == (1, 8) else None
    return _made_for(VAE(in_chans * size * size, latent, hidden), (in_chans, size, size), draw)


siren_image.cfg = {"input_size": (2,)}  # type: ignore[attr-defined]
memn2n_babi.cfg = {"input_size": (50, 8)}  # type: ignore[attr-defined]
planar_chain.cfg = {"input_size": (2,)}  # type: ignore[attr-defined]
embedding_resnet8.cfg = {"first_conv": "backbone.conv1"}  # type: ignore[attr-defined]


def digits_mlp(num_classes: int = 10, in_chans: int = 1) -> nn.Sequential:
    """``(N, in_chans, 8, 8)`` to ``(N, num_classes)``: two hidden layers of 256, as in recipe ``digits_compare``."""
    return mlp(num_classes, 64 * in_chans)
