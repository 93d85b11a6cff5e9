"""The site as a reader meets it: Chromium, phone and desktop, light and dark, keyboard, without JavaScript, without network."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import ARGUMENTS, CHROMIUM, Visit, context, serious, served

from zoo.site.context import Site

pytestmark = [
    pytest.mark.site,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no Chromium at {CHROMIUM} (set CHROMIUM)"),
]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield made
        made.close()


@pytest.fixture(scope="module")
def address(built: Path) -> Iterator[str]:
    with served(built) as base:
        yield base


def sample(site: Site) -> list[str]:
    """Home, lists, boards, one paper of each kind, a model, guides."""
    found = [
        "",
        "catalog/",
        "claims/",
        "models/",
        "graph/",
        "timeline/",
        "data/",
        "tags/",
        "guide/quick-start/",
        "guide/architecture/",
    ]
    kinds: set[str] = set()
    for paper in site.papers:
        new = set(site.kinds(paper)) - kinds
        if new:
            kinds |= new
            found.append(site.path_of(paper).removesuffix(".md") + "/")
    found += [f"models/{m}/" for m in site.models[:1]] + [f"{c}/" for c in site.categories[:3]] + ["compare/"]
    for name in ("capabilities", "swap-matrix", "benchmarks"):
        if (ROOT / "docs" / "data" / f"{name.replace('-', '_')}.json").exists():
            found.append(f"{name}/")
    return found


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark"), (1280, "dark"), (390, "light")])
def test_pages_are_sound(browser: Any, address: str, site: Site, width: int, scheme: str) -> None:
    """No request leaves, no error, no sideways scrolling, all mathematics set, nothing serious from axe."""
    pages = sample(site) if (width, scheme) in ((1280, "light"), (390, "dark")) else sample(site)[:8]
    faults = []
    with context(browser, viewport={"width": width, "height": 900}, color_scheme=scheme) as (made, left):
        visit = Visit(made)
        for path in pages:
            page = visit.goto(address + path)
            over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if over > 0:
                faults.append(f"{path}: {over} px too wide")
            count = page.evaluate(
                "['.arithmatex', '.arithmatex .katex:not(.katex .katex)', '.katex-error'].map(s => document.querySelectorAll(s).length)"
            )
            if count[0] != count[1] or count[2]:
                faults.append(f"{path}: mathematics {count}")
            faults += [f"{path}: {found}" for found in serious(page)]
        assert left == []
        assert visit.errors == []
    assert faults == []


def test_all_mathematics_is_valid(browser: Any, address: str, built: Path) -> None:
    """Every formula of every page through KaTeX, with errors on."""
    formulae: dict[str, str] = {}
    for path in built.rglob("*.html"):
        for match in re.finditer(
            r'class="arithmatex[^"]*"[^>]*>(.*?)</(?:span|div)>', path.read_text(encoding="utf-8"), re.DOTALL
        ):
            formulae.setdefault(
                html.unescape(re.sub(r"<[^>]*>", "", match[1])).strip(), path.relative_to(built).as_posix()
            )
    assert len(formulae) > 50
    with context(browser) as (made, _):
        page = Visit(made).goto(address + "noisy_labels/imae/")
        bad = page.evaluate(
            """all => all.flatMap(t => { try {
                katex.renderToString(t.replace(/^\\\\[[(]/, '').replace(/\\\\[\\])]$/, ''), {displayMode: t.startsWith('\\\\['), throwOnError: true, strict: 'ignore'});
                return []; } catch (e) { return [[t, e.message]]; } })""",
            list(formulae),
        )
        wrong = page.evaluate(
            "(() => { try { katex.renderToString('\\\\nosuch{x}', {throwOnError: true}); return false } catch { return true } })()"
        )
    assert wrong, "bad TeX must be noticed"
    assert [(formulae[tex], tex, why) for tex, why in bad] == []


def _type(box: Any, text: str) -> None:
    """The theme listens to keys, which filling alone does not press."""
    box.fill(text)
    box.dispatch_event("keyup")


def test_search_finds_every_paper(browser: Any, address: str, site: Site) -> None:
    """The id and the title of each paper lead to its page as first or second hit, within a second once the index is there."""
    missed, slow = [], []
    with context(browser, viewport={"width": 1280, "height": 900}) as (made, _):
        page = Visit(made).goto(address)
        box = page.locator("input[name=query]")
        box.click()
        _type(box, "normalization")
        page.wait_for_selector(".md-search-result__item", timeout=20_000)
        for paper in site.papers:
            wanted = site.path_of(paper).removesuffix(".md")
            for query in (paper, re.sub(r"[^\w\s]", " ", site.paper(paper).title)):
                start = time.perf_counter()
                _type(box, query)
                try:
                    page.wait_for_function(
                        """([wanted, n]) => [...document.querySelectorAll('.md-search-result__item > a.md-search-result__link')].slice(0, n)
                        .some(a => a.pathname.includes('/' + wanted + '/'))""",
                        arg=[wanted, 3 if len(query) <= 3 else 2],  # three letters are also how other words begin
                        timeout=1_500,
                    )
                except Exception:
                    missed.append((paper, query))
                else:
                    if time.perf_counter() - start > 1:
                        slow.append((paper, query))
    assert missed == []
    assert len(slow) < len(site.papers) / 10


def test_catalog_filters_sorts_and_keeps_its_state(browser: Any, address: str, site: Site) -> None:
    total = len(site.papers)
    with context(browser, viewport={"width": 1280, "height": 900}) as (made, _):
        visit = Visit(made)
        page = visit.goto(address + "catalog/")
        status = page.locator(".zoo-count")
        assert status.inner_text() == f"{total} of {total} papers"
        assert status.get_attribute("aria-live") == "polite"
        page.get_by_label("Category").select_option("Normalization")
        n = len(site.in_category("normalization"))
        assert status.inner_text() == f"{n} of {total} papers"
        page.get_by_label("Find in papers").fill("group_norm")
        assert status.inner_text().startswith(("1 ", "2 ", "3 "))
        page.get_by_role("button", name="Year").click()
        page.reload(wait_until="networkidle")
        assert page.get_by_label("Category").input_value() == "Normalization"
        assert page.get_by_label("Find in papers").input_value() == "group_norm"
        assert page.locator("th[aria-sort=ascending]").inner_text().startswith("Year")
        assert not page.evaluate("document.querySelector('#__search').checked"), (
            "a shared address must not open the search"
        )
        page.get_by_role("button", name="Reset").click()
        assert status.inner_text() == f"{total} of {total} papers"
        years = [int(y) for y in page.locator("tbody td[data-label=Year]").all_inner_texts()]
        page.get_by_role("button", name="Year").click()
        assert [int(y) for y in page.locator("tbody td[data-label=Year]").all_inner_texts()] == sorted(years)
        page.get_by_role("button", name="Year").click()
        assert [int(y) for y in page.locator("tbody td[data-label=Year]").all_inner_texts()] == sorted(
            years, reverse=True
        )
        assert visit.errors == []


def test_catalog_by_keyboard(browser: Any, address: str) -> None:
    with context(browser, viewport={"width": 1280, "height": 900}) as (made, _):
        page = Visit(made).goto(address + "catalog/")
        page.get_by_role("button", name="Copy address").focus()
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('th') === null"):
            page.keyboard.press("Tab")  # the scrolling wrapper comes first where the table is wide
        assert page.evaluate("document.activeElement.closest('th')?.textContent.trim()") == "Paper"
        page.keyboard.press("Enter")
        assert page.locator("th").first.get_attribute("aria-sort") == "ascending"
        titles = page.locator("tbody td[data-label=Paper]").all_inner_texts()
        page.keyboard.press("Enter")
        assert page.locator("th").first.get_attribute("aria-sort") == "descending"
        assert page.locator("tbody td[data-label=Paper]").all_inner_texts() == titles[::-1]


def test_phone_shows_cards(browser: Any, address: str) -> None:
    with context(browser, viewport={"width": 390, "height": 800}) as (made, _):
        page = Visit(made).goto(address + "catalog/")
        first = page.locator("tbody td").first
        assert first.evaluate("e => e.getBoundingClientRect().width") > 250
        page.get_by_label("Find in papers").fill("group_norm")
        assert page.locator("tbody tr:visible").count() < 6


def test_without_javascript(browser: Any, address: str, site: Site) -> None:
    with context(browser, java_script_enabled=False) as (made, _):
        page = made.new_page()
        page.goto(address + "catalog/")
        assert page.locator("tbody tr").count() == len(site.papers)
        page.goto(address + "graph/")
        assert page.locator("tbody tr").count() == len(site.edges)
        page.goto(address + "noisy_labels/imae/")
        assert "\\frac" in page.locator(".zoo-eq").nth(1).inner_text()


def test_copy_bibtex(browser: Any, address: str, site: Site) -> None:
    paper = "group_norm"
    with context(browser, permissions=["clipboard-read", "clipboard-write"]) as (made, _):
        page = Visit(made).goto(address + site.path_of(paper).removesuffix(".md") + "/")
        block = page.locator(".language-bibtex")
        block.scroll_into_view_if_needed()
        block.hover()
        block.locator("button[data-clipboard-target], .md-code__button, .md-clipboard").first.click()
        page.wait_for_timeout(300)
        text = page.evaluate("navigator.clipboard.readText()")
    assert text.startswith("@inproceedings{wu2018group,")
    assert text.count("{") == text.count("}")


def test_graph_is_walked_by_keyboard(browser: Any, address: str, site: Site) -> None:
    assert site.edges, "the catalog states relations"
    edge = site.edges[0]
    with context(browser, viewport={"width": 1280, "height": 900}) as (made, _):
        visit = Visit(made)
        page = visit.goto(address + f"graph/?paper={edge.source}")
        assert page.locator(".zoo-graph select").input_value() == edge.source
        page.get_by_role("button", name=f"Go to {edge.target}", exact=True).focus()
        page.keyboard.press("Enter")
        assert page.locator(".zoo-graph select").input_value() == edge.target
        assert f"paper={edge.target}" in page.url
        page.get_by_role("link", name="Open its page").click()
        page.wait_for_url(f"**/{edge.target}/")
        assert visit.errors == []


def test_groups_move(browser: Any, address: str) -> None:
    with context(browser, viewport={"width": 1280, "height": 900}) as (made, _):
        visit = Visit(made)
        page = visit.goto(address + "normalization/group_norm/")
        slider = page.locator(".zoo-widget input")
        filled = "document.querySelectorAll('.zoo-cube .front.on, .zoo-cube .front.m').length"
        assert page.evaluate(filled) == 12  # 3 of 6 channels, 4 positions
        slider.focus()
        page.keyboard.press("Home")
        assert page.evaluate(filled) == 24, "G = 1: all channels"
        page.keyboard.press("End")
        assert page.evaluate(filled) == 4, "G = C: one channel"
        assert "InstanceNorm" in page.locator(".zoo-widget output").inner_text()
        assert visit.errors == []


def test_weight_curve_follows_the_slider(browser: Any, address: str) -> None:
    with context(browser, viewport={"width": 1280, "height": 900}) as (made, _):
        page = Visit(made).goto(address + "noisy_labels/imae/")
        said = page.locator(".zoo-widget p")
        assert "7.39 at p = 0.50" in said.inner_text()  # exp(8 / 4)
        page.locator(".zoo-widget input").focus()
        page.keyboard.press("End")
        assert "54.6 at p = 0.50" in said.inner_text()  # exp(16 / 4)


def test_compare_two(browser: Any, address: str, site: Site) -> None:
    with context(browser) as (made, _):
        visit = Visit(made)
        page = visit.goto(address + f"compare/?a=imae&b={site.papers[0]}")
        assert site.paper("imae").title in page.locator(".zoo-compare table").inner_text()
        page.locator(".zoo-compare select").nth(1).select_option("gce")
        assert site.paper("gce").title in page.locator(".zoo-compare table").inner_text()
        assert "b=gce" in page.url
        assert visit.errors == []


def test_first_visit_is_light(browser: Any, address: str) -> None:
    """Bytes and time of a cold visit to a paper with mathematics; the search index is no part of it."""
    with context(browser) as (made, _):
        visit, sizes = Visit(made), []
        visit.page.on("response", lambda r: sizes.append(len(r.body())) if r.ok else None)
        page = visit.goto(address + "noisy_labels/imae/")
        assert sum(sizes) < 1e6
        assert page.evaluate("performance.getEntriesByType('navigation')[0].domInteractive") < 3000


def test_what_is_not_needed_is_not_loaded(browser: Any, address: str) -> None:
    """The index comes with the first look at the search, what sets mathematics only where there is some."""
    with context(browser, viewport={"width": 1280, "height": 900}) as (made, _):
        visit, asked = Visit(made), []
        visit.page.on("request", lambda r: asked.append(r.url.rsplit("/", 1)[-1]))
        page = visit.goto(address + "guide/offline/")
        assert page.locator(".arithmatex").count() == 0
        assert not {"search_index.json", "katex.min.js"} & set(asked)
        page.keyboard.press("/")
        page.wait_for_selector(".md-search-result__meta:has-text('Type to start searching')", timeout=20_000)
        assert asked.count("search_index.json") == 1
        visit.goto(address + "noisy_labels/imae/?h=weight")  # as the search's hits lead there
        assert asked.count("search_index.json") == 2
        assert asked.count("katex.min.js") == 1
        assert page.locator("mark").count() > 0
        assert visit.errors == []


def test_light_and_dark(browser: Any, address: str) -> None:
    """Dark from the first frame where the system is; what is chosen stays, what follows the system follows it."""
    scheme = "document.body.getAttribute('data-md-color-scheme')"
    with context(browser, viewport={"width": 1280, "height": 900}, color_scheme="dark") as (made, _):
        visit = Visit(made)
        visit.page.add_init_script(
            "addEventListener('DOMContentLoaded', () => { window.changes = 0; new MutationObserver(() => window.changes++).observe(document.body, "
            "{attributeFilter: ['data-md-color-scheme', 'data-md-color-switching']}) }, {capture: true, once: true})"
        )
        page = visit.goto(address)
        assert page.evaluate(scheme) == "slate"
        assert page.evaluate("changes") == 0
        page.emulate_media(color_scheme="light")
        page.wait_for_function(scheme + " === 'default'")
        button = page.locator("#zoo-palette label:visible")
        assert button.get_attribute("for") == "__palette_1"
        button.click()
        assert (page.evaluate(scheme), button.get_attribute("for")) == ("default", "__palette_2")
        page.locator("#zoo-palette input").nth(1).press("Enter")
        assert (page.evaluate(scheme), button.get_attribute("for")) == ("slate", "__palette_0")
        assert page.evaluate("document.querySelector('meta[name=color-scheme]').content") == "dark"
        page = visit.goto(address + "catalog/")
        assert (page.evaluate(scheme), page.evaluate("changes")) == ("slate", 0)
        button.click()
        assert page.evaluate(scheme) == "default"
        assert page.evaluate("document.querySelector('meta[name=color-scheme]').content") == "light dark"
        assert visit.errors == []


def test_offline_copy(browser: Any, built_offline: Path) -> None:
    """From a file: search answers, mathematics is set, nothing leaves."""
    with context(browser, viewport={"width": 1280, "height": 900}) as (made, left):
        visit = Visit(made)
        page = visit.goto((built_offline / "noisy_labels" / "imae.html").as_uri())
        assert page.locator(".katex").count() > 3
        box = page.locator("input[name=query]")
        box.click()
        _type(box, "imae")
        page.wait_for_selector(".md-search-result__item", timeout=20_000)
        page = visit.goto((built_offline / "catalog.html").as_uri())
        page.get_by_label("Find in papers").fill("imae")
        assert page.locator("tbody tr:visible").count() >= 1
        assert left == []
        assert visit.errors == []
    assert (built_offline.parent / "zoo-docs.zip").is_file()
