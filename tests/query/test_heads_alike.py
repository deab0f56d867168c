"""Distances between heads, their places, clusters and tests against scipy and scikit-learn on eager maps."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import eager_runs
import numpy as np
import paper
import polars as pl
import pytest
import tiny
from eager_runs import EagerRun
from helpers import write_texts
from scipy.spatial.distance import cosine, jensenshannon, squareform
from sklearn.cluster import AgglomerativeClustering
from sklearn.manifold import MDS
from sklearn.metrics import silhouette_samples

import attnstore
from attnstore import extras
from attnstore.errors import AttnstoreError

Maps = dict[int, np.ndarray]
ANALYSES = ("head_pairs_alike", "heads_alike", "layers_alike")
SPECIAL = ("cls", "sep", "special")
RULES = [
    {"by": "weight", "specials": "keep", "measure": "js_divergence"},
    {"by": "norm", "specials": "renormalise", "measure": "js_divergence"},
    {"by": "weight", "specials": "renormalise", "measure": "js_distance"},
    {"by": "norm", "specials": "keep", "measure": "cosine"},
    {"by": "weight", "specials": "keep", "measure": "pearson"},
]


@pytest.fixture(scope="module", params=["minilm", "gpt2"])
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EagerRun]:
    made = eager_runs.make(tmp_path_factory.mktemp(request.param), request.param, n=7, longest=8)
    with made.store:
        yield made


def asked(run: EagerRun, name: str, **params: Any) -> pl.DataFrame:
    """The answer, computed now."""
    run.store.answers.forget()
    return run.store.query(name, run=run.run, **params)


def maps_of(run: EagerRun, by: str, specials: str) -> Maps:
    """Maps of each example without the special tokens if they are left out, (layer, head, L, L)."""
    chosen = {}
    for example, kinds in run.kinds.items():
        kept = [k for k, kind in enumerate(kinds) if specials == "keep" or kind not in SPECIAL]
        if kept:
            part = run.of(example, by)[..., kept, :][..., kept]
            chosen[example] = part / part.sum(axis=-1, keepdims=True)
    return chosen


def apart(one: Maps, other: Maps, measure: str) -> list[np.ndarray]:
    """Distances of every two heads in each example: (n, m, rows), of whole maps (n, m, 1)."""
    found = []
    for example in one:
        a, b = (x[example].reshape(-1, *x[example].shape[2:]) for x in (one, other))
        if measure.startswith("js_"):
            rows = np.nan_to_num(jensenshannon(a[:, None], b[None], base=2, axis=3))
            found.append(rows if measure == "js_distance" else rows**2)
        else:
            less = (lambda x: x - x.mean()) if measure == "pearson" else (lambda x: x)
            found.append(
                np.array([[[cosine(less(x).ravel(), less(y).ravel())] for y in b] for x in a])
            )
    return found


def mean_distances(run: EagerRun, **rule: str) -> np.ndarray:
    """Mean distance of every two heads, (n, n), from the model's output."""
    maps = maps_of(run, rule.get("by", "weight"), rule.get("specials", "keep"))
    found = apart(maps, maps, rule.get("measure", "js_divergence"))
    return np.concatenate(found, axis=2).mean(axis=2)


def draws(run: EagerRun, found: list[np.ndarray], examples: list[int]) -> list[int]:
    """The draw of each row: the first example with the same text."""
    texts = dict(run.store.sql("SELECT example, text FROM examples ORDER BY example").rows())
    first = {text: example for example, text in reversed(texts.items())}
    return [
        first[texts[e]] for e, x in zip(examples, found, strict=True) for _ in range(x.shape[2])
    ]


def places(maps: Maps) -> list[tuple[int, int]]:
    """Layer and head of each map."""
    return list(itertools.product(*map(range, next(iter(maps.values())).shape[:2])))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: "-".join(rule.values()))
def test_distances_of_heads_are_those_of_scipy(run: EagerRun, rule: dict[str, str]) -> None:
    """Mean over the rows of all inputs, in whose interval an input is one draw; every two heads once."""
    maps = maps_of(run, rule["by"], rule["specials"])
    found = apart(maps, maps, rule["measure"])
    values, groups = np.concatenate(found, axis=2), draws(run, found, list(maps))
    rows = asked(run, "head_pairs_alike", **rule)
    pairs = list(itertools.combinations(enumerate(places(maps)), 2))
    assert len(rows) == len(pairs)
    for row, ((i, one), (j, other)) in zip(rows.rows(named=True)[::29], pairs[::29], strict=True):
        assert (row["layer"], row["head"], row["other_layer"], row["other_head"]) == (*one, *other)
        most = 2 if rule["measure"] == "pearson" else 1
        n, mean, low, high = paper.student(values[i, j], 0, most, groups)
        known = sum(
            bool(np.isfinite(x[i, j]).all()) for x in found
        )  # one weight correlates with nothing
        assert (row["n"], row["rows"]) == (known, n)
        assert row["mean"] == pytest.approx(mean, abs=2e-5)
        assert (row["low"], row["high"]) == pytest.approx((low, high), abs=1e-4)


def stress(places: np.ndarray, distances: np.ndarray) -> float:
    """Kruskal's stress 1."""
    between = squareform(np.linalg.norm(places[:, None] - places, axis=2), checks=False)
    return float(
        np.sqrt(((between - squareform(distances, checks=False)) ** 2).sum() / (between**2).sum())
    )


@pytest.mark.parametrize("rule", RULES[:2], ids=lambda rule: "-".join(rule.values()))
def test_places_are_as_good_as_scikit_learns(run: EagerRun, rule: dict[str, str]) -> None:
    """Their stress is what they have, and no more than that of scaling from 20 random starts."""
    distances = mean_distances(run, **rule)
    rows = asked(run, "heads_alike", **rule)
    own = rows.select("x", "y").to_numpy()
    assert rows["stress"].unique().to_list() == [pytest.approx(stress(own, distances), abs=1e-4)]
    scaling = MDS(
        2, n_init=20, init="random", metric="precomputed", random_state=5, max_iter=1000, eps=1e-9
    )
    theirs = scaling.fit_transform(distances)
    assert stress(own, distances) <= stress(theirs, distances) + 2e-3
    np.testing.assert_allclose(own.mean(axis=0), 0, atol=1e-9)
    covariance = np.cov(own.T)
    assert covariance[0, 0] >= covariance[1, 1]
    assert covariance[0, 1] == pytest.approx(0, abs=1e-9)
    order = np.arange(len(own))
    assert (np.cov(order, own[:, 0])[0, 1], np.cov(order, own[:, 1])[0, 1]) > (0, 0)


@pytest.mark.parametrize("count", [2, 5])
def test_clusters_are_scikit_learns(run: EagerRun, count: int) -> None:
    """Average linkage, numbered by their first heads, with the silhouette of each head."""
    distances = mean_distances(run)
    rows = asked(run, "heads_alike", clusters=count)
    joining = AgglomerativeClustering(count, metric="precomputed", linkage="average")
    labels = joining.fit_predict(distances)
    numbers: dict[int, int] = {}
    wanted = [numbers.setdefault(label, len(numbers)) for label in labels]
    assert rows["cluster"].to_list() == wanted
    assert rows["clusters"].unique().to_list() == [count]
    silhouettes = silhouette_samples(distances, labels, metric="precomputed")
    np.testing.assert_allclose(rows["silhouette"], silhouettes, atol=1e-3)


def test_the_number_of_clusters_is_chosen_by_silhouettes(run: EagerRun) -> None:
    """The largest mean of 2 to 10 clusters, of those that do not set single heads against all others."""
    distances = mean_distances(run)
    best = {}
    for count in range(2, 11):
        joining = AgglomerativeClustering(count, metric="precomputed", linkage="average")
        labels = joining.fit_predict(distances)
        several = (np.bincount(labels) > 1).sum() > 1
        silhouettes = silhouette_samples(distances, labels, metric="precomputed")
        best[count] = (several, silhouettes.mean())
    assert asked(run, "heads_alike")["clusters"][0] == max(best, key=lambda count: best[count])


@pytest.mark.parametrize("rule", RULES[:2], ids=lambda rule: "-".join(rule.values()))
def test_each_head_has_its_nearest_head_and_its_layer(run: EagerRun, rule: dict[str, str]) -> None:
    """Nearest head, its held-out distance, distances within its layer and to others, from eager maps."""
    maps = maps_of(run, rule["by"], rule["specials"])
    found = apart(maps, maps, rule["measure"])
    groups = np.array(draws(run, found, list(maps)))
    half = np.searchsorted(np.unique(groups), groups) % 2
    values = np.concatenate(found, axis=2)
    means = values.mean(axis=2)
    heads = places(maps)
    layers = np.array([layer for layer, _ in heads])
    for i, row in enumerate(asked(run, "heads_alike", **rule).rows(named=True)):
        others = np.array([j for j in range(len(heads)) if j != i])
        own, away = others[layers[others] == layers[i]], others[layers[others] != layers[i]]
        nearest = others[means[i, others].argmin()]
        in_half = [others[values[i][others][:, half == h].mean(axis=1).argmin()] for h in (0, 1)]
        held_out = np.concatenate([values[i, in_half[h]][half == 1 - h] for h in (0, 1)])
        gain = values[i, away].mean(axis=0) - values[i, own].mean(axis=0)
        _, mean, low, high = paper.student(gain, -1, 1, groups.tolist())
        wanted = {
            "layer": heads[i][0], "head": heads[i][1], "n": len(maps), "others": means[i, others].mean(),
            "nearest_layer": heads[nearest][0], "nearest_head": heads[nearest][1], "nearest": means[i, nearest],
            "chosen": in_half.count(nearest), "held_out": held_out.mean(), "within": means[i, own].mean(),
            "between": means[i, away].mean(), "difference": mean, "difference_low": low, "difference_high": high,
            "p": paper.bent_test(gain, groups.tolist()),
        }  # fmt: skip
        for name, value in wanted.items():
            assert row[name] == pytest.approx(value, abs=1e-4), (name, row, wanted)
        assert row["above"] == (row["q"] < 0.05 and row["difference"] > 0)


def test_layers_are_tested_against_shuffled_labels(run: EagerRun) -> None:
    """Means within and between layers are those of the pairs; p is the share of shuffles that reach them."""
    distances = mean_distances(run)
    heads = list(itertools.product(*map(range, next(iter(run.maps.values())).shape[:2])))
    layers = np.array([layer for layer, _ in heads])
    pairs = ~np.eye(len(heads), dtype=bool)

    def gaps(labels: np.ndarray) -> np.ndarray:
        of = labels[:, None] == np.arange(layers.max() + 1)
        gaps = []
        for chosen in (*of.T, None):
            inside = pairs & (
                labels[:, None] == labels if chosen is None else np.outer(chosen, chosen)
            )
            outside = pairs & (
                labels[:, None] != labels if chosen is None else np.outer(chosen, ~chosen)
            )
            gaps.append(distances[outside].mean() - distances[inside].mean())
        return np.array(gaps)

    draw = np.random.default_rng(7)
    shuffled = np.abs([gaps(draw.permutation(layers)) for _ in range(2000)])
    measured = gaps(layers)
    rows = asked(run, "layers_alike")
    np.testing.assert_allclose(rows["difference"], measured, atol=1e-4)
    np.testing.assert_allclose(rows["p"], (shuffled >= np.abs(measured)).mean(axis=0), atol=0.05)
    assert rows["layer"].to_list() == [*range(layers.max() + 1), None]
    others = np.where(pairs, distances, np.inf)
    near = layers[others.argmin(axis=1)] == layers
    np.testing.assert_allclose(
        rows["nearest"], [*(near[layers == y].mean() for y in range(layers.max() + 1)), near.mean()]
    )
    assert rows["chance"].to_list() == pytest.approx(
        [(len(layers) // (layers.max() + 1) - 1) / (len(layers) - 1)] * len(rows)
    )
    inside = rows.filter(
        pl.col("difference").is_between(pl.col("difference_low"), pl.col("difference_high"))
    )
    assert len(inside) == len(rows)


class Two:
    """A store with a tiny model and another with the same tokenizer, and the maps of both."""

    def __init__(self, place: Path) -> None:
        folders = [
            tiny.make(place / name, "bert", seed=seed) for seed, name in enumerate(("one", "other"))
        ]
        texts = write_texts(place / "t.jsonl", 12, pairs=True)
        for folder in folders:
            attnstore.ingest(
                place / "s", str(folder), str(texts), precision="float32", max_length=64
            )
        self.sources = paper.sources([json.loads(line) for line in texts.read_text().splitlines()])
        self.store = attnstore.open(place / "s")
        self.maps = [
            dict(
                sorted(
                    (m.example, m.weights.astype(np.float64))
                    for m in self.store.maps(f"{name}/t", examples=range(12))
                )
            )
            for name in ("one", "other")
        ]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    made = Two(tmp_path_factory.mktemp("two"))
    with made.store:
        yield made


def test_heads_of_two_runs_are_compared_with_each_other(two: Two) -> None:
    """Distance to itself, its rank, the nearest head, and the nearest but itself on the other half."""
    found = apart(*two.maps, "js_divergence")
    groups = [s for s, x in zip(two.sources, found, strict=True) for _ in range(x.shape[2])]
    half = np.searchsorted(np.unique(groups), groups) % 2
    values = np.concatenate(found, axis=2)
    means, heads = values.mean(axis=2), places(two.maps[0])
    for i, row in enumerate(
        two.store.query("heads_across_runs", run="one/t", base_run="other/t").rows(named=True)
    ):
        others = np.array([j for j in range(len(heads)) if j != i])
        nearest = means[i].argmin()
        in_half = [others[values[i][others][:, half == h].mean(axis=1).argmin()] for h in (0, 1)]
        against = np.where(half == 0, values[i, in_half[1]], values[i, in_half[0]])
        _, itself, low, high = paper.student(values[i, i], 0, 1, groups)
        gain = against - values[i, i]
        _, difference, gain_low, gain_high = paper.student(gain, -1, 1, groups)
        wanted = {
            "layer": heads[i][0], "head": heads[i][1], "n": len(found), "itself": itself, "low": low, "high": high,
            "rank": (means[i] < means[i, i]).sum() + 1, "heads": len(heads), "nearest_layer": heads[nearest][0],
            "nearest_head": heads[nearest][1], "nearest": means[i, nearest], "other": against.mean(),
            "difference": difference, "difference_low": gain_low, "difference_high": gain_high,
            "p": paper.bent_test(gain, groups),
        }  # fmt: skip
        for name, value in wanted.items():
            assert row[name] == pytest.approx(value, abs=1e-4), (name, row, wanted)


def test_a_sample_of_inputs_is_always_the_same(two: Two) -> None:
    """So many inputs as are asked for, and a note that says of how many."""
    rows = [two.store.query("head_pairs_alike", run="one/t", limit=n) for n in (5, 5, 12, None)]
    assert [r["n"].unique().to_list() for r in rows] == [[5], [5], [12], [12]]
    assert rows[0].equals(rows[1])
    assert rows[2]["mean"].equals(rows[3]["mean"])
    notes = [two.store.notes("head_pairs_alike", run="one/t", limit=n) for n in (5, None)]
    assert notes == [
        [
            "5 of the 12 inputs of run one/t are compared, a random sample; --param limit=null takes all."
        ],
        [],
    ]


def test_the_same_store_gives_the_same_places(two: Two) -> None:
    """To the last digit, however the threads of a query divide their work."""
    answers = []
    for _ in range(3):
        two.store.answers.forget()
        answers.append(
            two.store.query("heads_alike", run="one/t").select("x", "y", "stress", "cluster")
        )
    assert answers[0].equals(answers[1])
    assert answers[0].equals(answers[2])


@pytest.mark.parametrize(("layers", "heads"), [((0,), (1,)), ((0,), (0, 2)), ((0, 1), (3,))])
def test_a_run_of_few_heads_has_what_there_is(
    tmp_path: Path, tiny_bert: Path, layers: tuple[int, ...], heads: tuple[int, ...]
) -> None:
    """NULL where a head, a layer or a cluster has nothing to be compared with."""
    attnstore.ingest(
        tmp_path, str(tiny_bert), "sample", limit=12, max_length=64, layers=layers, heads=heads
    )
    count = len(layers) * len(heads)
    with attnstore.open(tmp_path) as store:
        run = store.sql("SELECT run FROM runs").item()
        assert len(store.query("head_pairs_alike", run=run)) == count - 1
        rows = store.query("heads_alike", run=run)
        assert rows["head"].to_list() == [*heads] * len(layers)
        missing = {column: rows[column].null_count() == count for column in rows.columns}
        for column in ("others", "x", "stress", "nearest", "held_out"):
            assert missing[column] == (count == 1), column
        assert missing["within"] == (len(heads) == 1)
        assert missing["between"] == (len(layers) == 1)
        assert missing["difference"]
        assert missing["above"]
        tests = store.query("layers_alike", run=run)
        assert tests["heads"].to_list() == [len(heads)] * len(layers) + [count]
        assert tests["p"].null_count() == len(tests)


def test_a_disabled_head_has_no_place_by_norm(tmp_path: Path, tiny_bert: Path) -> None:
    """A head that moves nothing has no rows by norm, so it has no distance; the others have theirs."""
    attnstore.ingest(
        tmp_path,
        str(tiny_bert),
        "sample",
        limit=4,
        max_length=64,
        disable="0.1",
        disable_value="zero",
    )
    with attnstore.open(tmp_path) as store:
        run = store.sql("SELECT run FROM runs").item()
        rows = store.query("heads_alike", run=run, by="norm")
        alone = (rows["layer"] == 0) & (rows["head"] == 1)
        for column in ("others", "x", "cluster", "nearest", "within", "p", "above"):
            assert rows.filter(alone)[column].to_list() == [None], column
            assert rows.filter(~alone)[column].null_count() == 0, column


@pytest.mark.parametrize(
    ("name", "params", "sentence"),
    [
        (
            "heads_alike",
            {"measure": "js"},
            "The measure is js; give js_divergence or js_distance or cosine or pearson",
        ),
        ("heads_alike", {"specials": "drop"}, "specials is drop; give keep or renormalise"),
        (
            "heads_alike",
            {"clusters": 9},
            "clusters is 9 for 8 heads; give 1 to 8, or NULL to choose it",
        ),
        ("layers_alike", {"by": "norms"}, "There is no by = 'norms'; it is weight or norm"),
        (
            "heads_across_runs",
            {"base_run": "one/t"},
            "Run one/t is to be compared with another run; heads_alike compares its own heads",
        ),
        (
            "heads_across_runs",
            {},
            "The store holds no run of the model that one/t was trained from",
        ),
    ],
)
def test_unknown_rules_are_refused(
    two: Two, name: str, params: dict[str, Any], sentence: str
) -> None:
    """In a sentence that lists those that there are."""
    with pytest.raises(AttnstoreError, match=sentence):
        two.store.query(name, run="one/t", **params)


def test_scikit_learn_is_asked_for_where_it_is_missing(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of places and clusters alone; distances and tests need none."""
    two.store.answers.forget()
    monkeypatch.setattr(extras, "_is_installed", lambda package: package != "sklearn")
    with pytest.raises(
        AttnstoreError,
        match=r"The package sklearn is not installed; `pip install 'attnstore\[training\]'`",
    ):
        two.store.query("heads_alike", run="one/t")
    assert len(two.store.query("layers_alike", run="one/t")) == 3


def test_attention_is_averaged_over_the_tokens_that_are_no_padding(
    tmp_path: Path, tiny_bert: Path
) -> None:
    """A run with padding has the distances of the run without."""
    texts = write_texts(tmp_path / "t.jsonl", 6)
    for folder, options in ((tmp_path / "a", {}), (tmp_path / "b", {"pad_to": 40})):
        attnstore.ingest(
            folder, str(tiny_bert), str(texts), max_length=40, precision="float32", **options
        )
    rows = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        with attnstore.open(folder) as store:
            rows.append(
                store.query("head_pairs_alike", run=store.sql("SELECT run FROM runs").item())
            )
    assert rows[0]["rows"].to_list() == rows[1]["rows"].to_list()
    np.testing.assert_allclose(rows[0]["mean"], rows[1]["mean"], atol=1e-5)
