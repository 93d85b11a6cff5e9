"""MemN2N on single bAbI tasks, trained as the authors' code trains it.

SGD on summed losses in batches of 32, gradients capped at a norm of 40, rate 0.005: first ``LINEAR`` epochs without the
softmax of the attention ("linear start"), then the full run with it, the rate halved every 25 epochs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.claims.train import batches
from zoo.memory.babi import WORDS, BabiDataset
from zoo.memory.memn2n import MemN2N

TASKS = (1, 2, 14, 15)
LINEAR, EPOCHS, LR, HALVE, CAP, BATCH, QUESTIONS, MEMORY = 20, 100, 0.005, 25, 40.0, 32, 1000, 50
RESTARTS = 1


class Task(NamedTuple):
    """A task's tensors, trimmed to its longest story."""

    stories: Tensor
    questions: Tensor
    answers: Tensor


def load(task: int, train: bool, seed: int = 0, questions: int = QUESTIONS) -> Task:
    """Generated questions in the vocabulary of all tasks; the splits share no example."""
    data = BabiDataset(task, train, questions, seed, MEMORY, vocabulary=WORDS)
    return Task(data.stories, data.questions, data.answers)


def trimmed(task: Task) -> Task:
    """Without the slots that no story fills: those would only take part in the softmax with a score of 0."""
    longest = int((task.stories != 0).any(-1).sum(1).max())
    return task._replace(stories=task.stories[:, :longest])


def train(
    model: MemN2N,
    data: Task,
    seed: int,
    linear: int = LINEAR,
    epochs: int = EPOCHS,
    lr: float = LR,
    halve: int = HALVE,
) -> None:
    """In place; ``linear`` epochs without softmax at the full rate, then ``epochs`` with it, the rate halved every ``halve``."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    model.train()
    for epoch in range(linear + epochs):
        model.linear = epoch < linear
        optimizer.param_groups[0]["lr"] = lr * 0.5 ** (max(epoch - linear, 0) // halve)
        for index in batches(len(data.answers), BATCH, generator):
            logits = model(data.stories[index], data.questions[index])
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(logits, data.answers[index], reduction="sum").backward()
            nn.utils.clip_grad_norm_(model.parameters(), CAP)
            optimizer.step()
    model.eval()


@torch.no_grad()
def error(model: nn.Module, data: Task) -> float:
    """Wrong answers in percent."""
    return 100 * float((model(data.stories, data.questions).argmax(1) != data.answers).float().mean())


def run(task: int, seed: int, **options: Any) -> tuple[MemN2N, dict[str, float]]:
    """One training on a task: the model, and its errors in percent. ``options`` go to :class:`MemN2N` and :func:`train`."""
    schedule = {k: options.pop(k) for k in ("linear", "epochs", "lr") if k in options}
    torch.manual_seed(seed)
    model = MemN2N(len(WORDS) + 1, **{"memory": MEMORY, **options})
    known, fresh = trimmed(load(task, True)), trimmed(load(task, False))
    train(model, known, seed, **schedule)
    return model, {"train": round(error(model, known), 2), "test": round(error(model, fresh), 2)}


def make(task: int, restarts: int = RESTARTS) -> tuple[MemN2N, dict[str, float]]:
    """The restart with the lowest training error, as in the paper (which takes ten)."""
    return min((run(task, seed) for seed in range(restarts)), key=lambda found: found[1]["train"])
