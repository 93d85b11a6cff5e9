"""Claims of SGDR: what happens at a restart, and what the snapshots before restarts are good for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import mnist5k
from zoo.claims.train import batches

T_0, T_MULT, CYCLES, BATCH = 60, 2, 3, 64  # cycles of 60, 120 and 240 steps
ENDS = [60, 180, 420]
SETTING = (
    "MNIST-5k, MLP 784-256-10, SGD momentum 0.9, lr 0.1, batch 64, cycles of 60, 120 and 240 steps, "
    "training loss over all 4000 images"
)


def run(seed: int) -> tuple[list[float], list[Tensor]]:
    """Full training loss after every fourth step, and the test probabilities at the three cycle ends."""
    data = mnist5k()
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = CosineAnnealingWarmRestarts(optimizer, T_0, T_MULT)
    generator = torch.Generator().manual_seed(seed)
    losses: list[float] = []
    snapshots: list[Tensor] = []
    step = 0
    while step < ENDS[-1] + 20:
        for index in batches(len(data.x_train), BATCH, generator):
            loss = F.cross_entropy(model(data.x_train[index]), data.y_train[index])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
            step += 1
            with torch.no_grad():
                if step % 4 == 0:
                    losses.append(float(F.cross_entropy(model(data.x_train), data.y_train)))
                if step in ENDS:
                    snapshots.append(model(data.x_test).softmax(1))
            if step == ENDS[-1] + 20:
                break
    return losses, snapshots


def restart_dip(seeds: Sequence[int]) -> Outcome:
    """Every cycle ends in the lowest loss so far (to 5 %), and the loss rises within 20 steps after the restart."""
    lowest, rises = [], []
    for seed in seeds:
        losses, _ = run(seed)
        for end in ENDS:
            at = losses[end // 4 - 1]
            lowest.append(at / min(losses[: end // 4]))
            rises.append(max(losses[end // 4 : end // 4 + 5]) / at)
    return Outcome(
        status=verdict(max(lowest) <= 1.05, min(rises) > 1.05),
        measured={
            "loss at a cycle's end / lowest loss until then": mean_and_spread(lowest),
            "highest loss within 20 steps after / loss at the end": mean_and_spread(rises),
        },
        setting=SETTING,
        tolerance="at every cycle end of every seed: within 5 % of the lowest loss until then, then a rise above 5 %",
    )


def snapshot_ensemble(seeds: Sequence[int]) -> Outcome:
    """The mean prediction of the snapshots before restarts errs less than the last snapshot alone."""
    labels = mnist5k().y_test
    single, ensemble = [], []
    for seed in seeds:
        _, snapshots = run(seed)
        single.append(100 * float((snapshots[-1].argmax(1) != labels).float().mean()))
        ensemble.append(100 * float((torch.stack(snapshots).mean(0).argmax(1) != labels).float().mean()))
    return Outcome(
        status=verdict(sum(ensemble) < sum(single)),
        measured={"last snapshot, test error %": mean_and_spread(single), "three snapshots": mean_and_spread(ensemble)},
        setting=SETTING + "; 1000 test images",
        tolerance="mean test error of the ensemble below that of the last snapshot",
    )
