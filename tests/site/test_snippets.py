"""Every Python block of every page runs. Blocks that need the network (pretrained weights of the Hub) are only compiled."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from zoo.registry.lookup import registry
from zoo.site.context import Site
from zoo.site.lists import home
from zoo.site.snippets import all_snippets

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^([ ]*)```python\n(.*?)^\1```", re.DOTALL | re.MULTILINE)


@cache
def _snippets() -> dict[str, str]:
    site = Site(registry(), ROOT / "docs", ROOT / "benchmarks")
    found = {f"{page} {where}": text for page, where, text in all_snippets(site)}
    for path in sorted((ROOT / "docs").rglob("*.md")):
        for i, match in enumerate(BLOCK.finditer(path.read_text(encoding="utf-8"))):
            found[f"{path.relative_to(ROOT)} block {i}"] = match[2]
    for i, match in enumerate(BLOCK.finditer(home(site))):
        found[f"index.md block {i}"] = match[2]
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "snippet" in metafunc.fixturenames:
        metafunc.parametrize("snippet", list(_snippets()))


def test_runs(
    snippet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(_snippets()[snippet], snippet, "exec"), {"__name__": "snippet"})
    capsys.readouterr()


def test_every_method_has_a_block_that_constructs_or_names_it() -> None:
    text = "\n".join(_snippets().values())
    for method in registry().raw.methods:
        assert (
            re.search(rf'(create|get)\([^)]*"{method}"', text)
            or (ROOT / "docs" / "snippets" / f"{method}.py").is_file()
        )


def test_snippet_files_belong_to_methods() -> None:
    for path in (ROOT / "docs" / "snippets").glob("*.py"):
        assert path.stem in registry().raw.methods, path
        assert path.stem in path.read_text() or "import zoo" in path.read_text()
