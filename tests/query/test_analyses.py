"""Rules of `attnstore.query.analyses` and of the files of `sql/analysis`.

The results of the four analyses here are compared with numpy over what an eager model returns.
"""

from __future__ import annotations

import json
import shutil
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paper
import polars as pl
import pytest
import torch
from helpers import flip, write_texts
from transformers import AutoModel, AutoTokenizer

import attnstore
from attnstore import resources
from attnstore.annotation.annotate import annotate
from attnstore.errors import UnknownNameError, UsageError
from attnstore.query import analyses, answer_cache, sql_text

RUN = "tiny/texts"
NAMES = sorted(resources.sql_files("analysis"))
ANY = {"VARCHAR": "x", "BIGINT": 0, "SMALLINT": 0, "DOUBLE": 0.5, "BOOLEAN": True}
"""A value of each type for a required parameter: binding a file needs no more."""
HEADER = "-- title: T\n-- source: S\n-- reads: runs\n-- column run VARCHAR: Run\n"


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("texts") / "texts.jsonl", 24, longest=15, pairs=True)


@pytest.fixture(scope="module")
def store(
    tiny_bert: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[attnstore.Store]:
    """A store with one float32 run of 24 pairs."""
    root = tmp_path_factory.mktemp("analyses") / "store"
    attnstore.ingest(root, str(tiny_bert), str(texts), max_length=40, precision="float32")
    with attnstore.open(root) as opened:
        yield opened


def required(analysis: analyses.Analysis) -> dict[str, Any]:
    """Values for every parameter of an analysis: its defaults, and any value where it has none."""
    return {p.name: ANY[p.type] if p.required else p.default for p in analysis.parameters}


def parsed(store: attnstore.Store, text: str) -> Any:
    """The syntax tree of a SELECT."""
    tree = store.sql("SELECT json_serialize_sql($query) AS tree", query=text).item()
    return json.loads(tree)["statements"][0]["node"]


def tables(tree: Any) -> Iterator[str]:
    """Every table that a syntax tree names, and every macro over maps."""
    if isinstance(tree, list):
        for item in tree:
            yield from tables(item)
    elif isinstance(tree, dict):
        if tree.get("type") == "BASE_TABLE":
            yield tree["table_name"]
        if (
            tree.get("type") == "TABLE_FUNCTION"
            and sql_text.function_name(tree) in sql_text.MAP_MACROS
        ):
            yield sql_text.function_name(tree)
        for item in tree.values():
            yield from tables(item)


def defined(tree: Any) -> set[str]:
    """Names that WITH defines, anywhere in a syntax tree."""
    if isinstance(tree, list):
        return set().union(*map(defined, tree))
    if not isinstance(tree, dict):
        return set()
    own = {entry["key"] for entry in (tree.get("cte_map") or {}).get("map", [])}
    return own.union(*map(defined, tree.values()))


# Every file of sql/analysis


@pytest.mark.parametrize("name", NAMES)
def test_header_names_the_columns_that_the_engine_gives(store: attnstore.Store, name: str) -> None:
    """Names and types, in order."""
    analysis = analyses.find(name)
    with store.connect() as con:
        relation = con.sql(analysis.select({}), params=required(analysis))
        found = list(zip(relation.columns, map(str, relation.types), strict=True))
    assert found == [(c.name, c.type) for c in analysis.columns]


@pytest.mark.parametrize("name", NAMES)
def test_header_names_the_parameters_that_the_query_takes(
    store: attnstore.Store, name: str
) -> None:
    """No more, and no fewer."""
    analysis = analyses.find(name)
    with store.connect() as con:
        (statement,) = con.extract_statements(analysis.sql)
    assert set(statement.named_parameters) == {p.name for p in analysis.parameters}


@pytest.mark.parametrize("name", NAMES)
def test_header_names_the_views_that_the_query_reads(store: attnstore.Store, name: str) -> None:
    """Each of them a view of the store."""
    analysis = analyses.find(name)
    tree = parsed(store, analysis.sql)
    assert set(tables(tree)) - defined(tree) == set(analysis.reads)
    assert set(analysis.reads) <= set(store.views())


@pytest.mark.parametrize("name", NAMES)
def test_result_is_ordered(store: attnstore.Store, name: str) -> None:
    """The outermost SELECT has an ORDER BY."""
    modifiers = parsed(store, analyses.find(name).sql)["modifiers"]
    assert "ORDER_MODIFIER" in [m["type"] for m in modifiers]


@pytest.mark.parametrize("name", NAMES)
def test_a_mean_comes_with_its_n_and_its_interval(name: str) -> None:
    """Whoever gives a mean gives n, low and high."""
    columns = {c.name for c in analyses.find(name).columns}
    assert "mean" not in columns or {"n", "low", "high"} <= columns


# Asking for one


def test_a_file_in_the_folder_is_an_analysis(
    store: attnstore.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else has to be done."""
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / "new_thing.sql").write_text(
        HEADER + "SELECT run FROM runs ORDER BY run"
    )
    monkeypatch.setattr(resources, "sql_folder", lambda: tmp_path)
    assert list(analyses.listing()) == ["new_thing"]
    assert store.query("new_thing")["run"].to_list() == [RUN]


def test_a_parameter_may_be_given_as_text(store: attnstore.Store) -> None:
    """As the command line gives it."""
    typed = store.query("top_links", run=RUN, example=3, layer=1, special=True, top=5)
    texts = store.query("top_links", run=RUN, example="3", layer="1", special="true", top="5")
    assert typed.equals(texts)
    assert len(typed) == 5


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({}, "needs run"),
        ({"run": RUN, "positon": 0.4}, "no parameter 'positon'; did you mean position?"),
        (
            {"run": RUN, "position": "half"},
            "position of analysis head_types is 'half'; give a number",
        ),
    ],
)
def test_wrong_parameters_are_refused(
    store: attnstore.Store, params: dict[str, Any], sentence: str
) -> None:
    """In one sentence that names the parameter."""
    with pytest.raises(UsageError, match="head_types") as error:
        store.query("head_types", **params)
    assert sentence in str(error.value)


def test_an_unknown_analysis_is_refused_with_near_matches(store: attnstore.Store) -> None:
    with pytest.raises(UnknownNameError, match="did you mean head_types"):
        store.query("head_type", run=RUN)


def test_an_unknown_run_is_refused_with_near_matches(store: attnstore.Store) -> None:
    with pytest.raises(UnknownNameError, match="did you mean tiny/texts"):
        store.query("head_entropy", run="tiny/text")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("SELECT 1", "has 0 lines of title"),
        (HEADER + "-- title: Again\n", "has 2 lines of title"),
        (HEADER + "-- remark: text\n", "Line 5 of sql/analysis/new.sql cannot be read"),
        (HEADER + "-- column n: How many\n", "write '-- column NAME TYPE: text (unit)'"),
        (HEADER + "-- param n NUMBER: How many\n", "has type NUMBER; write one of VARCHAR"),
        (HEADER + "-- param n BIGINT = few: How many\n", "is 'few'; give a whole number"),
    ],
)
def test_a_header_that_cannot_be_read_is_refused(text: str, sentence: str) -> None:
    """In one sentence that names the file and what to write."""
    with pytest.raises(UsageError, match=r"sql/analysis/new\.sql") as error:
        analyses.parse("new", text)
    assert sentence in str(error.value)


# Against an eager model


class Input:
    """One text through the eager model: its tokens, their kinds, its maps (layer, head, L, L).

    texts: the characters that each token stands for, as the text has them.
    """

    def __init__(self, tokens: list[str], texts: list[str], maps: np.ndarray[Any, Any]) -> None:
        self.tokens, self.texts, self.maps = tokens, texts, maps.astype(np.float64)
        self.kinds = np.array([kind(token) for token in tokens])

    def to(self, of: str) -> np.ndarray[Any, Any]:
        """(layer, head): weight to tokens of a kind, summed over them, mean over from-tokens."""
        return self.maps[..., self.kinds == of].sum(-1).mean(-1)


def kind(token: str) -> str:
    if token in ("[CLS]", "[SEP]"):
        return token[1:-1].lower()
    return "punctuation" if set(token.removeprefix("##")) <= set(string.punctuation) else "word"


@pytest.fixture(scope="module")
def inputs(tiny_bert: Path, texts: Path) -> list[Input]:
    """Every text, alone and unpadded, straight from transformers."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    model = AutoModel.from_pretrained(tiny_bert, attn_implementation="eager").eval()
    found = []
    for row in map(json.loads, texts.read_text().splitlines()):
        encoded = tokenizer(
            row["text"], row["text_pair"], truncation=True, max_length=40, return_tensors="pt"
        )
        with torch.no_grad():
            maps = torch.cat(model(**encoded, output_attentions=True).attentions).numpy()
        tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"][0])
        one = encoded.encodings[0]
        parts = [
            (row["text"], row["text_pair"])[side][first:last] if side is not None else token
            for token, side, (first, last) in zip(
                tokens, one.sequence_ids, one.offsets, strict=True
            )
        ]
        found.append(Input(tokens, parts, maps))
    return found


@pytest.fixture(scope="module")
def groups(texts: Path) -> list[int]:
    """Which of the texts share one, by loops over them."""
    found = paper.sources([json.loads(line) for line in texts.read_text().splitlines()])
    assert len(set(found)) < len(found)
    return found


def clustered(
    values: list[float], groups: list[int], most: float = np.inf
) -> tuple[int, float, float, float, str]:
    """n, mean, low, high, interval of a measure of at least 0: texts that share one are one draw."""
    n, mean, low, high = paper.student(values, 0, most, groups)
    return n, mean, low, high, "t by source"


def assert_rows(frame: pl.DataFrame, expected: list[tuple[Any, ...]]) -> None:
    """The same rows in the same order, numbers to five digits; bands are test_bands' work."""
    frame = frame.drop("random_low", "random_high", strict=False)
    assert len(frame) == len(expected)
    for found, wanted in zip(frame.iter_rows(), expected, strict=True):
        numbers = {type(v) for v in wanted} & {float, np.float64}
        near = [pytest.approx(v, 1e-5, 2e-6) if type(v) in numbers else v for v in wanted]
        assert list(found) == near


def test_special_tokens_equals_the_models_output(
    store: attnstore.Store, inputs: list[Input], groups: list[int]
) -> None:
    """Per layer and kind: the weight that the kind receives, mean over heads, then over inputs."""
    expected, heads = [], inputs[0].maps.shape[1]
    for layer in range(2):
        of = {k: [i.to(k)[layer].mean() for i in inputs] for k in ("cls", "sep", "punctuation")}
        of["other"] = [i.to("word")[layer].mean() for i in inputs]
        for name, values in of.items():
            n, *interval = clustered(values, groups, 1)
            expected.append((layer, name, n, heads, heads, *interval))
    assert_rows(store.query("special_tokens", run=RUN), expected)


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize(("layer", "head"), [(None, None), (1, None), (0, 2)])
def test_top_links_equals_the_models_output(
    store: attnstore.Store, inputs: list[Input], special: bool, layer: int | None, head: int | None
) -> None:
    """The largest weights of an example, without [CLS] and [SEP] unless they are asked for; both
    tokens as in the vocabulary and as the text has them."""
    one = inputs[5]
    links = [
        (
            *at[:3],
            one.tokens[at[2]],
            one.texts[at[2]],
            at[3],
            one.tokens[at[3]],
            one.texts[at[3]],
            weight,
        )
        for at, weight in np.ndenumerate(one.maps)
        if layer in (None, at[0]) and head in (None, at[1])
        if special or not {one.kinds[at[2]], one.kinds[at[3]]} & {"cls", "sep"}
    ]
    links.sort(key=lambda link: (-link[-1], *link[:-1]))
    found = store.query(
        "top_links", run=RUN, example=5, layer=layer, head=head, special=special, top=12
    )
    assert_rows(found, links[:12])


def test_the_interval_of_one_input_is_unknown(tiny_bert: Path, texts: Path, tmp_path: Path) -> None:
    """NULL, and not a width of 0."""
    attnstore.ingest(tmp_path / "store", str(tiny_bert), str(texts), limit=1, max_length=40)
    with attnstore.open(tmp_path / "store") as store:
        for name in ("special_tokens", "head_entropy", "head_types"):
            found = store.query(name, run=RUN)
            assert found["low"].null_count() == found["high"].null_count() == len(found)


def test_an_analysis_asked_again_reads_no_weight_until_the_index_changes(
    tmp_path: Path, sample_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is kept with the index's content; another parameter is another question."""
    root = Path(shutil.copytree(sample_store, tmp_path / "store"))
    with attnstore.open(root) as store:
        asked: list[str] = []
        computed = store.computed
        monkeypatch.setattr(
            store, "computed", lambda text, *rest: asked.append(text) or computed(text, *rest)
        )
        first = store.query("special_tokens", run="tiny/sample")
        again = store.query("special_tokens", run="tiny/sample")
        assert first.equals(again)
        assert len(asked) == 1
        store.query("head_entropy", run="tiny/sample")
        assert len(asked) == 2
        annotate(root, "sample", "negation")  # the index catches up
        assert store.query("special_tokens", run="tiny/sample").equals(first)
        assert len(asked) == 3


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer is worth a file."""
    monkeypatch.setattr(answer_cache, "WORTH", 0.0)


@pytest.mark.usefixtures("patient")
def test_an_answer_is_kept_for_other_sessions(
    tmp_path: Path, sample_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit; what is damaged or of an older index is computed again."""
    root = Path(shutil.copytree(sample_store, tmp_path / "store"))

    def asked_anew() -> tuple[pl.DataFrame, bool]:
        computed: list[str] = []
        with attnstore.open(root) as store, monkeypatch.context() as patch:
            real = store.computed
            patch.setattr(store, "computed", lambda text, *rest: computed.append(text) or real(text, *rest))  # fmt: skip
            return store.query("special_tokens", run="tiny/sample"), bool(computed)

    first, computed = asked_anew()
    assert computed
    again, computed = asked_anew()
    assert again.equals(first)
    assert not computed
    (file,) = (root / "answers").rglob("*.parquet")
    flip(file)
    again, computed = asked_anew()
    assert again.equals(first)
    assert computed
    annotate(root, "sample", "negation")
    assert asked_anew()[1]
    assert len(list((root / "answers").iterdir())) == 1


@pytest.mark.usefixtures("patient")
def test_a_bounded_number_of_answers_is_kept(
    tmp_path: Path, sample_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest go, in the session and on disk; one that is too large is not kept."""
    monkeypatch.setattr(answer_cache, "MAX_FILES", 3)
    root = Path(shutil.copytree(sample_store, tmp_path / "store"))
    with attnstore.open(root) as store:
        for number in range(5):
            assert store.kept("SELECT $x AS x", x=number)["x"].item() == number
        assert len(list((root / "answers").rglob("*.parquet"))) == 3
        monkeypatch.setattr(answer_cache, "MAX_FILE_BYTES", 0)
        store.kept("SELECT 'long' AS x")
        assert len(list((root / "answers").rglob("*.parquet"))) == 3


@pytest.mark.usefixtures("patient")
def test_a_folder_that_cannot_be_written_answers_all_the_same(
    tmp_path: Path, sample_store: Path
) -> None:
    """What cannot be kept is computed."""
    root = Path(shutil.copytree(sample_store, tmp_path / "store"))
    shutil.rmtree(root / "answers", ignore_errors=True)  # another test may have asked this store
    (root / "answers").write_text("no folder")
    with attnstore.open(root) as store:
        assert store.kept("SELECT 1 AS x")["x"].item() == 1
