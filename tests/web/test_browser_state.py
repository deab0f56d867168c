"""The state of the example page in Chromium: Back undoes steps, and everything names the run that is shown."""

from __future__ import annotations

from typing import Any

import pytest
from browsing import OTHER, RUN, drawn

pytestmark = pytest.mark.slow


def test_back_undoes_the_last_step(page: Any) -> None:
    """Head, unit and pins come back one by one, then the page before."""
    page.goto(f"/run/{RUN}")
    page.goto(f"/run/{RUN}/example/3?layer=1&head=1&pins=1-2")
    n = drawn(page)
    page.keyboard.press("ArrowRight")
    n = drawn(page, n)
    page.keyboard.press("w")
    n = drawn(page, n)
    assert page.locator(".pins li").count() == 0
    page.go_back()
    n = drawn(page, n)
    assert not page.is_checked("input[value=word]")
    assert page.inner_text(".one .caption b") == "Layer 1, head 2"
    page.go_back()
    drawn(page, n)
    assert page.inner_text(".one .caption b") == "Layer 1, head 1"
    assert page.locator(".pins li").count() == 1
    page.go_back()
    page.wait_for_selector("#inputs")


def test_another_checkpoint_renames_everything(page: Any) -> None:
    """The title, the crumb and the next example are of the run that is shown."""
    page.goto(f"/run/{RUN}/example/3?layer=2&head=1")
    n = drawn(page)
    page.keyboard.press("]")
    n = drawn(page, n)
    assert page.title().startswith(f"{OTHER} example 3")
    assert page.inner_text(".crumbs a[data-run]") == OTHER
    page.keyboard.press("n")
    page.wait_for_url(f"**/run/{OTHER}/example/4?**")
    drawn(page)
    page.click(".crumbs a[data-run]")
    page.wait_for_url(f"**/run/{OTHER}")


def test_the_first_example_has_none_before(page: Any) -> None:
    """`p` does nothing there."""
    page.goto(f"/run/{RUN}/example/0")
    n = drawn(page)
    page.keyboard.press("p")
    page.keyboard.press("ArrowRight")
    drawn(page, n)
    assert "/example/0" in page.url
    assert not page.is_visible("[aria-label='Example before']")
