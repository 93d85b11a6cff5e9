"""Claim of Towards AI-Complete Question Answering: a memory network that decides how many facts it looks up."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.train import batches
from zoo.memory.babi import WORDS, BabiDataset
from zoo.memory.memnn import MemNN

TASKS, QUESTIONS, MEMORY, EPOCHS, LR = (1, 2), 500, 30, 20, 3e-3


def together(train: bool, seed: int) -> tuple[Tensor, ...]:
    """Stories, questions, answers and supports of one and of two facts, one task after the other."""
    parts = [BabiDataset(t, train, QUESTIONS, seed, MEMORY, vocabulary=WORDS) for t in TASKS]
    words, facts = max(p.words for p in parts), max(p.supports.shape[1] for p in parts)
    return (
        torch.cat([F.pad(p.stories, (0, words - p.words)) for p in parts]),
        torch.cat([F.pad(p.questions, (0, words - p.words)) for p in parts]),
        torch.cat([p.answers for p in parts]),
        torch.cat([F.pad(p.supports, (0, facts - p.supports.shape[1]), value=-1) for p in parts]),
    )


def accuracy_with(hops: int | None, seed: int) -> tuple[list[float], float]:
    """Test accuracy in percent of each task, and of how many questions the number of facts is right."""
    data = together(True, seed)
    torch.manual_seed(seed)
    model = MemNN(len(WORDS) + 1, 50, hops, memory=MEMORY, nonlinear=False)
    optimizer, generator = torch.optim.Adam(model.parameters(), lr=LR), torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for index in batches(len(data[2]), 32, generator):
            stories, questions, answers, supports = (part[index] for part in data)
            loss = model.loss(stories, questions, answers, supports).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    stories, questions, answers, supports = together(False, seed)
    with torch.no_grad():
        chosen, logits = model.retrieve(stories, questions)
    right = (logits.argmax(1) == answers).float().view(len(TASKS), -1).mean(1)
    counted = ((chosen >= 0).sum(1) == (supports >= 0).sum(1)).float().mean()
    return (100 * right).tolist(), 100 * float(counted)


def adaptive_facts(seeds: Sequence[int]) -> Outcome:
    """One network for tasks of one and of two facts: adaptive, and with either number fixed."""
    found = {hops: [accuracy_with(hops, seed) for seed in seeds] for hops in (None, 1, 2)}
    means = {hops: [sum(tasks) / len(tasks) for tasks, _ in v] for hops, v in found.items()}
    level = {hops: sum(v) / len(v) for hops, v in means.items()}
    counted = [c for _, c in found[None]]
    measured: dict[str, object] = {}
    for hops, runs in found.items():
        name = "adaptive" if hops is None else f"hops: {hops}"
        for i, task in enumerate(TASKS):
            measured[f"task {task} accuracy %, {name}"] = mean_and_spread([tasks[i] for tasks, _ in runs])
    measured["questions with the right number of facts %, adaptive"] = mean_and_spread(counted)
    return Outcome(
        status=verdict(level[None] > max(level[1], level[2]), sum(counted) / len(counted) > 90),
        measured=measured,
        setting=f"generated tasks 1 and 2 together, {QUESTIONS} questions each for training and for test, strong supervision, "
        f"no non-linearity, d 50, {EPOCHS} epochs of Adam at {LR}, batch 32",
        tolerance="mean accuracy of both tasks above that of one and of two look-ups; the number of facts right in 90 %",
    )
