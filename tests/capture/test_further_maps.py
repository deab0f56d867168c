"""Rules about kinds of maps that are stored beside the weights."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import zarr
from helpers import contents, shrink, write_rows, write_texts
from layer_parts import Floats, by_autograd, by_zeroing

import attnstore
from attnstore import map_kinds, verbs
from attnstore.capture import catalog
from attnstore.capture.further_maps import FurtherMaps
from attnstore.errors import AttnstoreError, BusyError, ModelError, UnknownNameError, UsageError
from attnstore.models import checkpoints
from attnstore.storage import location

ZEROING = "value_zeroing"


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve texts of unequal length, labeled 0 and 1 in turn."""
    return write_texts(tmp_path_factory.mktemp("texts") / "t.jsonl", 12, longest=24)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of three layers with a head of two outputs, 0 and 1."""
    return tiny.make_classifier(tmp_path_factory.mktemp("models") / "m", "bert")


ingest = partial(attnstore.ingest, max_length=30)
foresee = partial(verbs.foresee, max_length=30)


def stored(root: Path, kind: str, run: str = "m/t") -> dict[int, tuple[list[int], Floats]]:
    """Token numbers and maps (layers, heads or 1, L, L) by example, read with plain zarr."""
    rows = catalog.named(location.locate(root), run).plan.select(
        "example", "token_ids", "cell", "length"
    )
    array: Any = zarr.open_group(root / "attention.zarr", mode="r")[f"{run}/{kind}"]
    return {
        example: (ids, array[:, :, cell : cell + n * n].reshape(*array.shape[:2], n, n))
        for example, ids, cell, n in rows.iter_rows()
    }


def test_value_zeroing_is_stored_block_by_block(
    tiny_bert: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every input of every block has the maps that the model gives alone, of the layers of the run."""
    shrink(monkeypatch)
    root = tmp_path / "s"
    ingest(root, f"{tiny_bert}=m", f"{texts}=t", layers=[1], heads=[0, 2], maps=[ZEROING])
    maps = stored(root, ZEROING)
    with attnstore.open(root) as store:
        assert store.sql("SELECT count(*) FROM blocks").item() > 1
    assert len(maps) == 12
    for ids, map_ in maps.values():
        assert map_.shape == (1, 1, len(ids), len(ids))
        assert np.abs(map_[0, 0] - by_zeroing(tiny_bert, ids)[1]).max() < 1e-5


@pytest.mark.parametrize("kind", ["gradient_attention", "gradient_attention_gold"])
def test_gradient_maps_are_stored_for_the_label(
    kind: str, classifier: Path, texts: Path, tmp_path: Path
) -> None:
    """Of the predicted or of the gold label, of the heads of the run; rows of unequal length share passes."""
    ingest(tmp_path / "s", str(classifier), f"{texts}=t", heads=[1, 3], maps=f"weights,{kind}")
    labels = [int(json.loads(line)["label"]) for line in texts.read_text().splitlines()]
    for example, (ids, maps) in stored(tmp_path / "s", kind).items():
        label = labels[example] if kind.endswith("gold") else None
        right = by_autograd(classifier, ids, label)[:, [1, 3]]
        assert maps.shape == right.shape
        assert np.abs(maps - right).max() < 1e-5


def test_gold_labels_find_their_output_by_name(tmp_path: Path) -> None:
    """A head that answers in another order than the dataset counts is asked for the label's own output."""
    names = {"id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}}
    folder = tiny.make_classifier(tmp_path / "m", "bert", **names)
    rows = [{"text": text, "label": label} for text, label in (("Yes!", "yes"), ("It fell.", "no"))]
    texts = write_rows(tmp_path / "t.jsonl", rows)
    ingest(tmp_path / "s", str(folder), str(texts), maps="gradient_attention_gold")
    for example, (ids, maps) in stored(tmp_path / "s", "gradient_attention_gold").items():
        assert np.abs(maps - by_autograd(folder, ids, 1 - example)).max() < 1e-5


def test_a_kind_is_added_later_and_asking_again_computes_nothing(
    tiny_bert: Path, texts: Path, tmp_path: Path
) -> None:
    """A stored run gets a kind without its weights being written again; then nothing is written at all."""
    root, done = tmp_path / "s", []
    ask: Callable[..., Any] = lambda **options: ingest(  # noqa: E731
        root, f"{tiny_bert}=m", f"{texts}=t", finished=done.append, **options
    )
    ask()
    before = contents(root, tables=["maps", "map_stats", "blocks"])
    ask(maps=["weights", ZEROING])
    assert contents(root, tables=["maps", "map_stats", "blocks"]) == before
    assert (done[-1].arrays, done[-1].stored) == ((ZEROING,), 12)
    whole = contents(root)
    ask(maps=["weights", ZEROING])
    assert (contents(root), done[-1].stored) == (whole, 0)


def test_progress_goes_on_inside_a_block(tiny_bert: Path, texts: Path, tmp_path: Path) -> None:
    """Each input of value zeroing is reported as it is done, not the block at its end."""
    seen: list[int] = []

    def watch(job: Any) -> None:
        if job.kind == "add":
            seen.append(job.advance.computed[0])

    ingest(tmp_path / "s", f"{tiny_bert}=m", f"{texts}=t", maps=ZEROING, progress=watch)
    assert set(seen) == set(range(13))


def test_killed_it_continues_with_the_missing_blocks(
    tiny_bert: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was stored before a kill is kept, and the end is that of a job that was not killed."""
    shrink(monkeypatch)
    arguments = (f"{tiny_bert}=m", f"{texts}=t")
    ingest(tmp_path / "whole", *arguments, maps=ZEROING)

    def kill(job: Any) -> None:
        if job.kind == "add" and job.n_stored:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(tmp_path / "s", *arguments, maps=ZEROING, progress=kill)
    done: list[Any] = []
    ingest(tmp_path / "s", *arguments, maps=ZEROING, finished=done.append)
    assert 0 < done[-1].stored < 12
    right = stored(tmp_path / "whole", ZEROING)
    for example, (_, maps) in stored(tmp_path / "s", ZEROING).items():
        assert np.array_equal(maps, right[example][1])


def test_another_process_stores_units_and_a_second_job_waits(
    classifier: Path, texts: Path, tmp_path: Path
) -> None:
    """The share of a job goes through a pipe; while the job is held, asking for it is one sentence."""
    root, kind = tmp_path / "s", "gradient_attention_gold"
    ingest(root, str(classifier), f"{texts}=t")
    labels = dict.fromkeys(range(12), 1)
    further = FurtherMaps(map_kinds.find(kind), labels)
    run = catalog.named(location.locate(root), "m/t")
    with further.addition(run, checkpoints.resolve(str(classifier)), "cpu") as job:
        share = pickle.loads(pickle.dumps(job.share()))
        for unit in job.missing():
            job.take(share.store(unit))
        with pytest.raises(BusyError, match="m/t"):
            ingest(root, str(classifier), f"{texts}=t", maps=kind)
        job.finish()
    ids, maps = stored(root, kind)[0]
    assert np.abs(maps - by_autograd(classifier, ids, 1)).max() < 1e-5


@pytest.mark.parametrize(
    "options", [{"pad_to": 32}, {"disable": "0.1,2.*", "disable_value": "zero"}]
)
def test_padded_inputs_and_disabled_heads(
    options: dict[str, Any], classifier: Path, texts: Path, tmp_path: Path
) -> None:
    """[PAD] gives and gets nothing that counts, and a disabled head has no gradient."""
    root = tmp_path / "s"
    ingest(
        root, str(classifier), f"{texts}=t", limit=3, max_length=30,
        maps=[ZEROING, "gradient_attention"], **options,
    )  # fmt: skip
    for ids, maps in stored(root, "gradient_attention").values():
        n = len([i for i in ids if i])
        assert np.abs(maps[:, :, :, n:]).max(initial=0) == 0
        assert np.abs(maps[0, 0]).max() > 0
        if "disable" in options:
            assert np.abs(maps[0, 1]).max() == np.abs(maps[2]).max() == 0
        else:
            right = by_autograd(classifier, ids[:n])
            assert np.abs(maps[:, :, :n, :n] - right).max() < 1e-5


@pytest.mark.parametrize(
    ("maps", "error", "sentence"),
    [
        ("value_zeroin", UnknownNameError, "did you mean value_zeroing?"),
        (["norm"], UsageError, "computed when they are read"),
        ("gradient_attention", ModelError, "no head for sequence classification"),
    ],
)
def test_a_kind_that_cannot_be_had_is_one_sentence_before_any_work(
    maps: Any,
    error: type[AttnstoreError],
    sentence: str,
    tiny_bert: Path,
    texts: Path,
    tmp_path: Path,
) -> None:
    """An unknown name, one that is computed on reading, and gradients of a model without a head."""
    for act in (ingest, foresee):
        with pytest.raises(error) as raised:
            act(tmp_path / "s", f"{tiny_bert}=m", f"{texts}=t", maps=maps)
        assert sentence in str(raised.value)
    assert not (tmp_path / "s" / "attention.zarr" / "m").exists()


def test_a_forecast_says_what_a_kind_takes(tiny_bert: Path, texts: Path, tmp_path: Path) -> None:
    """Value zeroing takes as many passes as tokens; of what is stored there is nothing left to say."""
    arguments = (tmp_path / "s", f"{tiny_bert}=m", f"{texts}=t")
    weights, zeroing = foresee(*arguments, maps=ZEROING)
    assert (weights.run, zeroing.run) == ("m/t", f"m/t, {ZEROING}")
    ingest(*arguments)
    with attnstore.open(tmp_path / "s") as store:
        lengths = store.sql("SELECT length FROM inputs")["length"].to_numpy().astype(float)
    assert zeroing.passes == pytest.approx((lengths**2).sum() / lengths.sum())
    assert foresee(*arguments, maps=ZEROING)[1] == zeroing
    ingest(*arguments, maps=ZEROING)
    assert foresee(*arguments, maps=ZEROING)[1].sentence == "every example is stored already"
