"""Rules of the paper's figures and of the report: what is drawn, what is left out, what the page is.

The stores are real and tiny; annotation and pattern classes are written by hand (tests/support/paper.py).
"""

from __future__ import annotations

import functools
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import paper
import polars as pl
import pytest
import scipy.stats
import tiny
from click.testing import CliRunner
from flow_runs import flow
from helpers import sentences, write_rows
from matplotlib.figure import Figure
from safetensors.torch import load_file, save_file

import attnstore
from attnstore.cli.main import main
from attnstore.errors import UnknownNameError, UsageError
from attnstore.naming import CLASSES
from attnstore.paper import gallery, layers, parts, published, report
from attnstore.plotting import drawings
from attnstore.plotting.drawings import Drawing, NothingToDraw
from attnstore.plotting.figures import by_head
from attnstore.query import analyses, parameters
from attnstore.storage import fragments, location

BASE, TUNED = "base/pairs", "tuned/pairs"
HOSTILE = 'She said <script>alert("fox")</script> jumps & the <img src=x> dog'
NAMES = tuple(parts.BUILDERS)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds what every figure needs: 10 pairs, a base model and a trained one."""
    place = tmp_path_factory.mktemp("report")
    first, second = sentences(10, seed=3, longest=14), sentences(10, seed=4, longest=10)
    rows = [{"text": a, "text_pair": b} for a, b in zip(first, second, strict=True)]
    rows[0] = {"text": HOSTILE, "text_pair": "the fox jumps not far"}
    texts = write_rows(place / "pairs.jsonl", rows)  # type: ignore[arg-type]
    base, tuned = (
        tiny.make(place / name, "bert", seed=i) for i, name in enumerate(("base", "tuned"))
    )
    for folder in (base, tuned):
        _stretch(folder)
    config = json.loads((tuned / "config.json").read_text()) | {"_name_or_path": "base"}
    (tuned / "config.json").write_text(json.dumps(config))
    (tuned / "trainer_state.json").write_text(json.dumps({"global_step": 10}))
    models = [f"{base}=base", f"{tuned}=tuned"]
    attnstore.ingest(place / "s", models, f"{texts}=pairs", max_length=64, precision="float32")
    paper.annotate(place / "s", "pairs", rows)
    _classify(place / "s")
    _evaluate(place / "s")
    _ablate(place / "s")
    _prune(place / "s")
    _attribute(place / "s")
    _candidates(place, first)
    attnstore.probe(place / "s", ["base/pairs", "tuned/pairs"])
    return place / "s"


def _stretch(folder: Path, dimension: int = 3) -> None:
    """Give one dimension a scale far from all others in every layer norm."""
    weights = load_file(folder / "model.safetensors")
    for name in (n for n in weights if n.endswith("LayerNorm.weight")):
        weights[name][dimension] = 1.5
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _classify(root: Path) -> None:
    """Classes of every map, by turns."""
    with attnstore.open(root) as store:
        for run, key in store.sql("SELECT run, run_key FROM runs").rows():
            maps = store.sql(
                "SELECT example, layer, head FROM map_stats WHERE run = $run ORDER BY ALL", run=run
            )
            numbers = np.arange(len(maps)) * 7 % 5
            shares = np.where(numbers[:, None] == np.arange(5), 0.6, 0.1).astype(np.float32)
            columns = [
                pl.Series(name.replace("+", "_"), shares[:, i]) for i, name in enumerate(CLASSES)
            ]
            rows = maps.with_columns(
                pl.Series("class", [CLASSES[i] for i in numbers]),
                pl.Series("probability", shares.max(axis=1)), *columns,
            )  # fmt: skip
            rows.insert_column(0, pl.Series("run_key", [key] * len(rows), pl.UInt64))
            fragments.write(location.locate(root), "patterns", run, "by-hand", rows)


def _evaluate(root: Path) -> None:
    """Scores of the base model untrained, and of two seeds with two checkpoints each."""
    usual = {
        "dataset": "rte", "split": "validation", "task": "rte", "base": "base", "metric": "accuracy",
        "n": 277, "training": "base-rte", "n_train": 90, "epochs": 3, "learning_rate": 2e-5,
    }  # fmt: skip
    rows = [
        {
            **usual,
            "model": "tuned",
            "init": "pretrained",
            "seed": seed,
            "step": step,
            "value": value,
        }
        for seed, values in enumerate(((0.5, 0.7), (0.6, 0.8)))
        for step, value in zip((5, 10), values, strict=True)
    ]
    rows.append({**usual, "model": "base", "init": "none", "seed": 0, "step": 0, "value": 0.25})
    for i, row in enumerate(rows):
        fragments.write(
            location.locate(root), "evaluations", str(row["model"]), str(i), pl.DataFrame([row])
        )


CHANGES = {
    (layer, head): ((layer * 3 + (head or 0) * 5) % 7 - 3) / 100
    for layer in range(3)
    for head in (*range(4), None)
}
"""What the tuned model gains without each head (None: without the layer), by hand."""


def _flips(change: float) -> tuple[int, int]:
    """Inputs that turn right and wrong, for a change of hundredths: 3 points are beyond chance."""
    net = round(100 * change)
    return 3 + max(net, 0) ** 3, 3 + max(-net, 0) ** 3


def _ablate(root: Path) -> None:
    """Scores of the tuned model without each head and layer."""
    usual = {
        "model": "tuned", "dataset": "pairs", "value": "uniform", "metric": "accuracy", "n": 277,
        "baseline": 0.7, "max_length": 64, "identity": "by-hand",
    }  # fmt: skip
    rows = [
        {
            **usual, "layer": layer, "head": head, "difference": change, "low": change - 0.015,
            "high": change + 0.015, "setting": f"{layer}.{'*' if head is None else head}",
            "to_right": _flips(change)[0], "to_wrong": _flips(change)[1],
        }
        for (layer, head), change in CHANGES.items()
    ]  # fmt: skip
    fragments.write(
        location.locate(root), "ablations", "tuned/pairs", "by-hand", pl.DataFrame(rows)
    )


def _prune(root: Path) -> None:
    """One search of the tuned model that held-out inputs do not confirm, and sets beside it."""
    usual = {
        "model": "tuned", "dataset": "pairs", "value": "uniform", "metric": "accuracy",
        "n_disabled": 2, "n": 150, "max_length": 64, "identity": "by-hand",
    }  # fmt: skip
    search = {
        **usual, "loss": 0.01, "round": 1, "disabled": "0.1,2.3", "baseline": 0.8, "score": 0.81,
        "held_n": 150, "held_baseline": 0.8, "held_score": 0.767, "held_low": -0.08,
        "held_high": 0.013, "held_to_right": 5, "held_to_wrong": 10, "last": True,
    }  # fmt: skip
    sets = [
        {**usual, "setting": "0.1,2.3", "kind": kind, "disabled": disabled, "difference": change}
        for kind, disabled, change in (
            ("random", "0.0,2.3", -0.02), ("random", "0.2,2.3", -0.06), ("gradient", "1.0,1.1", -0.04)
        )
    ]  # fmt: skip
    for table, rows in (("prunings", [search]), ("pruning_sets", sets)):
        fragments.write(location.locate(root), table, "tuned/pairs", "by-hand", pl.DataFrame(rows))


def _candidates(place: Path, texts: list[str]) -> None:
    """The last word of each text with its first and its third, of which the first is right; mentions of one
    entity and of another."""
    items, mentions, links = [], [], []
    for example, text in enumerate(texts):
        words = [(m.start(), m.end()) for m in re.finditer(r"\S+", text)]
        if not example or len(words) < 5:
            continue
        source = dict(zip(("source_start", "source_end"), words[-1], strict=True))
        for k, role, number in ((0, "right", "singular"), (2, "distractor", "plural")):
            at = dict(zip(("start", "end"), words[k], strict=True))
            items.append({"example": example, **source, **at, "role": role, "number": number})
        for span, label in enumerate(("proper", "nominal", "pronominal", "proper")):
            at = dict(zip(("start", "end"), words[span], strict=True))
            mentions.append({"example": example, "span": span, **at, "kind": "mention", "label": label})  # fmt: skip
        links += [{"example": example, "kind": "coreference", "from_span": k, "to_span": 0} for k in (1, 3)]  # fmt: skip
    rows = {"items": items, "mentions": mentions, "links": links}
    files = {name: place / f"{name}.csv" for name in rows}
    for name, file in files.items():
        pl.DataFrame(rows[name]).write_csv(file)
    attnstore.annotate(place / "s", "pairs", f"agreement:{files['items']}")
    attnstore.annotate(place / "s", "pairs", f"spans:{files['mentions']}=entities")
    attnstore.annotate(place / "s", "pairs", f"links:{files['links']}=entities")


def _attribute(root: Path) -> None:
    """What each token of the tuned model's inputs matters, by turns."""
    usual = {
        "model": "tuned", "dataset": "pairs", "method": "gradient_x_input", "explained": "predicted",
        "n": 10, "max_length": 64, "identity": "by-hand",
    }  # fmt: skip
    with attnstore.open(root) as store:
        inputs = store.sql("SELECT example, token_ids FROM inputs WHERE run = $run", run=TUNED)
    rows = [
        usual | {"example": example, "token_ids": ids, "values": [(7 * i) % 5 - 2.0 for i in ids]}
        for example, ids in inputs.iter_rows()
    ]
    frame = pl.DataFrame(rows, schema_overrides={"token_ids": pl.List(pl.Int32), "values": pl.List(pl.Float32)})  # fmt: skip
    fragments.write(location.locate(root), "token_importance", "tuned", "by-hand", frame)


@pytest.fixture(scope="module")
def store(root: Path) -> Iterator[attnstore.Store]:
    with attnstore.open(root) as opened:
        yield opened


@functools.cache
def drawn(store: attnstore.Store, name: str) -> Drawing:
    """A figure with its defaults, drawn once."""
    return gallery.draw(store, name)


@pytest.fixture(scope="module")
def written(store: attnstore.Store, tmp_path_factory: pytest.TempPathFactory) -> report.Report:
    """The report of the store."""
    return report.write(store, tmp_path_factory.mktemp("out") / "report")


def pictures(figure: Figure) -> list[np.ndarray]:
    """The values of every picture of a figure, colour bars aside; NaN where nothing is."""
    return [
        np.ma.filled(image.get_array().astype(float), np.nan)
        for axes in figure.axes
        if axes.get_label() != "<colorbar>"
        for image in axes.images
    ]


class Tags(HTMLParser):
    """The names of the tags of a page, and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


# What is drawn -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_is_drawn_where_its_inputs_are(store: attnstore.Store, name: str) -> None:
    """It has a caption with its n, and the commands of its numbers."""
    drawing = drawn(store, name)
    assert drawing.figure.axes
    assert re.search(r"n = \d", drawing.caption)
    assert drawing.commands


SCORES = {
    "attention_probe", "table1", "scores_over_steps", "flow", "outlier_dimensions", "relations",
    "dependency_table", "head_ensembles",
}  # fmt: skip
"""Figures without layers and heads."""
LINES = {
    "agreement",
    "special_tokens",
    "norm_share",
    "rollout",
    "mixing_ratio",
    "sinks",
    "disabled_layers",
    "trees",
}
"""Figures of lines over layers."""


@pytest.mark.parametrize(
    "name", sorted(set(NAMES) - {"pattern_shares", "pattern_examples", "pruned_heads"} - SCORES)
)
def test_axes_say_that_layers_and_heads_count_from_0(store: attnstore.Store, name: str) -> None:
    """An axis of layers or heads says so."""
    axes = drawn(store, name).figure.axes
    titles = {title for a in axes for title in (a.get_xlabel(), a.get_ylabel())}
    counted = {title for title in titles if re.match("layer|head", title)}
    assert counted
    assert counted <= {"layer (from 0)", "head (from 0)"}


@pytest.mark.parametrize(
    "name",
    sorted(set(NAMES) - {"pattern_shares", "pruned_heads"} - LINES - SCORES),
)
def test_a_figure_has_one_colour_scale(store: attnstore.Store, name: str) -> None:
    """Every panel's colours run between the same ends."""
    axes = drawn(store, name).figure.axes
    ends = {image.get_clim() for a in axes if a.get_label() != "<colorbar>" for image in a.images}
    assert len(ends) == 1


@pytest.mark.parametrize("name", ["head_entropy", "drift"])
def test_a_panel_per_run_shows_the_means_of_the_analysis(store: attnstore.Store, name: str) -> None:
    """Layers down, heads across."""
    cells = pictures(drawn(store, name).figure)
    runs = [TUNED] if name == "drift" else [BASE, TUNED]
    wanted = [by_head(store.query(name, run=run)) for run in runs]
    np.testing.assert_array_equal(cells, wanted)


def test_frame_heads_shows_the_means_and_the_map_of_the_best_head(store: attnstore.Store) -> None:
    """Of the untrained model; the sentence is the first annotated one where the paper's is not there."""
    heads = store.query("frame_heads", run=BASE)
    example = store.sql(
        "SELECT min(example) FROM link_tokens WHERE run = $run AND kind = 'frame'", run=BASE
    )
    best = store.map(BASE, example.item(), heads["layer"][0], heads["head"][0])
    means, weights = pictures(drawn(store, "frame_heads").figure)
    np.testing.assert_array_equal(means, by_head(heads))
    np.testing.assert_array_equal(weights, best.weights)


def test_frame_heads_dots_what_lies_above_other_words(
    store: attnstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below the number of each head whose corrected difference lies above 0, and of no other."""
    heads = store.query("frame_heads", run=BASE).with_row_index("place")
    made_up = heads.with_columns(
        q=pl.when(pl.col("place") % 2 == 0).then(0.01).otherwise(0.2),
        difference=pl.when(pl.col("place") % 3 == 0).then(0.1).otherwise(-0.1),
    )
    monkeypatch.setattr(type(store), "query", lambda *_, **__: made_up)
    figure = gallery.draw(store, "frame_heads", run=BASE).figure
    dots = {(int(line.get_ydata()[0]), line.get_xdata()[0]) for line in figure.axes[0].lines}
    wanted = made_up.filter(pl.col("place") % 6 == 0)
    assert dots == set(wanted.select("layer", "head").rows())


def test_feature_attention_has_a_row_per_run_and_a_column_per_feature(
    store: attnstore.Store,
) -> None:
    """In the order [CLS], [SEP], punctuation, linguistic features."""
    cells = iter(pictures(drawn(store, "feature_attention").figure))
    for run in (BASE, TUNED):
        frame = store.query("feature_attention", run=run, scheme="as_published")
        for feature in (
            "cls",
            "sep",
            "punctuation",
            "noun",
            "verb",
            "pronoun",
            "subject",
            "object",
            "negation",
        ):
            if len(part := frame.filter(feature=feature)):
                np.testing.assert_array_equal(next(cells), by_head(part))


def test_cls_attention_shows_features_down_and_heads_across(store: attnstore.Store) -> None:
    """The last layer's means."""
    figure = drawn(store, "cls_attention").figure
    names = [label.get_text().strip("[]").lower() for label in figure.axes[0].get_yticklabels()]
    for run, cells in zip((BASE, TUNED), pictures(figure), strict=True):
        for head, feature, mean in (
            store.query("cls_attention", run=run, scheme="as_published")
            .select("head", "feature", "mean")
            .rows()
        ):
            assert cells[names.index(feature), head] == mean


def test_token_pairs_shows_the_best_fixed_offset_below_each_relation(
    store: attnstore.Store,
) -> None:
    """A dot only where a head is above it after the correction for the number of heads."""
    figure = drawn(store, "token_pairs").figure
    frame = store.query("token_pairs", run=BASE, scheme="as_published")
    cells = pictures(figure)
    np.testing.assert_array_equal(cells[0], by_head(frame))
    np.testing.assert_array_equal(cells[len(cells) // 2], by_head(frame, "baseline"))
    dots = {(line.get_ydata()[0], line.get_xdata()[0]) for line in figure.axes[0].lines}
    assert dots == set(frame.filter("above").select("layer", "head").rows())


def test_word_match_shows_equal_beside_other_words(store: attnstore.Store) -> None:
    """Both directions, for each run of pairs."""
    cells = pictures(drawn(store, "word_match").figure)
    part = store.query("word_match", run=TUNED).filter(direction="second_to_first")
    np.testing.assert_array_equal(cells[6], by_head(part))
    np.testing.assert_array_equal(cells[7], by_head(part, "unequal"))


def test_head_types_carry_a_letter_beside_the_colour(store: attnstore.Store) -> None:
    """A reader who sees no colours reads the letter of each head's type."""
    axes = drawn(store, "head_types").figure.axes[0]
    found = {(int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in axes.texts}
    letters = dict(
        zip(
            ("previous", "next", "self", "cls", "sep", "punctuation", "broad", "mixed", "none"),
            "PNSCEUBM·",
            strict=True,
        )
    )
    rows = store.query("head_types", run=BASE).select("layer", "head", "type").rows()
    assert found == {(layer, head): letters[kind] for layer, head, kind in rows}


def test_special_tokens_draws_the_means_by_layer(store: attnstore.Store) -> None:
    """A line per kind of token."""
    lines = drawn(store, "special_tokens").figure.axes[0].lines
    frame = store.query("special_tokens", run=BASE)
    wanted = [
        frame.filter(kind=kind)["mean"].to_list() for kind in ("cls", "sep", "punctuation", "other")
    ]
    assert [line.get_ydata().tolist() for line in lines] == wanted


def test_pattern_shares_draws_the_shares_as_bars(store: attnstore.Store) -> None:
    """A group per run, a bar per class, its interval on it."""
    bars = drawn(store, "pattern_shares").figure.axes[0].containers[1::2]
    frame = store.query("pattern_shares", run=TUNED)
    assert [container[1].get_height() for container in bars] == frame["mean"].to_list()


def test_table1_draws_a_bar_per_init_and_the_published_score_on_it(
    store: attnstore.Store,
) -> None:
    """In the order of the paper's columns, in per cent; no diamond for another model."""
    axes = drawn(store, "table1").figure.axes[0]
    heights = [container[0].get_height() for container in axes.containers[1::2]]
    assert heights == pytest.approx([25, 75])
    assert [t.get_text() for t in axes.get_xticklabels()] == ["rte\naccuracy"]
    assert "D" not in [line.get_marker() for line in axes.lines]


def test_scores_over_steps_draws_the_mean_over_seeds(store: attnstore.Store) -> None:
    """Of every kept checkpoint."""
    (line,) = drawn(store, "scores_over_steps").figure.axes[0].lines
    assert line.get_xdata().tolist() == [5, 10]
    assert line.get_ydata().tolist() == pytest.approx([55, 75])


def test_pattern_examples_are_the_most_probable_maps_of_their_class(store: attnstore.Store) -> None:
    """A column per class; what is drawn is the map that the title names."""
    axes = gallery.draw(store, "pattern_examples", examples=1).figure.axes[:5]
    assert [a.get_title().split("\n")[0] for a in axes] == list(CLASSES)
    layer, head = map(int, re.findall(r"\d+", axes[0].get_title().split("\n")[1]))
    examples = store.sql(
        "SELECT example FROM patterns WHERE run = $run AND class = 'vertical' AND layer = $layer AND head = $head",
        run=BASE, layer=layer, head=head,
    )["example"]  # fmt: skip
    drawn = np.asarray(axes[0].images[0].get_array())
    held = [store.map(BASE, example, layer, head).weights for example in examples]
    assert any(w.shape == drawn.shape and np.array_equal(w, drawn) for w in held)


def test_disabled_heads_dots_what_is_beyond_chance(store: attnstore.Store) -> None:
    """Changes in points around 0, white in the middle of the scale."""
    figure = drawn(store, "disabled_heads").figure
    (cells,) = pictures(figure)
    wanted = [[100 * CHANGES[layer, head] for head in range(4)] for layer in range(3)]
    np.testing.assert_allclose(cells, wanted)
    assert figure.axes[0].images[0].get_clim() == pytest.approx((-3, 3))
    dots = {(line.get_ydata()[0], line.get_xdata()[0]) for line in figure.axes[0].lines}
    heads = [(layer, head) for layer, head in CHANGES if head is not None]
    flips = [_flips(CHANGES[place]) for place in heads]
    p = [scipy.stats.binomtest(right, right + wrong).pvalue for right, wrong in flips]
    q = scipy.stats.false_discovery_control(p)
    assert dots == {place for place, value in zip(heads, q, strict=True) if value < 0.05}
    assert 0 < len(dots) < len(heads)


def test_disabled_layers_draws_each_change_with_its_interval(store: attnstore.Store) -> None:
    """Around the line of the baseline."""
    axes = drawn(store, "disabled_layers").figure.axes[0]
    points = axes.containers[0].lines[0]
    assert points.get_ydata() == pytest.approx([100 * CHANGES[layer, None] for layer in range(3)])
    assert axes.lines[0].get_ydata() == [0, 0]


def test_pruned_heads_draws_what_is_confirmed_beside_random_sets(store: attnstore.Store) -> None:
    """Losses in points; the verdict in words below the bars."""
    axes = drawn(store, "pruned_heads").figure.axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == pytest.approx([-1, 3.3, 4, 4])
    assert "not confirmed" in axes.get_xticklabels()[0].get_text()
    marks = [line.get_ydata()[0] for line in axes.lines if line.get_marker() == "D"]
    assert marks == pytest.approx([1])


def test_coreference_stands_beside_rules(store: attnstore.Store) -> None:
    """The picture holds the shares of a head's choices, its frame the best; the table has the rules'."""
    drawing = gallery.draw(store, "coreference_heads", run=BASE)
    frame = store.query("coreference_heads", run=BASE, type="each")
    types = frame["type"].unique(maintain_order=True).to_list()
    wanted = [by_head(frame.filter(type=kind), "antecedent") for kind in types]
    for ours, theirs in zip(pictures(drawing.figure), wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert drawing.table is not None
    assert drawing.table["best head"].to_list() == [
        pytest.approx(100 * value, abs=0.051)
        for value in frame.group_by("type", maintain_order=True).agg(pl.max("antecedent"))["antecedent"]
    ]  # fmt: skip
    assert drawing.measured["nearest"][BASE] == f"{100 * frame['nearest'][0]:.1f} %"


@pytest.mark.parametrize("per", ["layer", "head"])
def test_confusion_stands_beside_uniform_attention(store: attnstore.Store, per: str) -> None:
    """A line over layers for each agreement in number; of single heads the least confused."""
    drawing = gallery.draw(store, "agreement", run=BASE, per=per)
    frame = store.query("agreement", run=BASE, per=per).filter(agreement="mismatch", distractors=1)
    least = frame.group_by("layer").agg(pl.min("confusion"), pl.first("uniform")).sort("layer")
    (axes,) = drawing.figure.axes
    confusion, uniform = (line.get_ydata() for line in axes.lines)
    np.testing.assert_allclose(confusion, least["confusion"])
    np.testing.assert_allclose(uniform, least["uniform"])


def test_sinks_outline_heads_whose_sink_moves_least(store: attnstore.Store) -> None:
    """And dot those above the threshold; the picture holds the means."""
    figure = gallery.draw(store, "sink_heads", run=TUNED, threshold=0.1).figure
    frame = store.query("sink_heads", run=TUNED, threshold=0.1)
    np.testing.assert_array_equal(pictures(figure)[0], by_head(frame))
    dots = {(line.get_ydata()[0], line.get_xdata()[0]) for line in figure.axes[0].lines}
    assert dots == set(frame.filter("sink").select("layer", "head").rows())
    assert len(figure.axes[0].patches) == len(frame.filter("no_op"))


def test_no_op_heads_shows_weight_above_what_is_moved(store: attnstore.Store) -> None:
    """The same heads in both rows."""
    cells = pictures(gallery.draw(store, "no_op_heads", run=TUNED).figure)
    frame = store.query("no_op_heads", run=TUNED)
    np.testing.assert_array_equal(cells, [by_head(frame, c) for c in ("mean", "norm")])


def test_rollout_is_drawn_beside_the_layer_alone(store: attnstore.Store) -> None:
    """A line per kind of token in both panels."""
    axes = gallery.draw(store, "rollout", run=TUNED).figure.axes
    frame = store.query("rollout", run=TUNED).filter(kind="cls").sort("layer")
    assert axes[0].lines[0].get_ydata().tolist() == frame["mean"].to_list()
    assert axes[1].lines[0].get_ydata().tolist() == frame["weight"].to_list()


def test_flow_is_drawn_beside_rollout_and_equal_shares(store: attnstore.Store) -> None:
    """A group of bars per kind of token; the shares of each kind of bar sum to 1."""
    axes = gallery.draw(store, "flow", run=TUNED).figure.axes[0]
    frame = store.query("flow", run=TUNED)
    heights = [bar.get_height() for bar in axes.patches]
    wanted = [x for c in ("mean", "rollout", "tokens") for x in frame[c].to_list()]
    assert heights == pytest.approx(wanted)


def test_faithfulness_shows_the_rank_correlation_of_each_head(store: attnstore.Store) -> None:
    """Of [CLS]'s weights and of what is received; rollout stands in the table by layer."""
    drawing = drawn(store, "faithfulness")
    frame = store.query("faithfulness", run=TUNED)
    for cells, measure in zip(pictures(drawing.figure), ("cls", "received"), strict=True):
        np.testing.assert_array_equal(cells, by_head(frame.filter(measure=measure), "kendall"))
    assert drawing.table is not None
    rollout = frame.filter(measure="rollout").sort("layer")["spearman"].round(3)
    assert drawing.table["rollout, spearman"].to_list() == rollout.to_list()


def test_outlier_dimensions_shows_norms_by_dimension(store: attnstore.Store) -> None:
    """The stretched one first, in every norm's scale."""
    axes = drawn(store, "outlier_dimensions").figure.axes[0]
    assert axes.get_xticklabels()[0].get_text() == "3"
    frame = store.query("outlier_dimensions", model="base").filter(dimension=3)
    assert axes.patches[0].get_height() == frame["gamma_norms"].item() == frame["of_norms"].item()


def test_mixing_ratio_has_the_published_means_in_its_table(store: attnstore.Store) -> None:
    """Marked with their models, beside the mean over layers of each run."""
    table = drawn(store, "mixing_ratio").table
    assert table is not None
    assert table["published, bert-base-uncased"].to_list()[0] == "0.964"
    means = dict(store.query("mixing_ratio", run=TUNED).filter(pl.col("layer").is_null()).select("measure", "mean").rows())  # fmt: skip
    assert table[TUNED].to_list() == [f"{means[m]:.3f}" for m in table["measure"]]


def test_figures_that_take_long_are_drawn_of_few_inputs_unless_asked(
    store: attnstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A longer run is drawn where it is named; without a name the sentence gives the command."""
    monkeypatch.setattr(layers, "MOST_INPUTS", 3)
    with pytest.raises(NothingToDraw, match="attnstore figure rollout --run"):
        gallery.draw(store, "rollout")
    assert gallery.draw(store, "rollout", run=TUNED).commands


# What is left out --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_figure_without_its_inputs_names_the_command_that_supplies_them(
    sample_store: Path, name: str
) -> None:
    """A store without annotation, classes and training shows the rest."""
    needy = {"pattern_examples": "classify", "pattern_shares": "classify", "pattern_by_head": "classify",
         "frame_heads": "annotate", "feature_attention": "annotate", "token_pairs": "annotate",
             "coreference_heads": "annotate", "agreement": "annotate",
             "relations": "annotate", "pair_property": "annotate",
             "drift": "ingest", "table1": "finetune", "scores_over_steps": "finetune",
             "disabled_heads": "ablate", "disabled_layers": "ablate",
             "pruned_heads": "prune", "faithfulness": "attribute", "outlier_dimensions": "ingest",
             "heads_across_runs": "ingest", "tag_shares": "annotate",
             "dependency_table": "annotate", "head_ensembles": "annotate", "trees": "annotate",
             "attention_probe": "probe", "probe_weights": "probe"}  # fmt: skip
    with attnstore.open(sample_store) as store:
        if name not in needy:
            assert gallery.draw(store, name).figure.axes
            return
        with pytest.raises(NothingToDraw, match=f"`attnstore {needy[name]} "):
            gallery.draw(store, name)


def test_empty_store_has_a_report_that_says_what_to_do(tmp_path: Path) -> None:
    """Every figure is left out, each with its sentence."""
    attnstore.storage.location.create(tmp_path / "s")
    with attnstore.open(tmp_path / "s") as store:
        written = report.write(store, tmp_path / "out")
    assert set(written.missing) == set(NAMES)
    assert written.page.read_text().count("<code>attnstore ") >= len(NAMES)


def test_page_lists_what_is_left_out_and_removes_its_old_picture(
    sample_store: Path, tmp_path: Path
) -> None:
    """A picture of an earlier report does not stay beside a page without it."""
    old = tmp_path / "figures" / "drift.svg"
    old.parent.mkdir()
    old.write_text("old")
    with attnstore.open(sample_store) as store:
        written = report.write(store, tmp_path)
    assert not old.exists()
    text = written.page.read_text()
    assert all(f"({name})" in text for name in written.missing)
    assert all(f'id="{name}"' in text for name in written.shown)


@pytest.mark.parametrize(
    ("name", "choices", "error", "said"),
    [
        ("drfit", {}, UnknownNameError, "drift"),
        ("drift", {"runs": BASE}, UsageError, "did you mean run"),
        ("drift", {"run": BASE}, NothingToDraw, BASE),
        ("frame_heads", {"run": "bse/pairs"}, UnknownNameError, "base/pairs"),
        ("head_entropy", {"runs_like": "x%"}, NothingToDraw, "no such run"),
    ],
)
def test_mistakes_are_answered_in_one_sentence(
    store: attnstore.Store, name: str, choices: dict[str, str], error: type[Exception], said: str
) -> None:
    """An unknown figure, choice or run; a pattern that no run is like."""
    with pytest.raises(error, match=said):
        gallery.draw(store, name, **choices)


BOTH = sorted(set(parts.BUILDERS) & set(analyses.listing()))


@pytest.mark.parametrize("name", BOTH)
def test_a_figure_takes_what_its_analysis_takes(name: str) -> None:
    """Every parameter, of the same type and default, but for those by which it shows several."""
    figure = {p.name: p for p in gallery.parameters(name)}
    shows = {"run", "relation", "direction", "kind"}  # NULL: every one that the figure has room for
    shows |= {"type", "scheme"}  # NULL: the paper's, where the annotations have it
    for parameter in analyses.find(name).parameters:
        if (
            parameter.name in ("layer", "head")
            and not parameter.required
            and parameter.name not in figure
        ):
            continue  # NULL: every one, as a grid of heads shows them
        assert figure[parameter.name].type == parameter.type
        if parameter.required or parameter.name in shows:
            assert figure[parameter.name].default in (parameter.default, None)
        else:
            assert figure[parameter.name].default == parameter.default
    extra = set(figure) - {p.name for p in analyses.find(name).parameters}
    assert extra <= {"runs_like", "sentence"}


CHOICES = {
    "attention_probe": {"baseline": "distances", "annotation": "hand"},
    "drift": {"base_run": BASE},
    "heads_across_runs": {"base_run": BASE, "measure": "cosine"},
    "heads_alike": {"clusters": 3, "specials": "renormalise", "limit": 4},
    "frame_heads": {
        "direction": "from_to",
        "as_published": True,
        "same_class": False,
        "same_distance": True,
    },
    "feature_attention": {"as_published": True, "annotation": "hand", "scheme": "penn"},
    "cls_attention": {"layer": 0, "statistic": "max", "annotation": "hand", "scheme": "penn"},
    "token_pairs": {
        "relation": "subject",
        "direction": "to_from",
        "statistic": "mean",
        "scheme": "as_published",
    },
    "word_match": {"punctuation": True, "stop_words": False},
    "dependency_table": {"least": 1, "direction": "to_from", "subtypes": "joined"},
    "faithfulness": {"signed": True, "specials": "keep"},
    "flow": {"layer": 0, "longest": 60},
    "no_op_heads": {"share": 0.1, "small": 2.0},
    "pair_property": {
        "kind": "dep",
        "label": "nsubj",
        "direction": "from_to",
        "threshold": 0.1,
        "to_itself": False,
        "least": 5,
        "against": "offset",
        "annotation": "hand",
    },
    "relations": {
        "kind": "dep",
        "least": 5,
        "attended": "sum",
        "pieces": "first",
        "annotation": "hand",
    },
    "rollout": {"from_kind": "word", "scheme": "penn"},
    "sink_heads": {"threshold": 0.2, "first": 10, "below": True},
    "sinks": {"threshold": 0.2, "position": 0},
    "head_ensembles": {"heads": 2, "candidates": 3, "specials": "drop", "relation": "all"},
    "trees": {"root": "none", "direction": "to_from", "heads": "0.1,1.0"},
    "head_types": {"position": 0.1, "special": 0.1, "entropy": 2.0},
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_figure_shows_what_its_commands_give(store: attnstore.Store, name: str) -> None:
    """With every parameter of the analysis set, its commands ask with the same values."""
    choices = CHOICES[name]
    drawing = gallery.draw(store, name, run=TUNED, **choices)
    command = shlex.split(drawing.commands[0])
    assert command[:3] == ["attnstore", "query", name]
    texts = dict(pair.split("=", 1) for pair in command[4::2])
    declared = analyses.find(name)
    values = analyses.arguments(declared, parameters.from_texts(texts, declared.kinds))
    assert values == analyses.arguments(declared, {"run": TUNED, **choices})
    assert len(store.query(name, **values))


WORD_FIGURES = ["feature_attention", "cls_attention", "token_pairs"]


@pytest.mark.parametrize("name", WORD_FIGURES)
def test_a_figure_of_words_takes_the_labels_that_the_paper_names(
    store: attnstore.Store, name: str
) -> None:
    drawing = gallery.draw(store, name, run=TUNED)
    assert all("scheme=as_published" in command for command in drawing.commands)
    assert "by the labels that the paper names" in drawing.caption


def test_figures_of_words_without_penns_tags_take_universal_labels(tmp_path: Path) -> None:
    """As those of any language but English are; commands and captions say so."""
    words = [("The", "DET", 2, "det"), ("dog", "NOUN", 3, "nsubj"), ("jumps", "VERB", 0, "root")]
    rows = [f"{n}\t{f}\t_\t{u}\t_\t_\t{h}\t{r}\t_\t_" for n, (f, u, h, r) in enumerate(words, 1)]
    (tmp_path / "gold.conllu").write_text("\n".join(rows) + "\n\n", encoding="utf-8")
    model = str(tiny.make(tmp_path / "m", "bert"))
    attnstore.ingest(tmp_path / "s", model, str(tmp_path / "gold.conllu"), max_length=64)
    attnstore.open(tmp_path / "s").annotate("gold", "conllu")
    with attnstore.open(tmp_path / "s") as store:
        for name in WORD_FIGURES:
            drawing = gallery.draw(store, name)
            assert not any("scheme" in command for command in drawing.commands)
            assert "by universal parts of speech" in drawing.caption


@pytest.mark.parametrize(
    "name",
    [n for n in NAMES if gallery.several_runs(n) and n not in ("drift", "heads_across_runs")],
)
def test_a_figure_shows_the_runs_that_are_asked_for(store: attnstore.Store, name: str) -> None:
    """One, or several, in their order."""
    for runs in ([TUNED, BASE], [BASE]):
        drawing = gallery.draw(store, name, run=runs if len(runs) > 1 else runs[0])
        named = [c for c in drawing.commands if f"run={runs[0]}" in c]
        assert named or name == "pattern_shares"
        assert not any(f"run={TUNED}" in c for c in drawing.commands) or TUNED in runs


def test_twins_with_random_weights_are_drawn_where_they_are_asked_for(
    tiny_bert: Path, tmp_path: Path
) -> None:
    """A figure without a run shows trained models, though the twin's name comes first."""
    texts = write_rows(tmp_path / "t.jsonl", [{"text": t} for t in sentences(3, longest=5)])
    for options in ({}, {"random_weights": True}):
        attnstore.ingest(tmp_path / "s", f"{tiny_bert}=tiny", f"{texts}=texts", max_length=64, **options)  # fmt: skip
    with attnstore.open(tmp_path / "s") as store:
        (twin,) = store.sql("SELECT twin_run FROM random_twins")["twin_run"]
        drawing = gallery.draw(store, "head_entropy")
        assert not any(twin in command for command in drawing.commands)
        assert drawings.one(store, None, "SELECT run FROM runs", "none") == "tiny/texts"
        assert twin in gallery.draw(store, "head_entropy", run=twin).commands[0]


def test_a_value_of_a_figure_may_be_text(store: attnstore.Store) -> None:
    """As the command line gives it; of the wrong type it is a sentence."""
    typed = gallery.draw(store, "cls_attention", run=BASE, layer=0)
    assert gallery.draw(store, "cls_attention", run=BASE, layer="0").commands == typed.commands
    with pytest.raises(UsageError, match="layer of figure cls_attention is 'x'"):
        gallery.draw(store, "cls_attention", layer="x")


# The page ----------------------------------------------------------------------------------------


def test_page_shows_every_figure_and_run(written: report.Report) -> None:
    """Figures also stand beside it as SVG and PNG."""
    text = written.page.read_text()
    assert written.shown == NAMES
    assert f'<td style="text-align:left">{TUNED}</td>' in text
    files = {path.name for path in (written.page.parent / "figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in NAMES for kind in ("svg", "png")}


def test_page_asks_nothing_of_the_network(written: report.Report) -> None:
    """Every image is inside, there is no script, link or import."""
    text = written.page.read_text()
    assert text.count("data:image/svg+xml;base64,") == len(NAMES)
    tags = Tags(text)
    assert tags.names.isdisjoint({"script", "link", "iframe", "object", "embed", "form", "base"})
    asking = {"src", "href", "srcset", "action", "data", "poster", "background"}
    assert all(
        v.startswith(("data:", "#"))
        for k, v in tags.attributes
        if k in asking or k.startswith("on")
    )
    assert not re.search(r"url\(|@import", text[: text.index("</style>")])


def test_text_from_data_is_escaped(written: report.Report) -> None:
    """A sentence with markup stands in the caption as text."""
    text = written.page.read_text()
    assert "&lt;script&gt;alert(&#34;fox&#34;)&lt;/script&gt;" in text
    assert "<img src=x>" not in text


def test_page_suits_light_dark_and_narrow_screens(written: report.Report) -> None:
    """Colours follow the reader's scheme; wide things scroll in their own box."""
    text = written.page.read_text()
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text
    assert all('class="plate wide"' in part for part in text.split("<figure>")[1:])


def test_same_store_gives_the_same_bytes(
    store: attnstore.Store, written: report.Report, tmp_path: Path
) -> None:
    """Page and pictures hold no date and no random name."""
    assert report.page(store, written.sections) == written.page.read_text()
    for name in ("special_tokens", "head_types", "pattern_shares"):
        report.draw_section(store, name, _made(tmp_path / name))
        for path in (tmp_path / name / "figures").iterdir():
            assert path.read_bytes() == (written.page.parent / "figures" / path.name).read_bytes()


def test_commands_of_the_page_run(written: report.Report, root: Path) -> None:
    """Each line under a figure is a command that gives rows."""
    blocks = re.findall(r'<pre class="wide"[^>]*>(.*?)</pre>', written.page.read_text(), re.DOTALL)
    commands = {line for block in blocks for line in unescape(block).splitlines()}
    assert len(commands) > len(NAMES)
    for command in commands:
        program, *arguments = shlex.split(command)
        result = CliRunner().invoke(main, ["--store", str(root), *arguments, "--format", "csv"])
        assert program == "attnstore"
        assert result.exit_code == 0, f"{command}: {result.output}"
        assert len(result.stdout.splitlines()) > 1


def test_folder_that_cannot_be_written_is_one_sentence(
    store: attnstore.Store, tmp_path: Path
) -> None:
    """The error names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot be written to .*file"):
        report.write(store, tmp_path / "file")


# What the paper reports --------------------------------------------------------------------------


def test_published_numbers_stand_beside_the_papers_model_and_task_only(tmp_path: Path) -> None:
    """bert-base-uncased with 12 layers of 12 heads over one of the paper's tasks."""
    sizes = {"num_hidden_layers": 12, "num_attention_heads": 12, "hidden_size": 24}
    large, small = (
        tiny.make(tmp_path / "large", "bert", **sizes),
        tiny.make(tmp_path / "small", "bert"),
    )
    texts = write_rows(
        tmp_path / "t.jsonl", [{"text": t, "text_pair": "the fox"} for t in sentences(3, longest=5)]
    )
    models = [f"{large}=bert-base-uncased", f"{large}=other", f"{small}=my-bert-base-uncased"]
    attnstore.ingest(tmp_path / "s", models, f"{texts}=rte", max_length=64)
    attnstore.ingest(tmp_path / "s", models[0], f"{texts}=wnli", max_length=64)
    with attnstore.open(tmp_path / "s") as store:
        found = published.beside(store, "word_match")
        assert found["bert-base-uncased/rte"].value == "layer 3, head 0 and layer 1, head 11"
        assert list(found) == ["bert-base-uncased/rte"]
        section = report.draw_section(store, "cls_attention", _made(tmp_path / "out"))
        assert "punctuation (section 4.5)" in report.page(store, (section,))


def _made(folder: Path) -> Path:
    (folder / "figures").mkdir(parents=True)
    return folder


def test_table1_shows_published_scores_as_diamonds(root: Path, tmp_path: Path) -> None:
    """Of the paper's model."""
    shutil.copytree(root, tmp_path / "s")
    row = {"model": "base", "source": "bert-base-uncased", "n_layers": 12, "n_heads": 12}
    row |= dict.fromkeys(("fingerprint", "tokenizer_fingerprint"), "0" * 64)
    fragments.remove(location.locate(tmp_path / "s"), "models", "base")
    fragments.write(location.locate(tmp_path / "s"), "models", "base", "x", pl.DataFrame([row]))
    with attnstore.open(tmp_path / "s") as store:
        axes = gallery.draw(store, "table1").figure.axes[0]
    marked = [line.get_ydata().tolist() for line in axes.lines if line.get_marker() == "D"]
    assert marked == [[52.7], [64.6]]


def test_published_facts_belong_to_figures(store: attnstore.Store) -> None:
    """Each names a figure of ours that gives the same quantity by run, by keys where there are several.

    A key may have no value of ours, such as that of twins which a store lacks.
    """
    for figure, key in {(fact.figure, fact.key) for fact in published.facts()}:
        drawing = drawn(store, figure)
        assert drawing.measured if key else drawing.ours


def test_published_facts_say_what_they_hold_for() -> None:
    """Either tasks of the paper's model, or the texts that they were measured on."""
    assert all(bool(fact.tasks) != bool(fact.data) for fact in published.facts())
    assert {fact.model for fact in published.facts() if fact.tasks} == {published.MODEL}


def test_every_part_has_a_paper() -> None:
    """And every paper a part of the report."""
    assert set(published.papers()) == set(parts.PARTS)


def test_numbers_of_other_models_are_marked_with_theirs(
    store: attnstore.Store, written: report.Report
) -> None:
    """A published number beside a run of another model names its own model and texts."""
    text = unescape(written.page.read_text())
    for fact in (fact for fact in published.facts() if fact.data):
        assert fact.value in text
        assert f"{fact.model}, {fact.data}" in text
    section = next(s for s in written.sections if s.name == "special_tokens")
    assert section.elsewhere is not None
    columns, rows = section.elsewhere
    sep = store.query("special_tokens", run=TUNED).filter(kind="sep")
    most = [layer for layer, mean in sep.select("layer", "mean").rows() if mean > 0.5]
    assert rows[0][columns.index(TUNED)] == f"{', '.join(map(str, most)) or 'none'} of {len(sep)}"


# Parts -------------------------------------------------------------------------------------------


def test_each_paper_has_a_part(written: report.Report) -> None:
    """In the order of the parts; a figure of two papers stands in the first and is named in the other."""
    text = written.page.read_text()
    keys = re.findall(r'class="part" id="(\w+)"', text)
    assert keys == [key for key in parts.PARTS if parts.names(key)]
    clark = text[text.index('id="clark2019"') :]
    assert '<a href="#special_tokens">' in clark
    assert text.count('id="special_tokens"') == 1


def test_report_of_chosen_papers_shows_their_parts_only(
    store: attnstore.Store, tmp_path: Path
) -> None:
    """A figure that an earlier, longer report left there is removed."""
    old = _made(tmp_path) / "figures" / "drift.svg"
    old.write_text("old")
    written = report.write(store, tmp_path, papers="clark2019, kobayashi2020")
    assert written.shown == (*parts.names("clark2019"), *parts.names("kobayashi2020"))
    text = written.page.read_text()
    assert re.findall(r'class="part" id="(\w+)"', text) == ["clark2019", "kobayashi2020"]
    assert not old.exists()


def test_part_that_is_none_is_one_sentence(root: Path, tmp_path: Path) -> None:
    """The error names the nearest."""
    call = ["--store", str(root), "report", "--papers", "clark2018", "--out", str(tmp_path / "r")]
    result = CliRunner().invoke(main, call)
    assert result.exit_code == 2
    assert "clark2019" in result.stderr


def test_part_without_any_figure_says_so(sample_store: Path, tmp_path: Path) -> None:
    """With the command that supplies what it needs."""
    with attnstore.open(sample_store) as store:
        written = report.write(store, tmp_path, papers="michel2019")
    text = unescape(written.page.read_text())
    assert "Michel et al. 2019: the store has nothing for this paper yet" in text
    assert "<code>attnstore prune" in text


# Commands ----------------------------------------------------------------------------------------


def test_figure_command_lists_the_figures(root: Path) -> None:
    """Without a name."""
    result = CliRunner().invoke(main, ["--store", str(root), "figure"])
    assert result.exit_code == 0
    assert all(name in result.stdout for name in NAMES[:5])


def test_figure_command_draws_into_a_file(root: Path, tmp_path: Path) -> None:
    """And prints its path; a choice is given as --param."""
    path = tmp_path / "entropy.svg"
    call = [
        "--store",
        str(root),
        "figure",
        "head_entropy",
        "--param",
        "runs_like=base%",
        "--out",
        str(path),
    ]
    result = CliRunner().invoke(main, call)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{path}\n"
    assert path.read_text().startswith("<?xml")


def test_figure_command_says_what_is_missing(sample_store: Path) -> None:
    """In one sentence, with exit code 2."""
    result = CliRunner().invoke(main, ["--store", str(sample_store), "figure", "drift"])
    assert result.exit_code == 2
    assert "attnstore ingest" in result.stderr


@pytest.mark.slow
def test_report_flow_writes_the_page(root: Path, tmp_path: Path) -> None:
    """`attnstore report --prefect` runs as a flow, one task per figure."""
    run = flow("report", "--store", root, "--out", tmp_path / "r")
    assert run.exit_code == 0, run.stderr
    assert (tmp_path / "r" / "index.html").exists()
    assert f"{len(NAMES)} figures" in run.stdout
