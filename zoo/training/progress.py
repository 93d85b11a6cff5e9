"""Progress for people, curves for TensorBoard where it is installed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

#: Where TensorBoard's files lie in the folder of a run.
FOLDER = "tensorboard"


class Progress:
    """A bar over the steps of a run, drawn ten times a second at most; nothing at all without ``show``."""

    def __init__(self, title: str, steps: int, done: int, show: bool) -> None:
        self.show, self._next = show, 0.0
        if show:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )  # fmt: skip
            self._bar = Bar(*columns, console=Console(stderr=True), auto_refresh=False)
            self._task = self._bar.add_task(title, total=steps, completed=done, note="")

    def __enter__(self) -> Progress:
        if self.show:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.show:
            self._bar.refresh()
            self._bar.stop()

    def advance(self, step: int) -> None:
        if self.show and (now := time.monotonic()) >= self._next:
            self._next = now + 0.1
            self._bar.update(self._task, completed=step)
            self._bar.refresh()

    def note(self, row: dict[str, Any]) -> None:
        """Show the figures of an epoch beside the bar."""
        if self.show:
            validation = "" if row["validation"] is None else f"  validation {row['validation']:.1f}"
            note = f"epoch {row['epoch']}  loss {row['loss']:.3f}{validation}  test {row['test']:.1f}"
            self._bar.update(self._task, completed=row["step"], note=note)
            self._bar.refresh()


class TensorBoard:
    """Writes the numbers of each epoch under ``<folder>/tensorboard`` if the package ``tensorboard`` is installed."""

    def __init__(self, folder: Path | None) -> None:
        self._writer: Any = None
        if folder is None:
            return
        try:  # a look for the package is not enough: any folder of that name would count as one
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._writer = SummaryWriter(str(folder / FOLDER))

    def add(self, row: dict[str, Any]) -> None:
        if self._writer is not None:
            for name, value in row.items():
                if name not in ("epoch", "step") and value is not None:
                    self._writer.add_scalar(name, value, row["epoch"])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
