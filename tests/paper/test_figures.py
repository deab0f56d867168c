"""Rules of the figures: what stands on them, that it can be read, and how they are saved."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
import tiny
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

import attnstore
from attnstore.errors import UsageError
from attnstore.paper import attended
from attnstore.plotting import figures

HEADS = pl.DataFrame(
    {"layer": [0, 0, 1, 1], "head": [0, 1, 0, 2], "mean": [0.1, 0.2, 0.3, 0.4]},
    schema_overrides={"layer": pl.Int16, "head": pl.Int16, "mean": pl.Float32},
)


def random_map(n: int) -> np.ndarray:
    """A map of n tokens whose rows sum to 1."""
    return np.random.default_rng(n).dirichlet(np.ones(n), n).astype(np.float32)


def words(n: int) -> list[str]:
    return [f"word{i}" for i in range(n)]


def boxes(figure: Figure, labels: list[Text]) -> np.ndarray:
    """Left, bottom, right and top of each label, in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    return np.array([label.get_window_extent(renderer).extents for label in labels])


def test_map_stands_with_its_tokens(sample_store: Path) -> None:
    """The picture holds the weights; rows and columns are named by the tokens, in order."""
    with attnstore.open(sample_store) as store:
        example = store.sql("SELECT example FROM inputs ORDER BY length LIMIT 1").item()
        found = store.map("tiny/sample", example, 1, 3)
    axes = figures.attention_map(found.weights, found.tokens, found.title).axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), found.weights)
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == list(found.tokens)
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("from token", "to token")
    assert axes.get_title() == found.title


@pytest.mark.parametrize("n", [1, 2, 20, 60, 61, 128, 512])
def test_labels_of_a_map_never_overlap(n: int) -> None:
    """Up to 60 tokens every one is named; beyond, names are thinned out."""
    figure = figures.attention_map(random_map(n), words(n))
    axes = figure.axes[0]
    rows, columns = (boxes(figure, x) for x in (axes.get_yticklabels(), axes.get_xticklabels()))
    assert len(rows) == n if n <= 60 else len(rows) >= 40
    assert (rows[:-1, 1] >= rows[1:, 3]).all()
    assert (columns[1:, 0] >= columns[:-1, 2]).all()


@pytest.mark.parametrize("n", [2, 60, 128])
def test_labels_of_a_map_can_be_read(n: int) -> None:
    """No letter is smaller than 5.5 points."""
    axes = figures.attention_map(random_map(n), words(n)).axes[0]
    assert min(label.get_fontsize() for label in axes.get_yticklabels()) >= 5.5


def test_tokens_are_no_formulas(tmp_path: Path) -> None:
    """A token like $x$ or a broken formula stands as it is."""
    figure = figures.attention_map(random_map(2), ["$x^2$", "$\\frac"], "$5 for \\this")
    figures.save(figure, tmp_path / "map.svg")
    assert figure.axes[0].get_yticklabels()[0].get_text() == "$x^2$"


def test_long_token_is_cut() -> None:
    """A label has at most 18 letters."""
    labels = figures.attention_map(random_map(2), ["a" * 50, "b"]).axes[0].get_yticklabels()
    assert labels[0].get_text() == "a" * 17 + "…"


def test_heads_stand_by_layer_and_head() -> None:
    """Layers down, heads across, both from 0; a head without a value stays empty."""
    axes = figures.heads(HEADS, "Title", "mean weight (share)").axes[0]
    cells = np.ma.getdata(axes.images[0].get_array())
    mask = np.ma.getmaskarray(axes.images[0].get_array())
    assert cells[~mask].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert mask.tolist() == [[False, False, True], [False, True, False]]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("layer (from 0)", "head (from 0)")


def test_heads_have_one_colour_bar_with_its_unit() -> None:
    """Two axes: the picture, and the bar that carries the label."""
    figure = figures.heads(HEADS, "Title", "mean weight (share)")
    bars = [axes for axes in (*figure.axes, *figure.axes[0].child_axes) if axes.get_ylabel() == "mean weight (share)"]  # fmt: skip
    assert len(bars) == 1


@pytest.mark.parametrize("shape", [(6, 12), (24, 16), (48, 96)])
def test_numbers_of_heads_never_overlap(shape: tuple[int, int]) -> None:
    """Numbers are thinned out where there are many."""
    layer, head = (axis.ravel() for axis in np.indices(shape))
    frame = pl.DataFrame({"layer": layer, "head": head, "mean": np.arange(layer.size) / 7})
    figure = figures.heads(frame, "", "x")
    across = boxes(figure, figure.axes[0].get_xticklabels())
    assert (across[1:, 0] > across[:-1, 2]).all()


def test_heads_of_an_empty_frame_are_refused() -> None:
    """One sentence instead of an empty picture."""
    with pytest.raises(UsageError, match="no row"):
        figures.heads(HEADS.clear(), "Title", "unit")


def test_colours_suit_the_colour_blind() -> None:
    """viridis: its lightness rises all along, so it reads in grey too."""
    assert figures.SCALE == "viridis"


def test_png_has_200_dots_per_inch(tmp_path: Path) -> None:
    """As journals ask for."""
    with Image.open(figures.save(figures.heads(HEADS, "", "x"), tmp_path / "heads.png")) as image:
        assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)


def test_svg_is_xml(tmp_path: Path) -> None:
    """Also with tokens that are markup."""
    path = figures.save(figures.attention_map(random_map(2), ["<b>", "&amp;"]), tmp_path / "m.svg")
    assert ElementTree.parse(path).getroot().tag.endswith("svg")


@pytest.mark.parametrize("kind", figures.FORMATS)
def test_same_figure_gives_the_same_bytes(tmp_path: Path, kind: str) -> None:
    """No date and no random names inside, so a report can be compared with the last."""
    paths = [
        figures.save(figures.heads(HEADS, "Title", "x"), tmp_path / f"{i}.{kind}") for i in (1, 2)
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_other_endings_are_refused(tmp_path: Path) -> None:
    """The error names those that there are."""
    with pytest.raises(UsageError, match=r"map\.gif.*\.png, \.svg, \.pdf"):
        figures.save(figures.heads(HEADS, "", "x"), tmp_path / "map.gif")


def test_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(UsageError, match=r"heads\.png cannot be written"):
        figures.save(figures.heads(HEADS, "", "x"), tmp_path / "no" / "heads.png")


def test_pyplot_is_left_alone() -> None:
    """Figures keep no global state and choose no backend for the caller."""
    code = "import sys, attnstore.plotting.figures; print('matplotlib.pyplot' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


TREEBANK = """# text = the dog sees the bird
1	the	the	DET	_	_	2	det	_	_
2	dog	dog	NOUN	_	_	3	nsubj	_	_
3	sees	see	VERB	_	_	0	root	_	_
4	the	the	DET	_	_	5	det	_	_
5	bird	bird	NOUN	_	_	3	obj	_	_

# text = she runs .
1	she	she	PRON	_	_	2	nsubj	_	_
2	runs	run	VERB	_	_	0	root	_	_
3	.	.	PUNCT	_	_	2	punct	_	_

"""


def test_a_decoder_has_its_row_of_features_beside_an_encoder(tmp_path: Path) -> None:
    """A run without [CLS] and [SEP] has its name and its layers once, left of what it has."""
    (tmp_path / "t.conllu").write_text(TREEBANK)
    models = [f"{tiny.make(tmp_path / kind, kind)}={kind}" for kind in ("bert", "gpt2")]
    attnstore.ingest(tmp_path / "s", models, f"{tmp_path / 't.conllu'}=t", max_length=30)
    with attnstore.open(tmp_path / "s") as store:
        store.annotate("t", "conllu")
        figure = attended.feature_attention(store).figure
    panels = [axes for axes in figure.axes if axes.images]
    features = [axes.get_title().split("\n")[0] for axes in panels]
    assert [f for f in features if f in ("[CLS]", "[SEP]")] == ["[CLS]", "[SEP]"]
    named = {
        text.get_text(): axes.get_title().split("\n")[0] for axes in panels for text in axes.texts
    }
    assert named == {"bert/t": "[CLS]", "gpt2/t": features[len(features) // 2 + 1]}
    assert [axes.get_title().split("\n")[0] for axes in panels if axes.get_ylabel()] == list(
        named.values()
    )


def test_letters_of_an_svg_are_text(tmp_path: Path) -> None:
    """Tokens, titles and the numbers of the scale can be read, searched and edited."""
    figure = figures.attention_map(np.array([[0.25, 0.75], [0.5, 0.5]]), ["ab", "Größe"], "a map")
    written = ElementTree.parse(figures.save(figure, tmp_path / "m.svg")).getroot()
    texts = {text.text for text in written.iter("{http://www.w3.org/2000/svg}text")}
    assert {"ab", "Größe", "a map", "from token", "to token", "attention weight", "0.6"} <= texts
