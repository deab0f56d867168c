"""Mean maps in Chromium: from the picture of a run to its previous-token head."""

from __future__ import annotations

from typing import Any

import pytest
from browsing import RUN

pytestmark = pytest.mark.slow


def test_the_previous_token_head_is_found_by_its_picture(page: Any) -> None:
    """Two clicks and a look: the run's picture, the diagonal of layer 0, head 2, and its page."""
    page.goto("/")
    picture = page.locator(f"img[alt='Mean maps of the heads of {RUN}']")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 12 * 17 - 1
    picture.click()
    head = page.locator("#mean-maps a[data-layer='0'][data-head='2']")
    head.hover()
    assert "layer 0 · head 2: the token before" in page.locator("#tip").inner_text()
    assert head.get_attribute("aria-label") == page.locator("#tip").inner_text()
    head.click()
    assert page.url.endswith(f"/run/{RUN}/head/0/2")
