"""Claim of Towards AI-Complete Question Answering: tasks isolate skills that simple baselines lack."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.memory.babi import TASKS, BabiDataset, majority

QUESTIONS = 400


def bags(data: BabiDataset) -> Tensor:
    """Counts of the words of the story and, apart, of the question: ``(N, 2 V)``."""
    size = len(data.vocabulary) + 1
    story = torch.nn.functional.one_hot(data.stories.flatten(1), size).sum(1)
    question = torch.nn.functional.one_hot(data.questions, size).sum(1)
    both = torch.cat([story, question], 1).float()
    both[:, [0, size]] = 0  # padding
    return both


def bag_accuracy(task: int, seed: int) -> tuple[float, float]:
    """A linear classifier on bags of words, and the majority answer."""
    train, test = (BabiDataset(task, split, QUESTIONS, seed=seed) for split in (True, False))
    x, x_test = bags(train), bags(test)
    torch.manual_seed(seed)
    model = torch.nn.Linear(x.shape[1], len(train.vocabulary) + 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        loss = torch.nn.functional.cross_entropy(model(x), train.answers)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        score = 100 * float((model(x_test).argmax(1) == test.answers).float().mean())
    return score, majority(train.examples, test.examples)


def bags_fail(seeds: Sequence[int]) -> Outcome:
    """A bag of words passes (95 %) hardly any task; the paper's n-gram baseline has a mean of 34 %."""
    scores = {task: [bag_accuracy(task, seed) for seed in seeds] for task in TASKS}
    mean = {task: sum(s[0] for s in v) / len(v) for task, v in scores.items()}
    overall = [sum(scores[task][i][0] for task in TASKS) / 20 for i in range(len(seeds))]
    passed = sorted(task for task, score in mean.items() if score >= 95)
    return Outcome(
        status=verdict(len(passed) <= 1, sum(overall) / len(overall) < 60),
        measured={
            "mean accuracy % over 20 tasks": mean_and_spread(overall),
            "tasks passed": passed,
            **{f"task {task} %": round(score, 1) for task, score in mean.items()},
            **{f"task {t}, majority %": round(scores[t][0][1], 1) for t in (6, 7, 9, 10, 17, 18)},
        },
        setting=f"generated tasks, {QUESTIONS} questions each for training and test, linear classifier on bags of words",
        tolerance="at most one task at 95 % or more; mean accuracy below 60 %",
    )
