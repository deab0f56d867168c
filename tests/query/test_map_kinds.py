"""Rules of kinds of maps in SQL: a kind is an argument of a macro, and a key of a run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

import attnstore
from attnstore import map_kinds
from attnstore.errors import AttnstoreError, DamageError, QueryError, UnknownNameError, UsageError
from attnstore.query.run_keys import RunKeys

MACROS = ("maps", "attention", "map_places", "word_attention")


@pytest.mark.parametrize("macro", MACROS)
def test_a_macro_of_the_weights_has_the_rows_of_its_view(sample_store: Path, macro: str) -> None:
    """Kind weights, by default, as a constant and as a parameter, is the view and a column more."""
    with attnstore.open(sample_store) as store:
        view = store.sql(f"FROM {macro} ORDER BY ALL")
        for call in ("()", "(kind := 'weights')", "(kind := $kind)"):
            given = {"kind": "weights"} if "$" in call else {}
            rows = store.sql(f"FROM {macro}{call} ORDER BY ALL", **given)
            assert rows["kind"].unique().to_list() == ["weights"]
            assert_frame_equal(rows.drop("kind"), view)


@pytest.mark.parametrize("kind", [k.name for k in map_kinds.KINDS] + ["gradient_attention_gold_20"])
def test_sql_and_python_give_a_kind_the_same_key(sample_store: Path, kind: str) -> None:
    """The macro kind_key and MapKind.mask agree, and the weights keep the run_key of the run."""
    with attnstore.open(sample_store) as store:
        places = store.sql(
            "SELECT DISTINCT run_key, head FROM map_places(kind := $kind)", kind=kind
        )
        run_key = store.runs()["run_key"].item()
        assert set(places["run_key"]) == {run_key ^ map_kinds.find(kind).mask}
        assert set(places["head"]) == ({0} if map_kinds.find(kind).per_layer else {0, 1, 2, 3})


@pytest.mark.parametrize("wrong", ["norms", "Weights", "gradient_attention_0", "zeroing", "x"])
@pytest.mark.parametrize("macro", MACROS)
def test_a_kind_that_does_not_exist_is_one_sentence(
    sample_store: Path, macro: str, wrong: str
) -> None:
    """As a constant, as a parameter, inside an analysis of the user, also where no row is left."""
    with attnstore.open(sample_store) as store:
        texts = [f"FROM {macro}(kind := $kind)", f"FROM {macro}(kind := $kind) WHERE example = -1"]
        if wrong.islower():  # a text that only DuckDB computes
            texts.append(f"FROM {macro}(kind := lower($kind))")
        for text in texts:
            with pytest.raises(UnknownNameError, match=f"no kind of maps '{wrong}'; .*[?.]$"):
                store.sql(text, kind=wrong)
        with pytest.raises(UnknownNameError, match=f"no kind of maps '{wrong}'; .*[?.]$"):
            store.sql(f"FROM {macro}(kind := '{wrong}')")


def test_a_kind_that_is_nearly_right_is_suggested() -> None:
    """As for every name that attnstore knows."""
    with pytest.raises(UnknownNameError, match="did you mean norm"):
        map_kinds.find("nrm")


def test_a_kind_that_a_run_lacks_is_one_sentence(sample_store: Path) -> None:
    """The sentence names the run, what is missing and the command that adds it."""
    with attnstore.open(sample_store) as store:
        for kind in ("value_zeroing", "gradient_attention_7"):
            for text in (
                "FROM maps(kind := $kind)",
                "SELECT sum(weight) FROM attention(kind := $kind)",
            ):
                with pytest.raises(AttnstoreError) as error:
                    store.sql(text, kind=kind)
                assert re.fullmatch(
                    rf"Run tiny/sample holds no maps of kind {kind}; `attnstore ingest … --maps {kind}` .*\.",
                    str(error.value),
                )


def test_kind_of_takes_weight_or_norm(sample_store: Path) -> None:
    """What the parameter by of an analysis stands for; anything else is one sentence."""
    with attnstore.open(sample_store) as store:
        row = store.sql("SELECT kind_of('weight') a, kind_of($given) b", given="norm").row(0)
        assert row == ("weights", "norm")
        for wrong in ("'norms'", "NULL", "''"):
            with pytest.raises(
                QueryError, match=re.escape(f"no by = {wrong}; it is weight or norm.")
            ):
                store.sql(f"SELECT kind_of({wrong})")


def test_an_analysis_of_a_user_takes_a_kind(sample_store: Path, tmp_path: Path) -> None:
    """Own analyses may call the macros, with a kind that is their parameter, and check it."""
    (tmp_path / "sums.sql").write_text(
        "-- title: Sum of every map\n-- source: a test\n-- reads: maps\n"
        "-- param run VARCHAR: the run\n-- param by VARCHAR = weight: weight or norm\n"
        "-- column layer SMALLINT: layer\n-- column total DOUBLE: sum of the maps\n"
        "SELECT layer, sum(list_sum(weights))::DOUBLE AS total FROM maps(kind := kind_of($by)) "
        "WHERE run = $run GROUP BY layer ORDER BY layer\n"
    )
    with attnstore.open(sample_store, analyses=tmp_path) as store:
        tokens = int(store.sql("SELECT sum(length) FROM inputs").item()) * 4
        for rows in (
            store.query("sums", run="tiny/sample"),
            store.sql("FROM sums(run := $run, by := 'weight')", run="tiny/sample"),
        ):
            assert rows["total"].to_list() == pytest.approx([tokens, tokens], rel=1e-5)
        with pytest.raises(QueryError, match=r"no by = 'nrm'; it is weight or norm\."):
            store.query("sums", run="tiny/sample", by="nrm")


def test_an_analysis_of_a_user_cannot_take_a_macro_s_name(
    sample_store: Path, tmp_path: Path
) -> None:
    """The file is refused, and the macro stays what it is."""
    head = "-- title: t\n-- source: s\n-- reads: runs\n-- column run VARCHAR: run\n"
    (tmp_path / "maps.sql").write_text(f"{head}SELECT run FROM runs ORDER BY run\n")
    with attnstore.open(sample_store, analyses=tmp_path) as store:
        with pytest.raises(UsageError, match="has the name of a function of attnstore"):
            store.sql("FROM maps()")
        assert "weights" in store.sql("FROM maps LIMIT 1").columns


def test_the_view_of_kinds_gives_the_key_of_the_weights(sample_store: Path) -> None:
    """Every run has its weights; their key is the one of map_places."""
    with attnstore.open(sample_store) as store:
        row = store.sql("FROM map_kinds WHERE kind = 'weights'").row(0, named=True)
        assert (row["run"], row["heads"]) == ("tiny/sample", [0, 1, 2, 3])
        assert (row["inputs"], row["complete"]) == (8, True)
        assert row["run_key"] == store.sql("SELECT any_value(run_key) FROM map_places").item()


def test_two_runs_never_share_a_key() -> None:
    """Where a kind of one run would have the key of another run, nothing is read."""
    keys = RunKeys()
    with pytest.raises(DamageError, match=r"a/x and b/y|b/y and a/x"):
        keys.load({1: ("a/x", None), 1 ^ map_kinds.find("norm").mask: ("b/y", None)})
