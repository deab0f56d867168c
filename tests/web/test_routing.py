"""Rules of the explorer's addresses: what a page needs, and what is mounted beside the explorer."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient
from webtools import HTML, LIMITS, RUN, Browser

from attnstore.web.routes import ROUTES
from attnstore.web.routing import App, Page
from attnstore.web.served_store import ServedStore
from attnstore.web.server import application
from attnstore.web.site import FOLDER, Site

TEMPLATE = """{% extends "base.html" %}
{% block head %}<script type="module" src="{{ static('count.js', 'counts/static') }}"></script>{% endblock %}
{% block main %}<h1>{{ n }} maps of {{ run }}</h1>{% endblock %}
"""


def counts_page(site: Site, request: Request) -> Response:
    """Show the number of maps of a run."""
    run = request.query_params.get("run", "")
    rows = site.store.ask("SELECT count(*) AS n FROM map_stats WHERE run = $run", run=run)
    return site.render(request, "counts.html", n=rows["n"].item(), run=f"<{run}>")


@pytest.fixture
def client(root: Path, tmp_path: Path) -> TestClient:
    """A client of an explorer with one page more."""
    for kind, name, text in (("templates", "counts.html", TEMPLATE), ("static", "count.js", "1")):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / name).write_text(text)

    def app(_: ServedStore) -> App:
        return App("counts", tmp_path, (Page("/counts", counts_page, "Counts", "c"),))

    return TestClient(application(root, apps=[app]), base_url="http://localhost")


def test_a_page_is_a_line_a_function_and_a_template(client: TestClient) -> None:
    """It stands in the navigation, escapes what it shows, and has the explorer's policy and errors."""
    answer = client.get("/counts?run=tiny/sample", headers=HTML)
    assert answer.status_code == 200, answer.text
    assert "<h1>64 maps of &lt;tiny/sample&gt;</h1>" in answer.text
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    assert 'href="/counts" aria-current="page" data-key="c">Counts</a>' in answer.text
    assert ">Counts</a>" in client.get("/", headers=HTML).text
    assert client.get("/counts?run=no/such", headers=HTML).status_code == 404
    assert client.get("/counts/static/count.js").text == "1"


def test_every_template_belongs_to_a_page_of_the_explorer() -> None:
    """Nothing is left over from a page that went, and no two pages answer one address."""
    addresses = [(route.path, getattr(route, "method", "POST")) for route in ROUTES]
    assert len(set(addresses)) == len(addresses)
    texts = "".join(path.read_text() for path in FOLDER.rglob("*") if path.suffix in (".py", ".html"))  # fmt: skip
    for template in (FOLDER / "templates").glob("*.html"):
        assert f'"{template.name}"' in texts, template.name


def test_a_page_without_its_app_is_not_there(root: Path) -> None:
    """The explorer alone has no labeling pages; `attnstore serve` mounts them."""
    client = TestClient(application(root), base_url="http://localhost")
    assert client.get("/annotate", headers=HTML).status_code == 404
    assert ">Annotate<" not in client.get("/", headers=HTML).text


OWN = """\
-- title: Entropy above a bound
-- source: The store's own
-- reads: map_stats
-- param run VARCHAR: Run
-- param above DOUBLE = 0: Bound
-- column layer SMALLINT: Layer
-- column head SMALLINT: Head
-- column mean DOUBLE: Mean entropy (nats)
SELECT layer, head, avg(entropy) AS mean FROM map_stats
WHERE run = $run AND entropy > $above GROUP BY ALL ORDER BY ALL
"""


def test_own_analyses_color_the_grid_and_are_asked(sample_store: Path, tmp_path: Path) -> None:
    """From the store's folder and from one's own, on the run's page and on the SQL page."""
    root = Path(shutil.copytree(sample_store, tmp_path / "s"))
    for folder, name in ((root / "analysis", "in_store"), (tmp_path / "own", "in_folder")):
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.sql").write_text(OWN)
    browser = Browser(root, limits=LIMITS, analyses=str(tmp_path / "own"))
    page = browser.get(f"/run/{RUN}").text
    for name in ("in_store", "in_folder"):
        assert f'value="analysis:{name}"' in page
        assert f"analysis={name}" in browser.get("/sql").text
        grid = browser.get(f"/run/{RUN}/grid?by=analysis:{name}&above=NaN")
        assert "There is nothing to show" in grid.text  # no number is above NaN
        assert "chart-grid" in browser.get(f"/run/{RUN}/grid?by=analysis:{name}&above=0.5").text
        assert browser.ask(f"SELECT count(*) FROM {name}(run := '{RUN}')")["state"] == "done"
    browser.close()
