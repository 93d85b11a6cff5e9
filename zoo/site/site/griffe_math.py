"""Griffe extension: reStructuredText math and roles in docstrings become the Markdown that the site renders."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

_BLOCK = re.compile(r"^([ ]*)\.\. math::[ ]*([^\n]*)\n((?:[ ]*\n|\1[ ]+[^\n]*\n?)*)", re.MULTILINE)
_MATH = re.compile(r":math:`([^`]+)`")
_ROLE = re.compile(r":(?:py:)?(?:class|func|meth|mod|attr|obj|data|exc):`~?([^`]+)`")


def markdown_of(text: str) -> str:
    """``.. math::`` blocks, ``:math:`` and cross-reference roles as Markdown; other text as it is."""

    def block(match: re.Match[str]) -> str:
        body = textwrap.dedent(match[3]).strip()
        tex = re.sub(r"\n\s*\n", "\n", f"{match[2].strip()}\n{body}".strip())
        if "\\begin{" not in tex and re.search(r"(?<!\\)&", tex):
            tex = f"\\begin{{aligned}}\n{tex}\n\\end{{aligned}}"
        pad = match[1]
        return "\n" + textwrap.indent(f"$$\n{tex}\n$$", pad) + "\n\n"

    text = _BLOCK.sub(block, text if text.endswith("\n") else text + "\n")
    text = _MATH.sub(lambda m: f"${m[1].strip()}$", text)
    text = _ROLE.sub(lambda m: f"`{m[1]}`", text)
    return re.sub(r"``([^`\n]+)``", r"`\1`", text).rstrip()


class RstMath(griffe.Extension):
    """Rewrites docstrings before they are parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = markdown_of(obj.docstring.value)
