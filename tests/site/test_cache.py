"""A build that uses an earlier one gives, byte for byte, what a fresh one gives; and it does use it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from zoo.errors import ZooError
from zoo.registry.load import load
from zoo.registry.lookup import Registry
from zoo.site import cache
from zoo.site import generate as site_generate
from zoo.site.build import build
from zoo.site.context import Site
from zoo.site.crew import Crew

ROOT = Path(__file__).resolve().parents[2]
PAPERS = ("positional_norm", "group_norm", "instance_norm", "lans", "frelu")

#: A link to a page, which may not be among those here.
_LINK = re.compile(r"\[([^\]]*)\]\((?!http)[^)]*\.md[^)]*\)")


def tree(site: Path) -> dict[str, bytes]:
    return {
        p.relative_to(site).as_posix(): p.read_bytes() for p in site.rglob("*") if p.is_file() and ".git" not in p.parts
    }


def records(folder: Path) -> dict[str, str]:
    lines = (folder / "cache" / "site" / cache.FILE).read_text(encoding="utf-8").split("\n")
    return {json.loads(line)["page"]: line for line in lines}


class Place:
    """A registry of few papers, hand-written pages, and two folders to build into."""

    def __init__(self, base: Path) -> None:
        self.base, self.root, self.docs = base, base / "root", base / "written"
        registry = yaml.safe_load((ROOT / "registry.yaml").read_text(encoding="utf-8"))
        for paper in PAPERS:
            page = next((ROOT / "catalog").glob(f"*/{paper}.md"))
            folder = self.root / "catalog" / page.parent.name
            folder.mkdir(parents=True, exist_ok=True)
            _, head, body = page.read_text(encoding="utf-8").split("---\n", 2)
            facts = {k: v for k, v in yaml.safe_load(head).items() if k != "relations"}
            text = "---\n" + yaml.safe_dump(facts) + "---\n" + _LINK.sub(r"\1", body)
            (folder / page.name).write_text(text, encoding="utf-8")
        methods = {k: v for k, v in registry["methods"].items() if v["paper"] in PAPERS}
        self.write({"methods": methods, "models": {}})
        shutil.copytree(ROOT / "docs" / "assets", self.docs / "assets")
        (self.docs / "guide").mkdir()
        for page in (ROOT / "docs" / "guide").glob("*.md"):
            (self.docs / "guide" / page.name).write_text(_LINK.sub(r"\1", page.read_text(encoding="utf-8")))

    def read(self) -> dict:
        return yaml.safe_load((self.root / "registry.yaml").read_text(encoding="utf-8"))

    def write(self, registry: dict) -> None:
        text = yaml.dump(registry, Dumper=_Plain)
        (self.root / "registry.yaml").write_text(text, encoding="utf-8")

    def page(self, paper: str) -> Path:
        return next((self.root / "catalog").glob(f"*/{paper}.md"))

    def build(self, name: str, fresh: bool = False) -> Path:
        reg = Registry(load(self.root, use_cache=False), self.root)
        folder = self.base / name
        assert build(out=folder / "docs", reg=reg, docs=self.docs, fresh=fresh, quiet=True) == 0
        return folder

    def same(self, what: str) -> None:
        """Build upon what is there, build from nothing, compare."""
        again = tree(self.build("again") / "site")
        shutil.rmtree(self.base / "fresh", ignore_errors=True)
        fresh = tree(self.build("fresh") / "site")
        assert set(again) == set(fresh), what
        assert [name for name in fresh if again[name] != fresh[name]] == [], what


class _Plain(yaml.SafeDumper):
    """No anchors, which the registry refuses."""

    def ignore_aliases(self, data: object) -> bool:
        return True


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = Place(tmp_path_factory.mktemp("cache"))
    made.build("again")
    return made


def test_nothing_changed_makes_no_page(place: Place) -> None:
    kept = place.base / "again" / "cache" / "site" / cache.FILE
    before, written, files = records(place.base / "again"), kept.stat().st_mtime_ns, tree(place.base / "again" / "site")
    stamps = {p: p.stat().st_mtime_ns for p in (place.base / "again" / "site").rglob("*.html")}
    place.build("again")
    assert len(before) > len(PAPERS)
    assert records(place.base / "again") == before
    assert kept.stat().st_mtime_ns == written
    assert tree(place.base / "again" / "site") == files
    rewritten = [p.name for p, at in stamps.items() if p.stat().st_mtime_ns != at]
    assert rewritten == [], "404.html and pages are left alone when they are the same"


def test_one_page_changed_makes_one_page(place: Place) -> None:
    before = records(place.base / "again")
    guide = place.docs / "guide" / "offline.md"
    guide.write_text(guide.read_text(encoding="utf-8") + "\nOne more sentence, with $x^2$.\n", encoding="utf-8")
    place.build("again")
    after = records(place.base / "again")
    assert [n for n in after if after[n] != before.get(n)] == ["guide/offline.md"]
    assert "One more sentence" in (place.base / "again" / "site" / "guide" / "offline" / "index.html").read_text()
    place.same("one more sentence")


def _text(place: Place) -> None:
    page = place.page("group_norm")
    page.write_text(page.read_text(encoding="utf-8") + "\nAnother sentence, see `frelu`.\n", encoding="utf-8")


def _title(place: Place) -> None:
    """Titles are in other pages' tables, footers and menus."""
    page = place.page("lans")
    page.write_text(
        re.sub(r"(?m)^title: .*$", "title: A new title", page.read_text(encoding="utf-8")), encoding="utf-8"
    )
    guide = place.docs / "guide" / "offline.md"
    guide.write_text("---\nicon: material/wifi\n---\n" + guide.read_text(encoding="utf-8"), encoding="utf-8")


def _added(place: Place) -> None:
    _, head, body = place.page("frelu").read_text(encoding="utf-8").split("---\n", 2)
    facts = {k: v for k, v in yaml.safe_load(head).items() if k not in ("arxiv", "doi", "aliases")}
    text = f"---\n{yaml.safe_dump(facts | {'url': 'https://example.org/x'})}---\n{body}"
    place.page("frelu").with_name("frelu_again.md").write_text(text, encoding="utf-8")
    registry = place.read()
    registry["methods"]["frelu_again"] = {"paper": "frelu_again", "kind": "activation", "target": "torch.nn:SiLU"}
    place.write(registry)


def _renamed(place: Place) -> None:
    page = place.page("frelu_again")
    page.rename(page.with_name("frelu_renamed.md"))
    registry = place.read()
    registry["methods"]["frelu_again"]["paper"] = "frelu_renamed"
    place.write(registry)


def _removed(place: Place) -> None:
    place.page("frelu_renamed").unlink()
    registry = place.read()
    del registry["methods"]["frelu_again"]
    place.write(registry)


def _registry(place: Place) -> None:
    registry = place.read()
    registry["methods"]["group_norm"]["summary"] = "What the registry says has changed."
    place.write(registry)


def _damaged(place: Place) -> None:
    """Somebody wrote into the built site, something of an older version lies there, a record is half-written."""
    site = place.base / "again" / "site"
    (site / "catalog" / "index.html").write_text("gone")
    (site / "assets" / "zoo.css").unlink()
    (site / ".git").mkdir()
    (site / ".git" / "config").write_text("kept")
    (site / "old").mkdir()
    (site / "old" / "index.html").write_text("stale")
    kept = place.base / "again" / "cache" / "site" / cache.FILE
    lines = kept.read_bytes().split(b"\n")
    kept.write_bytes(b"\n".join([lines[0][:100], b"[1]", *lines[1:-1], lines[-1][:-50]]))


def test_upon_an_earlier_build_as_from_nothing(place: Place) -> None:
    """Changes one after the other, so one test; the earlier build is the one of the change before."""
    for change in (_text, _title, _added, _renamed, _removed, _registry, _damaged):
        change(place)
        place.same(change.__name__)
    hidden = place.base / "again" / "site" / ".git" / "config"
    assert hidden.read_text() == "kept", "as mkdocs leaves hidden files"


def test_a_warning_comes_back_every_time(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    guide = place.docs / "guide" / "offline.md"
    text = guide.read_text(encoding="utf-8")
    guide.write_text(text + "\n[gone](gone.md)\n", encoding="utf-8")
    reg = Registry(load(place.root, use_cache=False), place.root)
    for _ in range(2):
        assert build(strict=True, out=place.base / "again" / "docs", reg=reg, docs=place.docs, quiet=True) == 1
        assert "gone.md" in capfd.readouterr().err
    guide.write_text(text, encoding="utf-8")


def test_sources_that_fail_end_the_build(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """mkdocs, which waits for them in its own process, ends too, and the site stays as it was."""
    before = tree(place.base / "again" / "site")

    def broken(site: Site) -> dict[str, str]:
        raise ZooError("no pages today")

    monkeypatch.setattr(site_generate, "pages", broken)
    with pytest.raises(ZooError, match="no pages today"):
        place.build("again")
    assert tree(place.base / "again" / "site") == before


# --------------------------------------------------------------------------- what enters the digests


def test_templates_settings_and_versions_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "overrides", tmp_path / "overrides")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    package = tmp_path / "zoo"
    (package / "site").mkdir(parents=True)
    (package / "__init__.py").write_text('__version__ = "1"\n')
    (package / "site" / "paper.py").write_text("x = 1\n")
    monkeypatch.setattr(cache, "PACKAGE", package)

    def changes(path: str, text: str) -> None:
        nonlocal known
        with (tmp_path / path).open("a", encoding="utf-8") as file:
            file.write(text)
        now = cache.programs(tmp_path, ["zoo", ""])
        assert now not in known, path
        known.add(now)

    known = {cache.programs(tmp_path, ["zoo", ""])}
    assert cache.programs(tmp_path, ["zoo", ""]) in known
    changes("overrides/partials/path.html", " ")
    changes("overrides/main.html", "new")
    changes("mkdocs.yml", "\n# comment")
    changes("zoo/__init__.py", "# version\n")
    changes("zoo/site/guard.py", "y = 2\n")
    assert cache.programs(tmp_path, ["zoo", "https://example.org/"]) not in known
    version = cache.metadata.version
    for name in ("mkdocs-material", "Markdown", "griffelib"):
        monkeypatch.setattr(cache.metadata, "version", lambda n, name=name: "0" if n == name else version(n))
        assert cache.programs(tmp_path, ["zoo", ""]) not in known, name


def test_sources_of_the_api_count_where_it_is_documented(tmp_path: Path) -> None:
    module = tmp_path / "zoo" / "normalization" / "x.py"
    module.parent.mkdir(parents=True)
    module.write_text("a = 1\n")
    made = cache.Cache(None)
    made.sources = cache.sources(tmp_path)
    text, api = made.render_key("a.md", b"text"), made.render_key("a.md", b"::: zoo.normalization.x\n")
    module.write_text("a = 2\n")
    made.sources = cache.sources(tmp_path)
    assert made.render_key("a.md", b"text") == text
    assert made.render_key("a.md", b"::: zoo.normalization.x\n") != api
    (tmp_path / "zoo" / "training").mkdir()
    (tmp_path / "zoo" / "training" / "y.py").write_text("undocumented\n")
    assert cache.sources(tmp_path) == made.sources


def test_crew_does_each_page_once_and_leaves_faults_to_the_caller() -> None:
    names = [f"page{i}" for i in range(40)]

    def work(name: str) -> str:
        if name in ("page7", "page39"):
            raise ValueError(name)
        return name.upper()

    crew = Crew(names, work, 3)
    assert {n: crew.get(n) for n in names} == {n: None if n in ("page7", "page39") else n.upper() for n in names}
    assert Crew(names, work, 0).get("page1") is None
    assert Crew(names[:2], work, 3).get("page1") is None
