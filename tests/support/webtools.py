"""What the tests of the explorer share: hostile texts, a client, a query followed to its end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from helpers import write_rows
from starlette.testclient import TestClient

from attnstore.apps.labeling import pages as labeling
from attnstore.web.query_jobs import Limits
from attnstore.web.server import application

HTML = {"Accept": "text/html"}
RUN = "tiny/sample"
"""The run of the fixture `sample_store`."""

HOSTILE = (
    "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">",
    "</script><script>document.title='owned'</script> <!-- ]]> {{ 7 * 7 }} &lt;b&gt;",
    "right \u202eotlefttfel\u202c and \u200fmarks\u200e, \u2066isolated",
    "a" * 10_000 + " is a long word",
    "family 👩\u200d👩\u200d👧\u200d👦 flag 🏳️\u200d🌈 \x07 bell, 'quotes' \"and\" \\ slashes",
)


def hostile_texts(path: Path) -> Path:
    """A jsonl file whose texts, pairs and labels are hostile."""
    rows = [
        {"text": text, "text_pair": f"{text} again", "label": "<i>" + text[:40]} for text in HOSTILE
    ]
    return write_rows(path, rows)


class Browser:
    """A client of an explorer, with the token of its page."""

    def __init__(self, root: Path, **about: Any) -> None:
        self.app = application(root, apps=[labeling.app], **about)
        self.client = TestClient(self.app, base_url="http://localhost", follow_redirects=False)
        self.site = self.app.state.site
        self.headers = {"X-Page-Token": self.site.page_token}

    def get(self, url: str) -> Any:
        """A page."""
        return self.client.get(url, headers=HTML)

    def post(self, url: str, body: Any) -> Any:
        """What a page sends."""
        return self.client.post(url, json=body, headers=self.headers)

    def ask(self, sql: str, wait: float = 120, **params: str) -> dict[str, Any]:
        """A query, followed until it ends."""
        answer = self.post("/questions", {"sql": sql, "params": params})
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        end = time.monotonic() + wait
        while told["state"] in ("waiting", "running"):
            assert time.monotonic() < end, told
            time.sleep(0.02)
            told = self.client.get(f"/questions/{told['id']}").json()
        return told

    def close(self) -> None:
        """End what the server holds."""
        self.site.close()


LIMITS = Limits(seconds=120, memory=1 << 30, rows=5000, file=1 << 20)
