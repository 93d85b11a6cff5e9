"""BibTeX of a paper, with the entry type that its publication calls for."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

_TYPES = {
    "conference": ("inproceedings", "booktitle"),
    "workshop": ("inproceedings", "booktitle"),
    "journal": ("article", "journal"),
    "preprint": ("misc", None),
    "report": ("techreport", "institution"),
    "chapter": ("incollection", "booktitle"),
}
_SPECIAL = {c: "\\" + c for c in "&%$#_{}"} | {
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
}
_SMALL = {"a", "an", "the", "on", "of", "for", "and", "in", "to", "by", "with"}


def _escape(text: str) -> str:
    return "".join(_SPECIAL.get(c, c) for c in " ".join(text.split()))


def _title(text: str) -> str:
    """Braces keep the capitals of acronyms and names that styles would lower."""
    words = []
    for i, word in enumerate(_escape(text).split(" ")):
        inner = re.sub(r"[^A-Za-z]", "", word)
        keep = any(c.isupper() for c in inner[1:]) or (i > 0 and inner[:1].isupper())
        words.append(f"{{{word}}}" if keep and "\\" not in word else word)
    return " ".join(words)


def _ascii(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]", "", plain.lower())


def cite_key(paper: Mapping[str, Any]) -> str:
    """``wu2018group``: last name of the first author, year, first word of the title that says something."""
    words = [w for w in (_ascii(w) for w in re.split(r"[\s\-:]+", paper["title"])) if w and w not in _SMALL]
    last = _ascii(paper["authors"][0].split()[-1]) or "anonymous"
    return f"{last}{paper['year']}{words[0] if words else paper['id']}"


def bibtex(paper: Mapping[str, Any]) -> str:
    """One BibTeX entry for a paper record."""
    kind, container = _TYPES[paper.get("published_as", "conference")]
    fields = {
        "title": _title(paper["title"]),
        "author": " and ".join(_escape(a) for a in paper["authors"]),
        "year": str(paper["year"]),
    }
    if container:
        fields[container] = _escape(paper["venue"])
    if paper.get("doi"):
        fields["doi"] = paper["doi"]
    if paper.get("arxiv"):
        fields |= {"eprint": paper["arxiv"], "archiveprefix": "arXiv"}
        if kind == "misc":
            fields["howpublished"] = f"arXiv:{paper['arxiv']}"
    if paper.get("url"):
        fields["url"] = paper["url"]
    width = max(map(len, fields))
    body = ",\n".join(f"  {name:<{width}} = {{{value}}}" for name, value in fields.items())
    return f"@{kind}{{{cite_key(paper)},\n{body}\n}}\n"
