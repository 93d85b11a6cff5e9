"""DUC decodes detail that interpolated scores lose; HDC leaves no holes in the receptive field."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import mnist5k
from zoo.claims.train import fit
from zoo.convolution.hybrid_dilated_conv import HybridDilatedConv
from zoo.upsampling.dense_upsampling_conv import DenseUpsamplingConv


def _interpolated() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(32, 2, 3, padding=1), nn.Upsample(scale_factor=4, mode="bilinear", align_corners=False)
    )


def finer_than_interpolation(seeds: Sequence[int]) -> Outcome:
    """Strokes of digits segmented from features at a quarter of the resolution."""
    data = mnist5k()
    x, test = data.x_train[:1500], data.x_test[:500]
    y, y_test = ((v[:, 0] > 0.5).long() for v in (x, test))
    iou: dict[str, list[float]] = {"bilinear": [], "duc": []}
    for seed in seeds:
        for name in iou:
            torch.manual_seed(seed)
            net = nn.Sequential(
                nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(),
                nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
                DenseUpsamplingConv(32, 2, 4) if name == "duc" else _interpolated(),
            )  # fmt: skip
            adam = torch.optim.Adam(net.parameters(), lr=3e-3)
            fit(net, x, y, epochs=6, batch_size=50, optimizer=adam, seed=seed, loss=F.cross_entropy)
            with torch.no_grad():
                guess = net(test).argmax(1).bool()
            truth = y_test.bool()
            iou[name].append(100 * float((guess & truth).sum() / (guess | truth).sum()))
    gain = min(a - b for a, b in zip(iou["duc"], iou["bilinear"], strict=True))
    return Outcome(
        verdict(gain >= 5),
        {f"{name}_iou": mean_and_spread(v) for name, v in iou.items()} | {"smallest_gain": round(gain, 2)},
        "MNIST 28 x 28, stroke against background from a 7 x 7 map of 32 channels; scores enlarged "
        "bilinearly or by DUC; "
        "Adam 3e-3, 6 epochs, 1500 images",
        "IoU of the strokes at least 5 points higher with DUC for every seed (DUC has 16 times the weights "
        "in its layer)",
    )


def no_gridding(seeds: Sequence[int]) -> Outcome:
    """Share of the receptive field that has no influence on the centre, in random networks."""
    schedules = {"2-2-2": (2, 2, 2), "1-2-9": (1, 2, 9), "1-2-5": (1, 2, 5), "1-2-3": (1, 2, 3)}
    holes: dict[str, list[float]] = {name: [] for name in schedules}
    for seed in seeds:
        for name, rates in schedules.items():
            torch.manual_seed(seed)
            reach = sum(rates)
            layer = HybridDilatedConv(4, rates, norm_layer=nn.Identity, strict=False).double()
            x = torch.rand(8, 4, 2 * reach + 1, 2 * reach + 1, dtype=torch.float64, requires_grad=True)
            (g,) = torch.autograd.grad(layer(x)[:, :, reach, reach].sum(), x)
            holes[name].append(100 * float((g.abs().sum((0, 1)) == 0).float().mean()))
    return Outcome(
        verdict(max(holes["1-2-5"]) == 0, min(holes["2-2-2"]) > 50),
        {f"holes_percent_{name}": mean_and_spread(v) for name, v in holes.items()},
        "three 3 x 3 convolutions with ReLU, random weights, gradient of the centre with respect to the "
        "input, 8 inputs",
        "rates 1-2-5 leave no position of the receptive field out, 2-2-2 more than half of them, for every seed",
    )
