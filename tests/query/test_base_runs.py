"""Rules of picking the run that a run is held against, and of saying what a comparison leaves out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import tiny
from click.testing import CliRunner
from helpers import write_texts
from polars.testing import assert_frame_equal
from webtools import Browser

import attnstore
from attnstore.cli.main import main
from attnstore.declared import drift as movement
from attnstore.declared.staleness import Result
from attnstore.errors import AttnstoreError
from attnstore.paper import gallery

RUN, BASE = "tuned/t", "base/t"
INPUTS, HEADS = 12, 12
OTHERS: list[dict[str, Any]] = [
    {"limit": 5},
    {"layers": (0,), "heads": (0, 1)},
    {"pad_to": 64},
    {"precision": "compact"},
    {"max_length": 12},
    {"disable": "0.*"},
]
"""Later ingestions of the base model, each with something that the trained model's run does not have."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base model, a model that was trained from it, and texts."""
    place = tmp_path_factory.mktemp("models")
    made = {
        name: tiny.make(place / name, "bert", seed=seed, num_hidden_layers=3)
        for seed, name in enumerate(("base", "tuned"))
    }
    config = json.loads((made["tuned"] / "config.json").read_text()) | {"_name_or_path": "base"}
    (made["tuned"] / "config.json").write_text(json.dumps(config))
    (made["tuned"] / "trainer_state.json").write_text(json.dumps({"global_step": 7}))
    return made | {"texts": write_texts(place / "t.jsonl", INPUTS, longest=20)}


def _ingest(root: Path, folders: dict[str, Path], model: str, **settings: Any) -> str:
    given = {"max_length": 64, "precision": "float32"} | settings
    ingested = attnstore.ingest(root, str(folders[model]), f"{folders['texts']}=t", **given)
    return ingested[0].run


@pytest.fixture(scope="module")
def root(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both models in full, the base once more in every other way, the trained one in part."""
    path = tmp_path_factory.mktemp("stores") / "store"
    for model in ("base", "tuned"):
        _ingest(path, folders, model)
    for settings in OTHERS:
        _ingest(path, folders, "base", **settings)
    _ingest(path, folders, "tuned", limit=4, heads=(2, 3))
    _ingest(path, folders, "tuned", pad_to=64)
    return path


@pytest.fixture
def store(root: Path) -> Iterator[attnstore.Store]:
    with attnstore.open(root) as opened:
        yield opened


def _base_of(store: attnstore.Store, run: str) -> tuple[str, str]:
    found: tuple[str, str] = store.sql(
        "SELECT base_run, note FROM base_runs WHERE run = $run", run=run
    ).row(0)
    return found


@pytest.mark.parametrize("settings", OTHERS, ids=lambda settings: "-".join(settings))
def test_a_later_base_run_in_other_ways_changes_no_comparison(
    folders: dict[str, Path], tmp_path: Path, settings: dict[str, Any]
) -> None:
    """Fewer inputs or heads, padding, rounding, cut texts or disabled heads: the run that is alike stays."""
    for model in ("base", "tuned"):
        _ingest(tmp_path / "s", folders, model)
    with attnstore.open(tmp_path / "s") as store:
        before = store.query("drift", run=RUN)
    other = _ingest(tmp_path / "s", folders, "base", **settings)
    assert other == f"{BASE}@2"
    with attnstore.open(tmp_path / "s") as store:
        assert _base_of(store, RUN)[0] == BASE
        assert_frame_equal(store.query("drift", run=RUN), before)
        assert (len(before), before["n"].unique().to_list()) == (HEADS, [INPUTS])


def test_without_a_run_that_is_alike_the_one_that_shares_most_is_taken(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """Inputs times heads count; one that would be refused is not taken, and the note says what is left out."""
    _ingest(tmp_path / "s", folders, "tuned")
    _ingest(tmp_path / "s", folders, "base", layers=(0,))
    _ingest(tmp_path / "s", folders, "base", limit=5)
    _ingest(tmp_path / "s", folders, "base", limit=7)
    _ingest(tmp_path / "s", folders, "base", pad_to=64)
    with attnstore.open(tmp_path / "s") as store:
        assert _base_of(store, RUN) == (
            f"{BASE}@3",
            "Run tuned/t is compared with base/t@3: 7 of its 12 inputs and 12 of its 12 heads.",
        )
        assert set(store.query("drift", run=RUN)["n"]) == {7}


def test_a_run_in_part_finds_the_whole_run_and_a_padded_one_the_padded(
    store: attnstore.Store,
) -> None:
    """What the base run holds beyond the run does not matter; other tokens do."""
    _, note = _base_of(store, f"{RUN}@2")
    assert note.endswith(": all of its 4 inputs and 6 heads.")
    assert store.query("drift", run=f"{RUN}@2")["n"].to_list() == [4] * 6
    padded, _ = _base_of(store, f"{RUN}@3")
    assert store.run(padded).pad_to == 64


def test_run_pairs_are_what_two_loops_over_inputs_and_heads_say(store: attnstore.Store) -> None:
    """Shared examples, other tokens and shared heads of every two runs, counted one by one."""
    tokens: dict[str, dict[int, list[int]]] = {}
    for run, example, ids in store.sql("SELECT run, example, token_ids FROM inputs").iter_rows():
        tokens.setdefault(run, {})[example] = ids
    heads = {
        run: set(product(layers, heads))
        for run, layers, heads in store.sql("SELECT run, layers, heads FROM runs").iter_rows()
    }
    counted = set()
    for a, b in product(tokens, tokens):
        shared = tokens[a].keys() & tokens[b].keys()
        different = sum(tokens[a][e] != tokens[b][e] for e in shared)
        counted.add(
            (a, b, len(tokens[a]), len(shared), different, len(heads[a] & heads[b]), len(heads[a]))
        )
    said = store.sql(
        "SELECT run, other_run, inputs, shared, different, heads, of_heads FROM run_pairs"
    )
    assert set(said.iter_rows()) == counted
    assert len(said) == len(counted)


def test_runs_are_alike_if_inputs_heads_and_settings_are(store: attnstore.Store) -> None:
    """One pair of all: the two full runs. Disabled heads do not count, since they are another question."""
    alike = store.sql(
        "SELECT other_run, r.disabled FROM run_pairs p JOIN runs r ON r.run = p.other_run "
        "WHERE p.run = $run AND alike AND other_run <> p.run ORDER BY ALL", run=RUN,
    ).rows()  # fmt: skip
    assert alike == [(BASE, None), (f"{BASE}@7", "0.*")]


def test_runs_without_a_common_head_are_refused(store: attnstore.Store) -> None:
    """In a sentence, instead of an answer without rows."""
    with pytest.raises(AttnstoreError, match="share no head"):
        store.query("drift", run=f"{RUN}@2", base_run=_of(store, "n_layers = 1"))


def test_dropped_runs_are_no_longer_matched(folders: dict[str, Path], tmp_path: Path) -> None:
    """After the run that was alike is gone, the next best is taken."""
    for model, settings in (("base", {}), ("tuned", {}), ("base", {"limit": 5})):
        _ingest(tmp_path / "s", folders, model, **settings)
    with attnstore.open(tmp_path / "s") as store:
        store.drop(BASE)
        store.catch_up()
        assert _base_of(store, RUN)[0] == f"{BASE}@2"


def _of(store: attnstore.Store, which: str) -> str:
    return str(store.sql(f"SELECT run FROM runs WHERE model = 'base' AND {which}").item())


def _asked(root: Path, *options: str) -> str:
    result = CliRunner().invoke(
        main, ["--store", str(root), "query", "drift", "--run", RUN, *options, "--format", "csv"]
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("layer,head,")
    return result.stderr


def test_who_asks_on_the_command_line_is_told_which_run_was_taken(
    root: Path, store: attnstore.Store
) -> None:
    """On stderr: always if the base run was picked, else if something is left out; rows stay clean."""
    all_of_it = "Run tuned/t is compared with base/t: all of its 12 inputs and 12 heads."
    assert _asked(root) == f"attnstore: note: {all_of_it}\n"
    assert _asked(root, "--base-run", BASE) == ""
    some = _of(store, "stored = 5")
    assert f"{some}: 5 of its 12 inputs and 12 of its 12 heads." in _asked(root, "--base-run", some)
    rounded = _of(store, "precision = 'compact'")
    assert "; precision float32 against compact." in _asked(root, "--base-run", rounded)


def test_explorer_and_figure_say_it_too(root: Path, store: attnstore.Store) -> None:
    """Under the grid, and at the end of the caption."""
    some = _of(store, "stored = 5")
    sentence = f"Run tuned/t is compared with {some}: 5 of its 12 inputs and 12 of its 12 heads."
    browser = Browser(root)
    try:
        page = browser.get(f"/run/{RUN}/grid?by=analysis:drift&base_run={some}").text
    finally:
        browser.close()
    assert sentence in page
    assert gallery.draw(store, "drift", run=RUN, base_run=some).caption.endswith(sentence)


def test_a_refresh_reports_what_a_comparison_leaves_out(
    store: attnstore.Store, tmp_path: Path
) -> None:
    """Beside the heads that moved most; nothing where the runs share everything."""
    some = _of(store, "stored = 5")
    result = Result("movement", RUN, {}, tmp_path / "x.parquet", "", "missing")
    notes = movement.notes(store, movement.Movement(result, 7, {"base": BASE, "previous": some}))
    assert len(notes) == 1
    assert f"compared with {some}: 5 of its 12 inputs" in notes[0]


@pytest.mark.parametrize("name", ["drift", "drift_by_layer", "feature_change", "drift_over_steps"])
def test_every_comparison_of_two_runs_has_notes(store: attnstore.Store, name: str) -> None:
    """With a base run that holds a part of the run."""
    params = {"run": RUN, "base_run": _of(store, "stored = 5")}
    known = {p.name for p in store.named_analyses.find(name).parameters}
    notes = store.notes(name, **{k: v for k, v in params.items() if k in known})
    assert any("5 of its 12 inputs" in note for note in notes)


def test_an_own_analysis_may_have_notes(root: Path, tmp_path: Path) -> None:
    """Each a SELECT over the views with its parameters; anything else is refused."""
    head = "-- title: T\n-- source: S\n-- reads: runs\n-- param run VARCHAR: Run\n-- column n BIGINT: Count\n"
    body = "SELECT count(*) AS n FROM runs WHERE run = $run\n"
    for name, note in (("mine", "SELECT model FROM runs WHERE run = $run"), ("bad", "SELECT path FROM duckdb_databases()")):  # fmt: skip
        (tmp_path / f"{name}.sql").write_text(f"{head}-- note: {note}\n{body}")
    with attnstore.open(root, analyses=tmp_path) as store:
        assert store.query("mine", run=RUN).equals(pl.DataFrame({"n": [1]}))
        assert store.notes("mine", run=RUN) == ["tuned"]
        with pytest.raises(AttnstoreError, match=r"bad\.sql reads"):
            store.notes("bad", run=RUN)
