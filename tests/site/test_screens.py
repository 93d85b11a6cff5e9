"""Layout that only a browser can judge, and pictures for a person to look at (``ZOO_SCREENSHOTS=folder``)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import ARGUMENTS, CHROMIUM, Visit, context, served

pytestmark = [
    pytest.mark.site,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no Chromium at {CHROMIUM} (set CHROMIUM)"),
]
SHOWN = (
    "", "catalog/", "normalization/", "noisy_labels/", "optimizers/", "normalization/group_norm/", "noisy_labels/elr/", "optimizers/lans/",
    "pooling/isqrt_cov/", "activations/siren/", "memory/memn2n/", "generative/planar_flow/", "graph/", "timeline/", "compare/", "models/",
    "capabilities/", "swap-matrix/", "benchmarks/", "claims/", "guide/quick-start/", "guide/kl-divergence/",
)  # fmt: skip


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


@pytest.mark.parametrize("width", [1280, 390])
def test_equations_break_or_say_that_they_scroll(browser: Any, address: str, width: int) -> None:
    wide = 0
    with context(browser, viewport={"width": width, "height": 900}) as (made, _):
        for path in ("normalization/group_norm/", "memory/memn2n/", "generative/planar_flow/", "pooling/isqrt_cov/"):
            page = Visit(made).goto(address + path)
            page.evaluate("document.fonts.ready")
            said = "[...document.querySelectorAll('.zoo-eq')].map(e => [e.scrollWidth > e.clientWidth + 1, e.classList.contains('wide'), e.tabIndex])"
            page.wait_for_function(
                f"{said}.every(([over, marked]) => over === marked)", timeout=5000
            )  # once the fonts are there
            for over, marked, focus in page.evaluate(said):
                assert over == marked
                assert (focus == 0) == over, "what scrolls can be reached by keyboard"
                wide += over
            if path == "normalization/group_norm/" and width == 1280:
                assert not page.locator(".zoo-eq.wide").count(), "three equations side by side become three lines"
    assert width == 1280 or wide


@pytest.mark.parametrize("width", [1280, 390])
def test_boxes_of_the_graph_do_not_overlap(browser: Any, address: str, width: int) -> None:
    with context(browser, viewport={"width": width, "height": 900}) as (made, _):
        for paper in ("batch_norm", "gce", "vae"):
            page = Visit(made).goto(f"{address}graph/?paper={paper}")
            page.wait_for_selector(".zoo-graph.live rect")
            boxes = page.evaluate(
                "[...document.querySelectorAll('.zoo-graph rect')].map(r => { const b = r.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom] })"
            )
            assert len(boxes) > 2
            for i, a in enumerate(boxes):
                assert a[0] >= 0
                assert a[2] <= width
                for b in boxes[i + 1 :]:
                    assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (paper, a, b)
            assert page.locator(".zoo-graph text").first.evaluate("e => e.getBoundingClientRect().height") > 9


def test_graph_of_the_offline_copy_leads_to_pages(browser: Any, built_offline: Path) -> None:
    with context(browser) as (made, left):
        page = Visit(made).goto((built_offline / "graph.html").as_uri() + "?paper=gce")
        page.get_by_role("link", name="Open its page").click()
        page.wait_for_load_state()
        assert page.url.endswith("noisy_labels/gce.html")
        assert Path(page.url.removeprefix("file://")).is_file()
        assert left == []


def test_benchmarks_show_their_verdicts(browser: Any, address: str) -> None:
    with context(browser, viewport={"width": 1280, "height": 900}) as (made, _):
        page = Visit(made).goto(address + "benchmarks/")
        said = page.locator("h1 + p strong").inner_text()
        met, aimed = (int(word) for word in said.split() if word.isdigit())
        words = page.locator("td[data-label=Verdict]").all_inner_texts()
        assert words.count("met") == met
        assert words.count("met") + words.count("missed") == aimed
        assert page.locator("figure.zoo-plot svg[aria-label]").count() >= 2


@pytest.mark.skipif(not os.environ.get("ZOO_SCREENSHOTS"), reason="set ZOO_SCREENSHOTS to a folder")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_pictures_to_look_at(browser: Any, address: str, width: int, scheme: str) -> None:
    folder = Path(os.environ["ZOO_SCREENSHOTS"])
    folder.mkdir(parents=True, exist_ok=True)
    with context(browser, viewport={"width": width, "height": 900}, color_scheme=scheme) as (made, left):
        visit = Visit(made)
        for path in SHOWN:
            name = path.strip("/").replace("/", "_") or "home"
            visit.goto(address + path).screenshot(path=folder / f"{name}-{width}-{scheme}.png", full_page=True)
        assert left == visit.errors == []
