"""Sub-pixel convolution: super-resolution against interpolation, and what the initialisation does to checkerboards."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import mnist5k
from zoo.claims.train import fit
from zoo.upsampling.sub_pixel_conv import SubPixelConv


def _espcn(scale: int, icnr: bool) -> nn.Sequential:
    """The paper's network at a quarter of its width: 5 x 5, 3 x 3, sub-pixel 3 x 3, tanh between."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2), nn.Tanh(), nn.Conv2d(16, 8, 3, padding=1), nn.Tanh(),
        SubPixelConv(8, 1, scale, icnr=icnr),
    )  # fmt: skip


def _psnr(prediction: Tensor, target: Tensor) -> float:
    return float(-10 * torch.log10((prediction.clamp(0, 1) - target).square().mean()))


def super_resolution(seeds: Sequence[int]) -> Outcome:
    """MNIST at half size brought back to 28 x 28."""
    data = mnist5k()
    train, test = data.x_train[:1500], data.x_test[:500]
    low, low_test = (F.avg_pool2d(x, 2) for x in (train, test))
    scores: list[float] = []
    for seed in seeds:
        torch.manual_seed(seed)
        net = _espcn(2, icnr=True)
        adam = torch.optim.Adam(net.parameters(), lr=3e-3)
        fit(net, low, train, epochs=6, batch_size=50, optimizer=adam, seed=seed, loss=F.mse_loss)
        with torch.no_grad():
            scores.append(_psnr(net(low_test), test))
    fixed = {
        mode: round(_psnr(F.interpolate(low_test, scale_factor=2, mode=mode, align_corners=False), test), 2)
        for mode in ("bilinear", "bicubic")
    }
    gain = min(scores) - max(fixed.values())
    return Outcome(
        verdict(gain >= 1),
        {"espcn_psnr_db": mean_and_spread(scores), "smallest_gain_db": round(gain, 2)}
        | {f"{mode}_psnr_db": v for mode, v in fixed.items()},
        "MNIST 14 x 14 (means of 2 x 2) to 28 x 28, 1500 images, layers of 16, 8, 1 channels; Adam 3e-3, 6 epochs",
        "at least 1 dB above the better of bilinear and bicubic interpolation for every seed",
    )


def checkerboard(seeds: Sequence[int]) -> Outcome:
    """Energy between the pixels of one cell at initialisation, as a share of the output's variance."""
    x = mnist5k().x_test[:64]
    share: dict[str, list[float]] = {"icnr": [], "independent": []}
    for seed in seeds:
        for name in share:
            torch.manual_seed(seed)
            with torch.no_grad():
                y = SubPixelConv(1, 8, 3, icnr=name == "icnr")(x)
            cells = F.pixel_unshuffle(y, 3).unflatten(1, (8, 9))
            share[name].append(float(cells.var(2, correction=0).mean() / y.var(correction=0)))
    return Outcome(
        verdict(max(share["icnr"]) < 1e-6, min(share["independent"]) > 0.1),
        {f"{name}_share_within_cells": mean_and_spread(v) for name, v in share.items()},
        "one 3 x 3 sub-pixel convolution, scale 3, 8 channels, at initialisation on MNIST images",
        "no variance within cells with ICNR, more than a tenth of all variance with independent filters, every seed",
    )
