"""One small network, several pooling heads: the shared setting of the pooling claims."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from zoo.claims.data import digits
from zoo.claims.train import accuracy, fit
from zoo.pooling.bilinear_pooling import BilinearPooling
from zoo.pooling.isqrt_cov import ISqrtCov
from zoo.pooling.mpn_cov import MPNCov
from zoo.pooling.spatial_pyramid_pooling import SpatialPyramidPooling

WIDTH = 16


class AveragePool(nn.Module):
    """Global average pooling with the interface of a pool."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.out_features = in_channels

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


HEADS: dict[str, Callable[[], nn.Module]] = {
    "gap": lambda: AveragePool(WIDTH),
    "bilinear": lambda: BilinearPooling(WIDTH),
    "isqrt_cov": lambda: ISqrtCov(WIDTH),
    "covariance": lambda: MPNCov(WIDTH, alpha=1.0),
    "mpn_cov": lambda: MPNCov(WIDTH),
    "spp": lambda: SpatialPyramidPooling(WIDTH, levels=(1, 2, 4)),
}


def network(head: str) -> nn.Sequential:
    """Two 3 x 3 convolutions of 16 channels, the head, a linear layer."""
    pool = HEADS[head]()
    features = pool.out_features
    assert isinstance(features, int)
    return nn.Sequential(
        nn.Conv2d(1, WIDTH, 3, padding=1), nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.ReLU(),
        pool, nn.Linear(features, 10),
    )  # fmt: skip


def head_scores(heads: Sequence[str], seeds: Sequence[int], epochs: int = 8) -> tuple[dict[str, list[float]], str]:
    """Test accuracy of every head for every seed, and the setting in words."""
    data = digits()
    scores: dict[str, list[float]] = {name: [] for name in heads}
    for seed in seeds:
        for name in heads:
            torch.manual_seed(seed)
            net = network(name)
            adam = torch.optim.Adam(net.parameters(), lr=1e-2)
            fit(net, data.x_train, data.y_train, epochs=epochs, batch_size=32, optimizer=adam, seed=seed)
            scores[name].append(accuracy(net, data.x_test, data.y_test))
    return scores, (
        f"digits (8 x 8), two 3 x 3 convolutions of {WIDTH} channels, the head, one linear layer; Adam 1e-2, "
        f"{epochs} epochs, batch 32; heads differ in the size of the linear layer"
    )
