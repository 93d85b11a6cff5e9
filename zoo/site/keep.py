"""Files of a built site stay where they are right already; whatever no build wrote goes.

mkdocs empties the folder first and writes everything again. Here a file that would get the content it has is left alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs import utils


class Keeper:
    """From :meth:`start` to :meth:`sweep`, one build into one folder."""

    def __init__(self, site: Path) -> None:
        self.site = site
        self.kept: set[str] = set()
        self.before: dict[str, int] = {}

    def start(self) -> None:
        """Take over cleaning and writing from mkdocs."""
        paths = [os.path.join(folder, name) for folder, names in self._folders() for name in names]
        self.before = {path: os.lstat(path).st_mtime_ns for path in paths}
        whole = {name: getattr(utils, name) for name in ("clean_directory", "write_file", "copy_file")}

        def write(content: bytes, output_path: str) -> None:
            if not self._same(output_path, content):
                whole["write_file"](content, output_path)

        def copy(source_path: str, output_path: str) -> None:
            if not self._same(output_path, Path(source_path)):
                whole["copy_file"](source_path, output_path)

        replaced: dict[str, Any] = {"clean_directory": lambda directory: None, "write_file": write, "copy_file": copy}
        for name, function in replaced.items():
            setattr(utils, name, function)
        self._whole = whole

    def keep(self, path: str) -> None:
        """A file that this build stands by without writing it."""
        self.kept.add(str(Path(path)))

    def _same(self, path: str, content: bytes | Path) -> bool:
        self.keep(path)
        target = Path(path)
        try:
            if isinstance(content, Path):
                if target.stat().st_size != content.stat().st_size:
                    return False
                content = content.read_bytes()
            return target.read_bytes() == content
        except OSError:
            return False

    def sweep(self) -> None:
        """Give back what :meth:`start` took; remove files of earlier builds that this one neither wrote nor stands by."""
        for name, function in self._whole.items():
            setattr(utils, name, function)
        for name, stamp in self.before.items():
            if name not in self.kept and os.path.lexists(name) and os.lstat(name).st_mtime_ns == stamp:
                os.unlink(name)
        for folder, _ in reversed(list(self._folders())):  # what lies in a folder comes before it
            if folder != str(self.site) and not os.listdir(folder):
                os.rmdir(folder)

    def _folders(self) -> Iterator[tuple[str, list[str]]]:
        """Folders and names of the files in them, without hidden ones like ``.git`` of a published site; mkdocs leaves those alone, too."""
        for folder, names, files in os.walk(self.site):
            names[:] = [name for name in names if not name.startswith(".")]
            yield folder, [name for name in files if not name.startswith(".")]
