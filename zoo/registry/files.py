"""Where zoo's data lie: inside the wheel, or at the root of a checkout."""

from __future__ import annotations

import os
from pathlib import Path

from zoo.errors import RegistryError

PACKAGE = Path(__file__).resolve().parent.parent


def data_root() -> Path:
    """Folder with ``registry.yaml``, ``registry.lock.json`` and ``catalog/``.

    Raises:
        RegistryError: an installation without its data.
    """
    for root in (PACKAGE / "_data", PACKAGE.parent):
        if (root / "registry.yaml").is_file() and (root / "catalog").is_dir():
            return root
    raise RegistryError(
        [
            f"{PACKAGE}: this installation of paperzoo has no registry.yaml and catalog; install it again (pip "
            "install --force-reinstall paperzoo)"
        ]
    )


def checkout_root() -> Path | None:
    """Root of the checkout that zoo runs from, or None in an installed wheel."""
    root = PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() and (root / "registry.yaml").is_file() else None


def cache_dir() -> Path:
    """``$ZOO_CACHE``, else ``$XDG_CACHE_HOME/zoo``, else ``~/.cache/zoo``. Not created here."""
    if explicit := os.environ.get("ZOO_CACHE"):
        return Path(explicit)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "zoo"


def write_atomic(path: Path, text: str) -> None:
    """Write ``text`` so that a reader sees the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
