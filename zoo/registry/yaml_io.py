"""YAML as untrusted data: size cap, no anchors or aliases, no duplicate keys, every error with its line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from zoo.errors import RegistryError

MAX_BYTES = 16 * 2**20

# libyaml is about ten times faster; the pure parser gives the same answers where it is missing.
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAYBE_ALIAS = re.compile(r"(?:^|[\s\[{,:-])[&*][^\s&*]", re.MULTILINE)


class _Loader(_Base):
    """Safe loader that refuses duplicate keys, which PyYAML would let the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool):
                raise yaml.MarkedYAMLError(
                    problem=f"a key must be a plain word, received {key!r}", problem_mark=key_node.start_mark
                )
            if key in mapping:
                raise yaml.MarkedYAMLError(problem=f"duplicate key {key!r}", problem_mark=key_node.start_mark)
            mapping[key] = self.construct_object(value_node, deep=deep)
        return mapping


def _construct_map(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_map)


class _Numbers(_Loader):
    """1e-3 is a number, as in YAML 1.2; YAML 1.1 wants 1.0e-3 and reads text. A registry's short commits look like that too."""


_Numbers.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]{1,3}\Z"),
    list("-+0123456789"),
)


def parse(text: str, where: str, first_line: int = 1, exponents: bool = False) -> Any:
    """Parse one YAML document.

    Args:
        text: the document.
        where: file name for messages.
        first_line: line of the file at which ``text`` begins.
        exponents: whether ``1e-3`` is a number, as it is in recipes.

    Raises:
        RegistryError: not YAML, duplicate keys, anchors or aliases, nesting too deep.
    """
    try:
        if _MAYBE_ALIAS.search(text):
            for event in yaml.parse(text, Loader=_Base):
                if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                    line = (event.start_mark.line if event.start_mark else 0) + first_line
                    raise RegistryError(
                        [f"{where}:{line}: anchors and aliases (& and *) are not allowed; write the value out"]
                    )
        return yaml.load(text, Loader=_Numbers if exponents else _Loader)
    except RegistryError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = (mark.line if mark else 0) + first_line
        raise RegistryError([f"{where}:{line}: {error.problem or error.context}"]) from None
    except yaml.YAMLError as error:  # a byte that no YAML may hold
        raise RegistryError([f"{where}:{first_line}: not YAML: {' '.join(str(error).split())}"]) from None
    except (RecursionError, ValueError) as error:  # nesting bombs; a date such as 2020-13-45
        raise RegistryError(
            [f"{where}:{first_line}: cannot be read: {type(error).__name__} {str(error)[:120]}"]
        ) from None


def line_of(text: str, path: tuple[int | str, ...], first_line: int = 1) -> int:
    """Line at which the value under ``path`` stands, or that of its deepest parent that exists."""
    try:
        node = yaml.compose(text, Loader=_Base)
    except yaml.YAMLError:
        return first_line
    line = node.start_mark.line if node else 0
    for step in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(step)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line
        else:
            break
    return line + first_line


def read_text(path: Path, shown: str | None = None) -> str:
    """Read a UTF-8 file of at most :data:`MAX_BYTES`; :class:`RegistryError` otherwise."""
    shown = shown or str(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise RegistryError(
                [
                    f"{shown}:1: {size / 2**20:.0f} MB is more than the {MAX_BYTES >> 20} MB that a registry file may have"
                ]
            )
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RegistryError([f"{shown}:1: not UTF-8 text ({error.reason} at byte {error.start})"]) from None
    except OSError as error:
        raise RegistryError([f"{shown}:1: cannot be read: {error.strerror}"]) from None


def front_matter(text: str, where: str) -> tuple[str, str]:
    """Split a catalog page into front matter and notes; the front matter begins on line 2 of the file."""
    if not text.startswith("---\n"):
        raise RegistryError([f"{where}:1: a catalog page begins with front matter between two lines '---'"])
    end = text.find("\n---\n", 3)
    if end < 0:
        if text.rstrip().endswith("\n---"):
            return text[4 : text.rstrip().rfind("\n---") + 1], ""
        raise RegistryError([f"{where}:1: the front matter has no closing line '---'"])
    return text[4 : end + 1], text[end + 5 :]
