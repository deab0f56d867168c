"""The attention of a sentence typed in: what the model gives, refused as an ingestion refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from click.testing import CliRunner
from helpers import eager_maps, write_rows
from safetensors.torch import load_file, save_file

import attnstore
from attnstore.cli.main import main
from attnstore.errors import AttnstoreError, ModelError, UnknownNameError, UsageError

TEXT, PAIR = "The quick brown fox jumps.", "Did she believe it?"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.make(tmp_path_factory.mktemp("model") / "tiny", "bert"))


@pytest.mark.parametrize("architecture", ["bert", "roberta", "gpt2", "albert"])
@pytest.mark.parametrize("texts", [(TEXT,), (TEXT, PAIR)])
def test_the_maps_are_the_models_own(
    tmp_path: Path, architecture: str, texts: tuple[str, ...]
) -> None:
    """Every weight is the one that transformers gives for these texts."""
    folder = tiny.make(tmp_path / "m", architecture)
    view = attnstore.look(str(folder), *texts)
    ((_, expected),) = eager_maps(folder, [texts])
    np.testing.assert_allclose(view.maps, expected, atol=1e-6)
    assert view.texts == texts
    assert len(view.data["tokens"]) == expected.shape[-1]


def test_a_stored_run_holds_the_same_maps_and_tokens(tmp_path: Path, model: str) -> None:
    """What is shown is what `ingest` would have kept."""
    rows = write_rows(tmp_path / "x.jsonl", [{"text": TEXT, "text_pair": PAIR}])
    attnstore.ingest(tmp_path / "s", model, str(rows), precision="float32", max_length=64)
    with attnstore.open(tmp_path / "s") as store:
        run = store.runs()["run"][0]
        stored = store.view(run, 0)
    view = attnstore.look(model, TEXT, PAIR)
    np.testing.assert_array_equal(view.maps, stored.maps)
    keys = ("layers", "heads", "tokens", "segments", "words", "starts", "state")
    assert {k: view.data[k] for k in keys} == {k: stored.data[k] for k in keys}


def test_layers_and_heads_may_be_chosen(model: str) -> None:
    """The view holds the chosen maps and begins with the chosen one."""
    whole = attnstore.look(model, TEXT)
    view = attnstore.look(model, TEXT, layer=1, head=2, layers=[1], heads=[2, 0])
    np.testing.assert_array_equal(view.maps, whole.maps[1:2][:, [0, 2]])
    assert view.data["state"] == {"layer": 1, "head": 2}
    with pytest.raises(UnknownNameError, match="no layer 0 to show; give one of 1"):
        attnstore.look(model, TEXT, layer=0, layers=[1])


def test_nothing_is_kept(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking leaves no file behind, neither in the folder nor beside the model."""
    monkeypatch.chdir(tmp_path)
    before = sorted(Path(model).rglob("*"))
    attnstore.look(model, TEXT)
    assert not list(tmp_path.iterdir())
    assert sorted(Path(model).rglob("*")) == before


@pytest.mark.parametrize("text", ["", "  ", 7, "\ud800"])
def test_a_text_that_is_none_is_refused(model: str, text: str) -> None:
    """The sentence says what was given."""
    with pytest.raises(UsageError, match=r"^The text is"):
        attnstore.look(model, text)


def test_a_long_text_is_cut_only_when_asked(model: str) -> None:
    """A text that is too long for the model is refused, unless a length is given."""
    with pytest.raises(UsageError, match=r"more than \d+ tokens.* max_length to cut it\.$"):
        attnstore.look(model, "dog " * 2000)
    assert attnstore.look(model, "dog " * 2000, max_length=16).maps.shape[-1] == 16


def test_what_an_ingestion_refuses_is_refused(tmp_path: Path) -> None:
    """Weights that are not finite give the same sentence in both."""
    folder = tiny.make(tmp_path / "m", "bert")
    weights = load_file(folder / "model.safetensors")
    weights[min(k for k in weights if "query.weight" in k)][0, 0] = torch.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    rows = write_rows(tmp_path / "x.jsonl", [{"text": TEXT}])
    said = []
    for call in (
        lambda: attnstore.ingest(tmp_path / "s", str(folder), str(rows), max_length=64),
        lambda: attnstore.look(str(folder), TEXT),
    ):
        with pytest.raises(AttnstoreError) as caught:
            call()
        said.append((type(caught.value), str(caught.value)))
    assert said[0] == said[1]
    assert said[0][0] is ModelError


def test_the_command_prints_a_map_and_writes_files(tmp_path: Path, model: str) -> None:
    """Without --out the map is drawn in the terminal; .html and .png are written."""
    call = [model, TEXT, "--layer", "1", "--head", "2"]
    shown = CliRunner().invoke(main, ["look", *call])
    assert shown.exit_code == 0, shown.output
    assert "layer 1, head 2" in shown.output
    assert "[CLS]" in shown.output
    for name in ("a.html", "a.png"):
        done = CliRunner().invoke(main, ["look", *call, "--out", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
        assert (tmp_path / name).stat().st_size > 1000


def test_a_mistake_of_the_command_is_one_sentence(model: str) -> None:
    """A layer that the model lacks ends with code 2."""
    done = CliRunner().invoke(main, ["look", model, TEXT, "--layer", "9"])
    assert done.exit_code == 2
    assert "There is no layer 9: the model's layers are 0 to 1." in done.output
