"""Two baselines of the bAbI paper's kind: an n-gram classifier and an LSTM that reads the story word by word."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.claims.train import batches
from zoo.memory._babi_story import Example
from zoo.memory.babi import BabiDataset, words
from zoo.training.bundled.memn2n import Task, error


def grams(text: str, longest: int = 3) -> list[str]:
    """Runs of one to ``longest`` words."""
    found = words(text)
    return [" ".join(found[i : i + n]) for n in range(1, longest + 1) for i in range(len(found) - n + 1)]


def features(example: Example) -> list[str]:
    """N-grams of the sentences that share a word with the question, and, apart, those of the question."""
    asked = set(words(example.question))
    story = [g for s in example.statements if asked & set(words(s)) for g in grams(s)]
    return story + [f"? {g}" for g in grams(example.question)]


def n_gram_error(train: BabiDataset, test: BabiDataset, seed: int = 0, epochs: int = 100) -> float:
    """Test error in percent of a linear classifier on counts of n-grams that training has seen; Adam, full batches."""
    kept = [features(e) for e in train.examples]
    known = {g: i for i, g in enumerate(sorted({g for row in kept for g in row}))}

    def counts(rows: list[list[str]]) -> Tensor:
        x = torch.zeros(len(rows), len(known))
        for i, row in enumerate(rows):
            for g in row:
                if g in known:
                    x[i, known[g]] += 1
        return x

    x, x_test = counts(kept), counts([features(e) for e in test.examples])
    torch.manual_seed(seed)
    model = nn.Linear(len(known), len(train.vocabulary) + 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(epochs):
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(x), train.answers).backward()
        optimizer.step()
    with torch.no_grad():
        return 100 * float((model(x_test).argmax(1) != test.answers).float().mean())


class Reader(nn.Module):
    """An LSTM over the words of the story, oldest first, then those of the question; its last state gives the answer."""

    def __init__(self, vocabulary: int, dim: int = 20, hidden: int = 50) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, dim, padding_idx=0)
        self.lstm = nn.LSTM(dim, hidden, batch_first=True)
        self.answer = nn.Linear(hidden, vocabulary)

    def forward(self, stories: Tensor, questions: Tensor) -> Tensor:
        text = torch.cat([stories.flip(1).flatten(1), questions], 1)
        order = (
            (text != 0).to(torch.int8).argsort(dim=1, stable=True)
        )  # padding first, the words in their order after it
        text = text.gather(1, order)[:, -int((text != 0).sum(1).max()) :]
        return self.answer(self.lstm(self.embedding(text))[0][:, -1])


def lstm_error(train: Task, test: Task, seed: int = 0, epochs: int = 20) -> float:
    """Test error in percent; Adam 3e-3, batches of 50, gradients capped at a norm of 10."""
    torch.manual_seed(seed)
    vocabulary = 1 + max(int(t.max()) for pair in (train, test) for t in pair)
    model, generator = Reader(vocabulary), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for index in batches(len(train.answers), 50, generator):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(train.stories[index], train.questions[index]), train.answers[index]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
    with torch.no_grad():
        return error(model, test)
