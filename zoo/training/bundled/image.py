"""``siren_photo``: one photograph, 128 x 128 pixels, in the weights of a sine network.

The photograph is a square of ``china.jpg``, which scikit-learn ships: by danielbuechele,
https://www.flickr.com/photos/danielbuechele/6061409035/, CC BY 2.0. 288 x 288 pixels of it are averaged down.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.activations.siren import SirenNet, coordinate_grid
from zoo.models.small import siren_image

SIDE, STEPS, POINTS, LR = 128, 2500, 4096, 1e-3


def photograph() -> Tensor:
    """The colours of the grid's points in [-1, 1], ``(SIDE * SIDE, 3)``."""
    from sklearn.datasets import load_sample_image

    image = torch.tensor(load_sample_image("china.jpg"), dtype=torch.float32).permute(2, 0, 1)
    small = nn.functional.interpolate(image[None, :, 50:338, 150:438], (SIDE, SIDE), mode="area")[0]
    return (small / 127.5 - 1).flatten(1).T.contiguous()


@torch.no_grad()
def psnr(model: nn.Module, target: Tensor) -> float:
    """Peak signal-to-noise ratio in dB over all pixels, colours clamped to their range of 2."""
    wrong = (model(coordinate_grid(SIDE, SIDE)).clamp(-1, 1) - target).square().mean()
    return float(10 * torch.log10(4 / wrong))


def make(seed: int = 0) -> tuple[SirenNet, dict[str, float]]:
    """Adam on random points of the grid, the rate falling to zero along a cosine."""
    torch.manual_seed(seed)
    model, points, target = siren_image(), coordinate_grid(SIDE, SIDE), photograph()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        index = torch.randint(len(points), (POINTS,))
        optimizer.zero_grad(set_to_none=True)
        (model(points[index]) - target[index]).square().mean().backward()
        optimizer.step()
        schedule.step()
    return model, {"PSNR": round(psnr(model, target), 2)}
