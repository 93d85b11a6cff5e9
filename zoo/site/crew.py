"""Work of a build shared out over forks of its process."""

from __future__ import annotations

import logging
import os
import pickle
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: A message from worker to parent: logger, level, text.
Message = tuple[str, int, str]


class Crew:
    """This process and forks of it take pages from one queue until it is empty.

    A fork has all that was loaded. The queue is a pipe that holds the number of each page, so that nobody takes one twice. What a
    worker made comes back as one file at its end, with the warnings that it logged. A page that failed anywhere has no result: the
    caller makes it again and fails as it would have done alone.
    """

    #: Fewer pages than this are done sooner than a process has started.
    WORTH = 6
    #: What a pipe holds on every system, two bytes a page; more pages are a caller's to do.
    LARGEST = 4096 // 2

    def __init__(self, names: list[str], work: Callable[[str], Any], workers: int) -> None:
        self.made: dict[str, Any] = {}
        if workers < 1 or len(names) < self.WORTH:
            return
        rest = names
        while rest:
            now, rest = rest[: self.LARGEST], rest[self.LARGEST :]
            self._together(now, work, workers)

    def get(self, name: str) -> Any | None:
        """What was made of a page; None when that is still to be done."""
        return self.made.get(name)

    def _together(self, names: list[str], work: Callable[[str], Any], workers: int) -> None:
        take, give = os.pipe()
        os.write(give, b"".join(i.to_bytes(2, "big") for i in range(len(names))))
        os.close(give)
        with tempfile.TemporaryDirectory(prefix="zoo-docs-") as folder:
            pids = []
            sys.stdout.flush()
            sys.stderr.flush()
            for i in range(workers):
                pid = os.fork()
                if pid == 0:
                    _serve(Path(folder, str(i)), take, names, work)
                pids.append(pid)
            for name in _queue(take, names):
                try:
                    self.made[name] = work(name)
                except Exception:  # again when it is this page's turn, where it counts
                    continue
            os.close(take)
            for i, pid in enumerate(pids):
                os.waitpid(pid, 0)
                path = Path(folder, str(i))
                if path.exists():
                    results, messages = pickle.loads(path.read_bytes())  # written by our own fork a moment ago
                    self.made |= results
                    for logger, level, text in messages:
                        logging.getLogger(logger).log(level, text)


def _queue(take: int, names: list[str]) -> Any:
    while number := os.read(take, 2):
        yield names[int.from_bytes(number, "big")]


def _serve(path: Path, take: int, names: list[str], work: Callable[[str], Any]) -> None:
    """The life of a worker."""
    messages: list[Message] = []
    results: dict[str, Any] = {}
    handler = logging.Handler()
    setattr(handler, "emit", lambda r: messages.append((r.name, r.levelno, r.getMessage())))  # noqa: B010
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and logger.handlers:
            logger.handlers = [handler] if name == "mkdocs" else []
    logging.root.handlers = []
    try:
        for name in _queue(take, names):
            before = len(messages)
            try:
                results[name] = work(name)
            except Exception:  # the parent does it again and shows what happened
                del messages[before:]
        part = path.with_suffix(".part")
        part.write_bytes(pickle.dumps((results, messages)))
        part.rename(path)
    finally:
        os._exit(0)
