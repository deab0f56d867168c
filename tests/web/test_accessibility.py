"""Every page in Chromium under axe-core's rules, in both themes, wide and narrow; grids by keyboard."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from browsing import PAGES, PATIENCE, RUN, settled

import attnstore
from attnstore.apps.publishing.pages import publish

pytestmark = pytest.mark.slow

VENDOR = Path(__file__).parent / "vendor"
RULES = {"target-size": {"enabled": True}}
"""Beside the rules that axe-core follows by itself: targets of 24 pixels (WCAG 2.2)."""


def findings(page: Any) -> list[str]:
    """What axe-core finds on a page: the rule, and the first element that breaks it."""
    page.evaluate(f"{(VENDOR / 'axe.min.js').read_text('utf-8')}; 0")
    found = page.evaluate(
        "rules => axe.run(document, {rules, resultTypes: ['violations']})", RULES
    )["violations"]
    return [
        f"{v['id']} ({len(v['nodes'])}): {v['nodes'][0]['html'][:200]}: {v['nodes'][0]['failureSummary']}"
        for v in found
    ]


def test_what_may_scroll_can_be_reached_by_keyboard() -> None:
    """Whether it scrolls depends on what a store holds; so each wide part takes the focus."""
    templates = Path(attnstore.__file__).parent.rglob("*.html")
    wide = {
        f"{path.name}: {tag}"
        for path in templates
        for tag in re.findall(r"<\w+ class=\"[^\">]*\bwide\b[^>]*>", path.read_text("utf-8"))
    }
    assert len(wide) > 10
    assert not [tag for tag in wide if 'tabindex="0"' not in tag]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_axe_finds_nothing(chromium: Any, address: str, width: int, scheme: str) -> None:
    """No page breaks a rule for people who read with their ears, by keyboard or with little contrast."""
    context = chromium.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, base_url=address
    )
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    found = {}
    for name, path in PAGES.items():
        page.goto(path)
        settled(page)
        if wrong := findings(page):
            found[name] = wrong
    context.close()
    assert not found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_published_pages(
    chromium: Any, real_store: Path, tmp_path: Path, scheme: str
) -> None:
    """The page of a run that any host serves, with its mean maps and grids, wide and narrow."""
    published = publish(real_store, RUN, tmp_path, 2, ["head_types"])
    found = {}
    for width in (1440, 390):
        page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.goto(published.page.as_uri())
        if wrong := findings(page):
            found[width] = wrong
        page.close()
    assert not found


def test_axe_finds_what_is_wrong(page: Any) -> None:
    """A picture without a name and a small button are findings, so that no finding means something."""
    page.goto("/")
    page.evaluate(
        "document.querySelector('main').insertAdjacentHTML('beforeend', "
        '\'<img src="/static/icon.svg"><button class="narrow">.</button><button class="narrow">.</button>\')'
    )
    page.evaluate(
        "for (const b of document.querySelectorAll('main button.narrow')) "
        "Object.assign(b.style, {width: '9px', height: '9px', padding: 0, border: 0})"
    )
    rules = {text.split(" ")[0] for text in findings(page)}
    assert {"image-alt", "target-size"} <= rules


def test_the_checker_is_unchanged_and_licensed() -> None:
    """axe-core has the checksum that is noted beside it, and its license."""
    noted = (VENDOR / "checksums.txt").read_text("utf-8").split()
    assert hashlib.sha256((VENDOR / noted[1]).read_bytes()).hexdigest() == noted[0]
    assert "Mozilla Public License" in (VENDOR / "LICENSE.axe").read_text("utf-8")


def test_a_grid_is_one_stop_of_the_tab_key(page: Any) -> None:
    """Tab enters it once and leaves it; arrows go inside, not over its edge; the last head is kept."""
    page.goto(f"/run/{RUN}")
    stops = "all => all.map(grid => grid.querySelectorAll('a[tabindex=\"0\"]').length)"
    assert set(page.eval_on_selector_all(".chart-grid", stops)) == {1}
    page.focus(".chart-grid a[tabindex='0']")
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowLeft", "ArrowLeft"):
        page.keyboard.press(key)
    at = "document.activeElement.closest('a')?.getAttribute('href')"
    assert page.evaluate(at).startswith(f"/run/{RUN}/head/2/0")
    page.keyboard.press("Tab")
    assert not page.evaluate("Boolean(document.activeElement.closest('.chart-grid'))")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate(at).startswith(f"/run/{RUN}/head/2/0")
    name = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert name.startswith("layer 2 · head 0: ")
    assert "95%" in name
