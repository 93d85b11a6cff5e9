"""Where the bytes of a checkpoint come from, and what was promised about them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import PinError, WeightsError

if TYPE_CHECKING:
    from zoo.registry.schema import Checkpoint

#: No file of weights that zoo handles is larger; the schema says the same.
MAX_BYTES = 64 * 2**30

_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*")
_FILE = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*", re.ASCII)
_BRANCH = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
#: timm names the pickle; these are the safetensors files that stand beside it.
_SAFE_TWIN = {
    None: "model.safetensors",
    "pytorch_model.bin": "model.safetensors",
    "open_clip_pytorch_model.bin": "open_clip_model.safetensors",
}


def is_commit(text: object) -> bool:
    """Whether ``text`` is a full lower-case commit id: 40 hex digits and nothing else."""
    return isinstance(text, str) and _COMMIT.fullmatch(text) is not None


def is_sha256(text: object) -> bool:
    """Whether ``text`` is a full lower-case SHA-256: 64 hex digits and nothing else."""
    return isinstance(text, str) and _SHA256.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Source:
    """One file of weights: a name for messages, the place, and the pins.

    Args:
        name: what the user asked for, e.g. ``"gn_resnet50"``.
        tag: which of its checkpoints, e.g. ``"a1h_in1k"``.
        repo: ``"organisation/name"`` on the Hub, or None for a file bundled with a package.
        file: path inside the repository (or inside ``root``); always ``.safetensors``.
        commit: 40 hex digits, or None while unpinned.
        sha256: 64 hex digits of the file, or None while unpinned.
        size: bytes, or None while unpinned.
        licence: of the weights, as declared; ``"unknown"`` when nobody says.
        gated: the repository needs an accepted licence; only then is a token ever sent.
        branch: which branch or tag an unpinned entry follows.
        root: folder that holds a bundled file.

    Raises:
        WeightsError: a part that is not of the form above. Nothing is read, written or asked before this check.
    """

    name: str
    tag: str
    repo: str | None
    file: str
    commit: str | None = None
    sha256: str | None = None
    size: int | None = None
    licence: str = "unknown"
    gated: bool = False
    branch: str = "main"
    root: str | None = None

    def __post_init__(self) -> None:
        def refuse(what: str, value: object, allowed: str) -> None:
            raise WeightsError(f"{self.name}: the {what} of a checkpoint is {allowed}; received {value!r}")

        if self.repo is not None and (
            not isinstance(self.repo, str)
            or not _REPO.fullmatch(self.repo)
            or ".." in self.repo
            or "--" in self.repo
            or len(self.repo) > 96
        ):
            refuse("repo", self.repo, "'organisation/name' without '..' or '--'")
        sound = isinstance(self.file, str) and _FILE.fullmatch(self.file) and len(self.file) <= 200
        if not sound or ".." in self.file:
            refuse("file", self.file, "a relative path without '..', backslash or drive")
        if not self.file.endswith(".safetensors"):
            refuse("file", self.file, "a .safetensors file (zoo convert makes one from others)")
        if self.commit is not None and not is_commit(self.commit):
            refuse("commit", self.commit, "40 lower-case hex digits")
        if self.sha256 is not None and not is_sha256(self.sha256):
            refuse("sha256", self.sha256, "64 lower-case hex digits")
        if self.size is not None and (type(self.size) is not int or not 0 < self.size <= MAX_BYTES):
            refuse("size", self.size, f"between 1 and {MAX_BYTES} bytes")
        if not isinstance(self.branch, str) or not _BRANCH.fullmatch(self.branch) or ".." in self.branch:
            refuse("branch", self.branch, "a plain branch or tag name")
        if self.repo is None and self.root is None:
            refuse("repo", self.repo, "given unless the file is bundled")

    @property
    def pinned(self) -> bool:
        """Commit and SHA-256 are both known (a bundled file needs only the latter)."""
        return self.sha256 is not None and (self.commit is not None or self.repo is None)

    @property
    def key(self) -> str:
        """Under which the user's own lock remembers it."""
        return f"{self.repo}@{self.commit or self.branch}/{self.file}"

    @property
    def label(self) -> str:
        """For messages: ``gn_resnet50 (a1h_in1k)``."""
        return f"{self.name} ({self.tag})" if self.tag else self.name

    @property
    def prefetch(self) -> str:
        """The command that brings the file into the cache."""
        return f"zoo download {self.name}" + (f" --tag {self.tag}" if self.tag else "")

    def at(self, revision: str) -> Source:
        """The same file at another commit or branch; pins that speak of other bytes are dropped."""
        if revision == self.commit:
            return self
        if is_commit(revision):
            return replace(self, commit=revision, sha256=None, size=None)
        return replace(self, branch=revision, commit=None, sha256=None, size=None)

    def sibling(self, file: str) -> Source:
        """Another file of the same repository and commit (test vectors, say); its bytes are not pinned yet."""
        return replace(self, file=file, sha256=None, size=None)

    # ----------------------------------------------------------------- from records

    @classmethod
    def from_checkpoint(cls, name: str, checkpoint: Checkpoint, root: str | Path | None = None) -> Source:
        """From a registry record; ``root`` is the folder of bundled files, needed when ``checkpoint.repo`` is None."""
        return cls(
            name=name,
            tag=checkpoint.tag,
            repo=checkpoint.repo,
            file=checkpoint.file,
            commit=checkpoint.commit,
            sha256=checkpoint.sha256,
            size=checkpoint.size,
            licence=checkpoint.licence,
            gated=checkpoint.gated,
            root=str(root) if root is not None else None,
        )

    @classmethod
    def from_timm(cls, name: str, tag: str, cfg: Mapping[str, Any], pin: Mapping[str, Any] | None = None) -> Source:
        """From timm's own record of a tag (``PretrainedCfg.to_dict()``) and, if there is one, its pin.

        Args:
            name: the model that the user asked for.
            tag: full timm tag, ``"resnet50_gn.a1h_in1k"``.
            cfg: needs ``hf_hub_id``; ``hf_hub_filename`` and ``license`` are used when present.
            pin: ``commit``, ``sha256``, ``size`` from the lock file.

        Raises:
            WeightsError: the tag has no safetensors file on the Hub.
        """
        repo, named = cfg.get("hf_hub_id"), cfg.get("hf_hub_filename")
        if not repo:
            raise WeightsError(f"{name}: timm's tag {tag} has no weights on the Hub, so there is no safetensors file")
        if repo.endswith("/"):
            repo += tag
        repo, _, revision = repo.partition("@")
        file: str = _SAFE_TWIN.get(named) or str(named)
        if not file.endswith(".safetensors"):
            raise WeightsError(
                f"{name}: timm's tag {tag} has only {file}, which is not safetensors; zoo loads no pickle"
            )
        pin = pin or {}
        source = cls(
            name=name,
            tag=tag.partition(".")[2] or tag,
            repo=repo,
            file=file,
            commit=pin.get("commit"),
            sha256=pin.get("sha256"),
            size=pin.get("size"),
            licence=cfg.get("license") or "unknown",
        )
        return source.at(revision) if revision and not pin else source


def require_pin(source: Source, strict: bool) -> None:
    """Refuse an entry that the registry does not pin, when ``strict``.

    Raises:
        PinError: unpinned and strict.
    """
    if strict and not source.pinned:
        lacks = " and ".join(w for w in ("commit", "sha256") if getattr(source, w) is None)
        raise PinError(
            f"{source.label} is not pinned (no {lacks} in the registry) and strict pins are demanded. "
            f"A maintainer pins it with `zoo lock`; without strict_pins / ZOO_STRICT_PINS=1 it is trusted on first use."
        )
