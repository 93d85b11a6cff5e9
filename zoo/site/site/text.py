"""Text from records and notes into Markdown, as data: nothing in it may become HTML, script or a foreign request.

Catalog text is untrusted. No ``<`` of it reaches the page raw, except inside code fences at the margin; braces (attribute
lists), images, API directives and links to schemes other than http(s) lose their meaning. :mod:`zoo.site.guard` is the
second line, after Markdown has been parsed.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable
from typing import Any

#: Turns a code span that is exactly a known name into a link target, or None.
Linker = Callable[[str], "str | None"]

_TOKEN = re.compile(
    r"(?P<code>(?<![\\`])(?P<tick>`+)(?!`)(?P<body>(?:(?!\n\s*\n).)+?)(?<!`)(?P=tick)(?!`))"
    r"|(?P<math>(?<![\\$])\$(?!\s|\$)(?:\\.|[^\\$\n]|\n(?!\s*\n))+?(?<!\s)\$(?!\d))",
    re.DOTALL,
)
_FENCE = re.compile(r"^(```+|~~~+)[ ]*\{?\.?(\w*)[^\n`]*\n(.*?)^\1[ ]*$\n?", re.DOTALL | re.MULTILINE)
_DISPLAY = re.compile(r"^\$\$[ ]*\n?(.+?)\n?[ ]*\$\$[ ]*([.,;]?)[ ]*$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(\s*(?![#/.]|https?://|[\w./-]+\.md)", re.IGNORECASE)
_PAGE = re.compile(r"\]\((?:[\w./-]*/)?([a-z0-9_]+)\.md(?=[)#])")
_REFERENCE = re.compile(r"^(\s{0,3})\[([^\]]+)\]:", re.MULTILINE)
#: Characters that may be markup; between letters or digits some of them never are.
_PLAIN = re.compile(r"([\\`*\[\]|{}<>&$~^]|(?<![A-Za-z0-9])[_#!:+=-]|[_#!:+=-](?![A-Za-z0-9]))")
_SIMPLE_CODE = re.compile(r"[^`|<>&\\{}$#:\s](?:[^`|<>&\\{}$\n]*[^`|<>&\\{}$:\s])?")


def attr(text: Any) -> str:
    """For an HTML attribute or element content."""
    return html.escape(str(text), quote=True)


def plain(text: Any) -> str:
    """Literal text on one line of Markdown: no character of it is markup."""
    return _PLAIN.sub(lambda m: f"&#{ord(m[1])};", " ".join(str(text).split()))


def code(text: Any) -> str:
    """A code span that holds anything, also inside a table."""
    literal = " ".join(str(text).split())
    if not literal:
        return ""
    if _SIMPLE_CODE.fullmatch(literal) and ":::" not in literal:
        return f"`{literal}`"
    return f"<code>{''.join(c if c.isalnum() or c in ' .,' else f'&#{ord(c)};' for c in literal)}</code>"


def path(text: Any) -> str:
    """A code span of a path or a dotted name that may break after its separators, for narrow columns."""
    return (
        f"<code>{re.sub(r'(::|[/._])(?=[A-Za-z0-9])', lambda m: m[1] + '<wbr>', attr(' '.join(str(text).split())))}</code>".replace(
            "_", "&#95;"
        )
        .replace("*", "&#42;")
        .replace("|", "&#124;")
        .replace("`", "&#96;")
        .replace("$", "&#36;")
        .replace("{", "&#123;")
        .replace("[", "&#91;")
    )


def _pages(text: str, link: Linker | None) -> str:
    """Links to pages of the catalog lead there from wherever the text is shown."""
    return _PAGE.sub(lambda m: f"]({(link and link(m[1])) or m[1] + '.md'}", text)


def _escape(text: str) -> str:
    text = re.sub(r"&(?!#?\w+;)", "&amp;", text).replace("<", "&lt;").replace("{", "&#123;").replace("![", "&#33;[")
    text = _LINK.sub("]&#40;", text)
    return text.replace(":::", "&#58;&#58;&#58;").replace("--8<--", "&#45;-8&lt;--")


def inline(text: Any, link: Linker | None = None, cell: bool = False) -> str:
    """One paragraph's worth of catalog text: emphasis, code, ``$math$`` and links stay, everything else is inert.

    Args:
        text: as written in a record or in the notes.
        link: makes code spans that are names into links.
        cell: for a table cell: bars are escaped and line breaks become spaces.
    """
    text = str(text)
    if cell:
        text = " ".join(text.split())
    parts, end = [], 0
    for token in _TOKEN.finditer(text):
        parts.append(_bars(_pages(_escape(text[end : token.start()]), link), cell))
        end = token.end()
        if token["code"]:
            body = token["body"].strip()
            target = link(body) if link else None
            shown = code(body)
            parts.append(f"[{shown}]({target})" if target else shown)
        else:
            math = token["math"].replace("<", r"\lt ").replace(">", r"\gt ")
            parts.append(math.replace(r"\|", r"\Vert ").replace("|", r"\vert ") if cell else math)
    parts.append(_bars(_pages(_escape(text[end:]), link), cell))
    return "".join(parts)


def _bars(text: str, cell: bool) -> str:
    return text.replace("|", "&#124;") if cell else text


def equation(tex: str) -> str:
    """A display equation that no Markdown rule touches and that the search index leaves out."""
    tex = re.sub(r"\n\s*\n", "\n", tex.strip())
    if "\\begin{" not in tex and re.search(
        r"(?<!\\)&", tex
    ):  # columns without an environment, as some TeX engines take them
        tex = f"\\begin{{aligned}}\n{tex}\n\\end{{aligned}}"
    return f'<div class="arithmatex zoo-eq" data-search-exclude>\\[{html.escape(tex, quote=False)}\\]</div>'


def equations(text: str) -> list[str]:
    """The display equations of some notes."""
    return [equation(m[1] + m[2]) for m in _DISPLAY.finditer(text)]


def notes(text: str, link: Linker | None = None) -> str:
    """A catalog page's notes as safe Markdown: fences and tables stay, display equations become blocks of their own."""
    out, end = [], 0
    for fence in _FENCE.finditer(text):
        out += [_prose(text[end : fence.start()], link), f"```{fence[2] or 'text'}\n{fence[3]}```\n"]
        end = fence.end()
    out.append(_prose(text[end:], link))
    return "".join(out)


def _prose(text: str, link: Linker | None) -> str:
    out, end = [], 0
    for match in _DISPLAY.finditer(text):
        out += [_lines(text[end : match.start()], link), f"\n{equation(match[1] + match[2])}\n\n"]
        end = match.end()
    out.append(_lines(text[end:], link))
    return "".join(out)


def _lines(text: str, link: Linker | None) -> str:
    """Tables row by row (their bars delimit cells), the rest paragraph by paragraph."""
    text = _REFERENCE.sub(r"\1&#91;\2]:", text)
    out: list[str] = []
    block: list[str] = []
    for line in text.split("\n"):
        if line.lstrip().startswith("|"):
            if block:
                out.append(inline("\n".join(block), link))
                block = []
            out.append(_row(line, link))
        else:
            block.append(line)
    if block:
        out.append(inline("\n".join(block), link))
    return "\n".join(out)


def _row(line: str, link: Linker | None) -> str:
    if re.fullmatch(r"[\s|:-]+", line):
        return line
    cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
    if line.count("`") or line.count("$"):  # bars inside code or math do not end a cell
        cells = _cells(line.strip().strip("|"))
    return (
        "| " + " | ".join(inline(c.replace(r"\|", "|") if "$" not in c else c, link, cell=True) for c in cells) + " |"
    )


def _cells(line: str) -> list[str]:
    cells, end = [""], 0
    for token in _TOKEN.finditer(line):
        before = re.split(r"(?<!\\)\|", line[end : token.start()])
        cells[-1] += before[0]
        cells += before[1:]
        cells[-1] += token[0]
        end = token.end()
    rest = re.split(r"(?<!\\)\|", line[end:])
    cells[-1] += rest[0]
    return [*cells, *rest[1:]]


def sections(text: str) -> tuple[str, dict[str, str]]:
    """Notes into the opening paragraphs and the body of each ``## `` section, in order."""
    parts: list[tuple[str, list[str]]] = [("", [])]
    fenced = False
    for line in text.split("\n"):
        if line.startswith(("```", "~~~")):
            fenced = not fenced
        if line.startswith("## ") and not fenced:
            parts.append((line[3:].strip(), []))
        elif line.startswith("# ") and not fenced:
            parts[-1][1].append("##" + line)  # the page's title is the paper's
        else:
            parts[-1][1].append(line)
    opening = "\n".join(parts[0][1]).strip()
    return opening, {name: "\n".join(body).strip() for name, body in parts[1:]}


def table(headers: list[str], rows: list[list[str]]) -> str:
    """A Markdown table of cells that are already safe."""
    if not rows:
        return ""
    lines = ["| " + " | ".join(headers) + " |", "|" + " --- |" * len(headers)]
    lines += ["| " + " | ".join(c if c else "–" for c in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def front(**fields: Any) -> str:
    """Front matter of a generated page. Its values are JSON, which YAML reads and which is fast to write."""
    lines = (f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in fields.items())
    return "---\n" + "".join(lines) + "---\n\n"


def number(value: float | int | None, digits: int = 3) -> str:
    """``25557032`` -> ``25.6 M``; None -> ``unknown``."""
    if value is None:
        return "unknown"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.{digits}g} {unit}"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def brief(value: float) -> str:
    """Four significant digits, no exponent for what is read easily without: ``0.0285``, ``96.67``, ``1.2e-07``, ``1437``."""
    if value == 0:
        return "0"
    if value == int(value) and abs(value) < 1e7:
        return str(int(value))
    shown = f"{value:.4g}"
    if "e" not in shown:
        return shown
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e7 else f"{value:.2g}".replace("e-0", "e-").replace("e+0", "e")


def spread(mean: float, deviation: float) -> str:
    """Mean and deviation with as many places as the deviation has a use for: ``93.9 ± 3.6``."""
    if not deviation:
        return f"{brief(mean)} ± 0"
    places = max(0, 1 - math.floor(math.log10(abs(deviation))))
    if places > 5:
        return f"{brief(mean)} ± {deviation:.1g}"
    return f"{mean:.{places}f} ± {deviation:.{places}f}"


def indent(text: str, by: int = 4) -> str:
    """Indent every line that is not empty."""
    pad = " " * by
    return "\n".join(pad + line if line.strip() else line for line in text.split("\n"))
