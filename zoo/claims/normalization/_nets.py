"""The small networks and trainings that several claims of this category share."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn

from zoo.claims.data import digits
from zoo.claims.train import accuracy, fit
from zoo.normalization.batch_renorm import BatchRenorm1d
from zoo.normalization.moving_average_bn import CentredLinear, MovingAverageBatchNorm2d

Norm = Callable[[int], nn.Module]


def cnn(norm: Norm, conv: type[nn.Conv2d] = nn.Conv2d, width: int = 32) -> nn.Sequential:
    """Three convolutions with norm and ReLU, mean over positions, linear classifier; for 8 x 8 digits."""
    layers: list[nn.Module] = []
    for i, (a, b, stride) in enumerate([(1, width, 1), (width, 2 * width, 2), (2 * width, 2 * width, 1)]):
        kind = nn.Conv2d if i == 0 else conv
        layers += [kind(a, b, 3, stride=stride, padding=1, bias=False), norm(b), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10))


class Chunked(nn.Module):
    """In training, shows its layer ``size`` samples at a time: a small normalising batch inside a larger SGD batch."""

    def __init__(self, norm: nn.Module, size: int) -> None:
        super().__init__()
        self.norm, self.size = norm, size

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.norm(part) for part in x.split(self.size)]) if self.training else self.norm(x)


EPOCHS, BATCH, WIDTH, MICRO = 5, 16, 100, 2
SETTING = (
    f"scikit-learn digits (500 held out), MLP 64-{WIDTH}-{WIDTH}-{WIDTH}-10 with ReLU, SGD 0.05 with momentum 0.9, "
    f"SGD batch {BATCH}, {EPOCHS} epochs; normalising batch {MICRO} where a 2 stands behind the name, {BATCH} else"
)


@lru_cache(maxsize=64)
def mlp_accuracy(name: str, seed: int) -> float:
    """Held-out accuracy in percent of the MLP with one norm; ``name`` as in ``bn_2``."""
    torch.manual_seed(seed)
    kind, _, size = name.partition("_")
    data = digits(seed=seed)
    steps = len(data.x_train) // BATCH * EPOCHS * (BATCH // int(size) if size else 1)
    norms: dict[str, Norm] = {
        "bn": nn.BatchNorm1d,
        "brn": lambda c: BatchRenorm1d(c, total_steps=steps),
        "mabn": lambda c: MovingAverageBatchNorm2d(c, buffer_size=BATCH // MICRO),
        "ln": nn.LayerNorm,
        "gn": lambda c: nn.GroupNorm(10, c),
    }
    linear = CentredLinear if kind == "mabn" else nn.Linear
    layers: list[nn.Module] = [nn.Flatten()]
    for i in range(3):
        norm = norms[kind](WIDTH)
        layers += [linear(WIDTH if i else 64, WIDTH), Chunked(norm, int(size)) if size else norm, nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(WIDTH, 10))
    fit(model, data.x_train, data.y_train, epochs=EPOCHS, batch_size=BATCH, lr=0.05, seed=seed)
    return accuracy(model, data.x_test, data.y_test)


def table(names: tuple[str, ...], seeds: tuple[int, ...] | list[int]) -> dict[str, list[float]]:
    """Accuracies by norm, one a seed."""
    return {name: [round(mlp_accuracy(name, seed), 2) for seed in seeds] for name in names}
