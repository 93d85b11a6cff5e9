"""Check a built site with the standard library alone: links, anchors, and that nothing is loaded from elsewhere."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Attributes whose address the browser loads by itself. ``href`` of <a> only leads there.
_LOADS = {"src", "srcset", "data", "poster"}


_SILENT = re.compile(r"<(?:!--.*?-->|(((?i:script|style))\b[^>]*+>).*?</\2\s*>)", re.DOTALL)
#: Tags with attributes, unless a class is the only one: those are two of three.
_TAG = re.compile(r"""<([a-zA-Z][^\s/>]*+)(?!>|\s++class="[^"<]*+">)((?:[^>"']++|"[^"]*+"|'[^']*+')*+)>""")
#: Attributes of a link as most are.
_PLAIN = re.compile(
    r"""(?:\s+(?:class|title|aria-label)="[^"]*")*\s+href="([^"&]+)"(?:\s+(?:class|title|aria-label)="[^"]*")*\s*"""
)
_ATTRIBUTE = re.compile(
    r"""(?:\s|(?<=["'])|/)(id|name|href|src|srcset|data|poster|rel)\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s>"']++))""",
    re.IGNORECASE,
)


def _opening(match: re.Match[str]) -> str:
    """Of a script or style, its tag; of a comment, nothing."""
    return f"<{match[1]}" if match[1] else ""


@dataclass
class Facts:
    """What one page holds: anchors, where its links lead, what the browser loads by itself."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)


def facts(text: str) -> Facts:
    """Read a page. Tags in comments, scripts and styles are none."""
    page = Facts()
    for tag, attributes in _TAG.findall(_SILENT.sub(_opening, text)):
        if tag == "a" and (plain := _PLAIN.fullmatch(attributes)):
            page.links.append(plain[1])
            continue
        a = attributes.lower()
        if not ("href" in a or "id" in a or "src" in a or "name" in a or "data=" in a or "poster" in a or " =" in a):
            continue  # most tags have a class at most
        tag = tag.lower()
        found = [(name.lower(), unescape(x or y or z)) for name, x, y, z in _ATTRIBUTE.findall(attributes)]
        for name, value in found:
            if not value:
                continue
            if name == "id" or (name == "name" and tag == "a"):
                page.ids.add(value)
            elif name == "href" and tag == "a":
                page.links.append(value)
            elif name in _LOADS or (name == "href" and tag == "link" and ("rel", "canonical") not in found):
                page.loaded.append(value)
    return page


def check(site: Path, known: Mapping[str, Facts] | None = None) -> list[str]:
    """Every problem in a built site as ``page: what``.

    Args:
        site: folder that mkdocs wrote.
        known: facts of pages that need not be read again, by path below ``site``.

    Returns:
        Dead internal links, missing anchors, resources of other hosts. Links that leave the site are not followed.
    """
    files, folders = set(), {""}
    for folder, _, names in os.walk(site):
        shown = Path(folder).relative_to(site).as_posix()
        base = "" if shown == "." else f"{shown}/"
        folders.add(base.rstrip("/"))
        files |= {base + name for name in names}
    shown_pages = sorted(f for f in files if f.endswith(".html") and f != "404.html")
    read = known or {}
    pages = {n: read[n] if n in read else facts((site / n).read_text(encoding="utf-8")) for n in shown_pages}
    present, problems = files | folders, []
    for name, page in pages.items():
        folder = posixpath.dirname(name)
        for address in page.loaded:
            parts = _split(address)
            if parts.scheme in ("http", "https") or parts.netloc:
                problems.append(f"{name}: loads {address}")
            elif parts.scheme == "" and parts.path and _target(folder, parts.path) not in present:
                problems.append(f"{name}: loads {address}, which does not exist")
        for address in page.links:
            parts = _split(address)
            if parts.scheme or parts.netloc:
                continue
            target = _target(folder, parts.path) if parts.path else name
            if target in folders:
                target = f"{target}/index.html".lstrip("/")
            if target not in files:
                problems.append(f"{name}: link to {address}, which does not exist")
            elif parts.fragment and target in pages:
                anchor = unquote(parts.fragment)
                if anchor not in pages[target].ids and anchor != "__toc":
                    problems.append(f"{name}: link to {address}, whose anchor does not exist")
    return problems


def _target(folder: str, address: str) -> str:
    """File or folder below the site's that an address leads to; one above it is found nowhere."""
    while folder and address.startswith("../"):  # neighbours share what is left
        folder, address = folder.rpartition("/")[0], address[3:]
    return _resolved(folder, address)


@lru_cache(maxsize=100_000)
def _resolved(folder: str, address: str) -> str:
    path = posixpath.normpath(posixpath.join(folder, unquote(address)))
    if path.startswith(".."):
        return ".."
    return "" if path == "." else path.lstrip("/")


_split = lru_cache(maxsize=100_000)(urlsplit)  # whose own memory is of a hundred addresses
