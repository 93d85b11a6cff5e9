"""Claim of End-To-End Memory Networks: questions that need two facts need two hops."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.train import batches
from zoo.memory.babi import BabiDataset
from zoo.memory.memn2n import MemN2N

QUESTIONS, EPOCHS, LINEAR, MEMORY, LR = 1000, 50, 20, 30, 0.005


def accuracy_with(hops: int, seed: int, task: int = 2) -> float:
    """Test accuracy in percent after linear start and training as in the authors' code: SGD on summed losses."""
    train, test = (BabiDataset(task, split, QUESTIONS, seed=seed, memory=MEMORY) for split in (True, False))
    torch.manual_seed(seed)
    model = MemN2N(len(train.vocabulary) + 1, 20, hops, MEMORY)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(EPOCHS):
        model.linear = epoch < LINEAR
        optimizer.param_groups[0]["lr"] = LR * 0.5 ** (max(epoch - LINEAR, 0) // 15)
        for index in batches(QUESTIONS, 32, generator):
            logits = model(train.stories[index], train.questions[index])
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(logits, train.answers[index], reduction="sum").backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 40.0)
            optimizer.step()
    model.eval()
    with torch.no_grad():
        return 100 * float((model(test.stories, test.questions).argmax(1) == test.answers).float().mean())


def two_facts_need_two_hops(seeds: Sequence[int]) -> Outcome:
    """Task 2 with one hop, two and three."""
    found = {hops: [accuracy_with(hops, seed) for seed in seeds] for hops in (1, 2, 3)}
    mean = {hops: sum(v) / len(v) for hops, v in found.items()}
    return Outcome(
        status=verdict(mean[2] > mean[1] + 20, mean[3] > mean[1] + 20),
        measured={f"test accuracy %, hops: {hops}": mean_and_spread(v) for hops, v in found.items()},
        setting=f"generated task 2, {QUESTIONS} questions each for training and test, d 20, SGD {LR} on summed losses, "
        f"batch 32, {LINEAR} linear of {EPOCHS} epochs, time noise 0.1",
        tolerance="mean accuracy with two hops and with three more than 20 points above one hop",
    )
