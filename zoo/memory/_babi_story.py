"""The lines of a bAbI story, and the file format they are written in and read from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Example(NamedTuple):
    """One question with the statements before it, oldest first; ``support`` are indices into ``statements``."""

    statements: tuple[str, ...]
    question: str
    answer: str
    support: tuple[int, ...]


class Question(NamedTuple):
    text: str
    answer: str
    support: tuple[int, ...]  # line numbers, as in the files: from 1, questions counted


@dataclass
class Story:
    """Lines in order; ``say`` and ``ask`` return or use line numbers."""

    lines: list[str | Question] = field(default_factory=list)

    def say(self, text: str) -> int:
        self.lines.append(text)
        return len(self.lines)

    def ask(self, text: str, answer: str, support: Iterable[int]) -> None:
        self.lines.append(Question(text, answer, tuple(sorted(set(support)))))

    @property
    def questions(self) -> int:
        return sum(isinstance(line, Question) for line in self.lines)

    def examples(self) -> list[Example]:
        statements: list[str] = []
        position: dict[int, int] = {}
        found = []
        for number, line in enumerate(self.lines, 1):
            if isinstance(line, Question):
                support = tuple(position[n] for n in line.support)
                found.append(Example(tuple(statements), line.text, line.answer, support))
            else:
                position[number] = len(statements)
                statements.append(line)
        return found


def write(stories: Sequence[Story]) -> str:
    """The text of a data file: numbered lines that start at 1 for each story; question, answer and support by tabs."""
    rows = []
    for story in stories:
        for number, line in enumerate(story.lines, 1):
            if isinstance(line, Question):
                rows.append(f"{number} {line.text} \t{line.answer}\t{' '.join(map(str, line.support))}")
            else:
                rows.append(f"{number} {line}")
    return "\n".join(rows) + "\n"


def parse(text: str) -> list[Story]:
    """Stories of a data file, the released ones and those of the official generator alike.

    Raises:
        ValueError: a line without number, with numbers out of order, or a question whose support is no statement
            before it; the message names the line of the file.
    """
    stories: list[Story] = []
    for row, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        number, _, rest = line.strip("\n").partition(" ")
        if not number.isdigit():
            raise ValueError(f"line {row}: a bAbI line starts with its number, received {line[:40]!r}")
        if number == "1":
            stories.append(Story())
        if not stories or int(number) != len(stories[-1].lines) + 1:
            raise ValueError(f"line {row}: expected the next number of the story, received {number}")
        story = stories[-1]
        parts = rest.split("\t")
        if len(parts) == 1:
            story.say(rest.strip())
            continue
        support = tuple(int(n) for n in parts[2].split()) if len(parts) > 2 else ()
        for n in support:
            if not 1 <= n < int(number) or isinstance(story.lines[n - 1], Question):
                raise ValueError(f"line {row}: support {n} is no statement before the question")
        story.lines.append(Question(parts[0].strip(), parts[1].strip(), support))
    return stories
