"""Dense tasks on MNIST whose answer lies beyond the reach of a small convolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.claims.data import mnist5k
from zoo.claims.train import fit


def images() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """1200 and 500 digits at 14 x 14, with their labels."""
    data = mnist5k()
    train, test = F.avg_pool2d(data.x_train[:1200], 2), F.avg_pool2d(data.x_test[:500], 2)
    return train, data.y_train[:1200], test, data.y_test[:500]


def row_has_ink(x: Tensor) -> Tensor:
    """Label of every pixel: whether its row holds a bright pixel anywhere, ``(N, H, W)``."""
    return (x[:, 0].amax(2, keepdim=True) > 0.75).long().expand(-1, -1, x.shape[3]).contiguous()


def digit_of_ink(x: Tensor, y: Tensor) -> Tensor:
    """Label of every inked pixel: the digit it belongs to; background is ignored (-100)."""
    return torch.where(x[:, 0] > 0.3, y.view(-1, 1, 1), -100)


def dense_scores(
    middles: dict[str, Callable[[int], nn.Module]],
    classes: int,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    seeds: Sequence[int],
    epochs: int,
) -> dict[str, list[float]]:
    """Pixel accuracy in percent of a two-layer network with each of the modules in its middle."""
    width = 16
    scores: dict[str, list[float]] = {name: [] for name in middles}
    for seed in seeds:
        for name, make in middles.items():
            torch.manual_seed(seed)
            middle = make(width)
            out = getattr(middle, "out_channels", width)
            net = nn.Sequential(
                nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
                middle, nn.Conv2d(out, classes, 1),
            )  # fmt: skip
            adam = torch.optim.Adam(net.parameters(), lr=1e-2)
            fit(net, *train, epochs=epochs, batch_size=50, optimizer=adam, seed=seed, loss=F.cross_entropy)
            net.eval()
            with torch.no_grad():
                guess = net(test[0]).argmax(1)
            known = test[1] >= 0
            scores[name].append(100 * float((guess == test[1])[known].float().mean()))
    return scores
