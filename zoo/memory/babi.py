"""The 20 bAbI tasks (Weston et al., arXiv 1502.05698): a seeded generator, the reader of the file format, a data set."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoo.memory import _babi_logic as logic
from zoo.memory import _babi_world as world
from zoo.memory._babi_story import Example, Story, parse
from zoo.memory._babi_words import WORDS as WORDS

TASKS: dict[int, tuple[str, Callable[[Random], Story]]] = {
    1: ("single supporting fact", lambda rng: world.where_is_actor(rng, 1)),
    2: ("two supporting facts", lambda rng: world.objects(rng, 2)),
    3: ("three supporting facts", lambda rng: world.objects(rng, 3)),
    4: ("two argument relations", logic.two_arguments),
    5: ("three argument relations", world.giving),
    6: ("yes/no questions", lambda rng: world.where_is_actor(rng, 6)),
    7: ("counting", lambda rng: world.objects(rng, 7)),
    8: ("lists/sets", lambda rng: world.objects(rng, 8)),
    9: ("simple negation", lambda rng: world.uncertain(rng, 9)),
    10: ("indefinite knowledge", lambda rng: world.uncertain(rng, 10)),
    11: ("basic coreference", lambda rng: world.where_is_actor(rng, 11)),
    12: ("conjunction", lambda rng: world.where_is_actor(rng, 12)),
    13: ("compound coreference", lambda rng: world.where_is_actor(rng, 13)),
    14: ("time reasoning", world.times),
    15: ("basic deduction", logic.deduction),
    16: ("basic induction", logic.induction),
    17: ("positional reasoning", logic.positions),
    18: ("size reasoning", logic.sizes),
    19: ("path finding", logic.paths),
    20: ("agent's motivations", logic.motivations),
}


def words(text: str) -> list[str]:
    """Lower-case words without the final mark; an answer such as ``milk,football`` stays one word."""
    return re.findall(r"[a-z']+(?:,[a-z]+)*", text.lower())


def stories(task: int, questions: int, seed: int = 0, exclude: frozenset[Example] = frozenset()) -> list[Story]:
    """Stories with at least ``questions`` questions in all; none repeats an example of another or of ``exclude``."""
    if task not in TASKS:
        raise ValueError(f"babi has the tasks 1 to 20, received {task!r}")
    rng = Random(f"babi {task} {seed}")
    seen, found, count, misses = set(exclude), list[Story](), 0, 0
    while count < questions:
        story = TASKS[task][1](rng)
        examples = story.examples()
        if seen.intersection(examples):
            misses += 1
            if misses > 200 + 20 * questions:
                raise ValueError(f"babi task {task} has too few different stories for {questions} questions")
            continue
        seen.update(examples)
        found.append(story)
        count += len(examples)
    return found


def generate(task: int, questions: int, seed: int = 0, exclude: frozenset[Example] = frozenset()) -> list[Example]:
    """Exactly ``questions`` examples of a task; the same for the same arguments on every machine."""
    made = stories(task, questions, seed, exclude)
    return [example for story in made for example in story.examples()][:questions]


def read(path: str | Path) -> list[Example]:
    """Examples of a data file of the released bAbI sets."""
    return [e for story in parse(Path(path).read_text(encoding="utf-8")) for e in story.examples()]


def majority(train: Sequence[Example], test: Sequence[Example]) -> float:
    """Accuracy in percent of always giving the most frequent training answer: what tasks 6, 7, 9, 10, 17, 18 start at."""
    answers = [e.answer for e in train]
    best = max(sorted(set(answers)), key=answers.count)
    return 100 * sum(e.answer == best for e in test) / len(test)


class BabiDataset(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """One task as tensors: ``(story, question, answer)`` of word indices.

    The vocabulary is that of training and test split together, sorted, from 1, unless one is given; 0 pads. The story is ``(memory, J)``, most
    recent sentence first; the question ``(J,)``; the answer a number. Test stories share no example with training.

    Attributes:
        supports: slots of the supporting sentences of every example, the oldest first, -1 for none ``(N, S)``; those
            that the memory has no room for are left out.

    Args:
        task: 1 to 20.
        train: the training or the test split.
        questions: of each split (paper: 1000).
        seed: of both splits.
        memory: sentences that are kept.
        examples: ``(train, test)`` to use in place of generated ones, as from :func:`read`.
        vocabulary: words in the order of their indices from 1, as :data:`WORDS`, which covers the generators of all
            tasks; default: the words of the data.

    Raises:
        ValueError: an unknown task, fewer than one question or slot, or a word that ``vocabulary`` lacks.
    """

    def __init__(
        self,
        task: int = 1,
        train: bool = True,
        questions: int = 1000,
        seed: int = 0,
        memory: int = 50,
        examples: tuple[Sequence[Example], Sequence[Example]] | None = None,
        vocabulary: Sequence[str] | None = None,
    ) -> None:
        if questions < 1 or memory < 1:
            raise ValueError(f"babi needs questions >= 1 and memory >= 1, received {questions} and {memory}")
        if examples is None:
            first = generate(task, questions, 2 * seed)
            examples = first, generate(task, questions, 2 * seed + 1, frozenset(first))
        self.examples = list(examples[0 if train else 1])
        both = [*examples[0], *examples[1]]
        texts = {text for e in both for text in (*e.statements, e.question)}
        found = {w for text in texts for w in words(text)} | {e.answer.lower() for e in both}
        self.vocabulary = {word: i for i, word in enumerate(sorted(found) if vocabulary is None else vocabulary, 1)}
        if missing := sorted(found - self.vocabulary.keys()):
            raise ValueError(
                f"babi: the vocabulary lacks {len(missing)} words of task {task}: {', '.join(missing[:8])}"
            )
        self.words = max(len(words(text)) for text in texts)
        self.memory = memory
        encoded = {text: self._encode(text) for text in texts}
        blank = torch.zeros(self.words, dtype=torch.int64)
        rows = []
        for e in self.examples:
            recent = [encoded[s] for s in reversed(e.statements)][:memory]
            rows.append(torch.stack(recent + [blank] * (memory - len(recent))))
        self.stories = torch.stack(rows)
        self.questions = torch.stack([encoded[e.question] for e in self.examples])
        self.answers = torch.tensor([self.vocabulary[e.answer.lower()] for e in self.examples])
        slots = [[s for i in e.support if (s := len(e.statements) - 1 - i) < memory] for e in self.examples]
        most = max(1, *map(len, slots))
        self.supports = torch.tensor([s + [-1] * (most - len(s)) for s in slots])

    def _encode(self, text: str) -> Tensor:
        index = [self.vocabulary[w] for w in words(text)]
        return torch.tensor(index + [0] * (self.words - len(index)))

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.stories[index], self.questions[index], self.answers[index]
