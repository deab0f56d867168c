"""Rules of view `offsets`: profiles by relative position, against loops over the model's own maps."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tiny
import torch
from helpers import flip, shrink, write_rows, write_texts
from transformers import AutoModel, AutoTokenizer

import attnstore
from attnstore import job
from attnstore.capture import recomputations
from attnstore.capture.offsets import Places
from attnstore.capture.recompute_offsets import OffsetsRecomputation
from attnstore.capture.statistics import STRIPE_CELLS
from attnstore.errors import UnknownNameError
from attnstore.maintenance.copying import copy
from attnstore.maintenance.verify import verify
from attnstore.offsets import OFFSETS, TARGETS
from attnstore.storage import fragments, location
from attnstore.storage.precision import PRECISIONS

RUN = "m/t"
TOLERANCE = {"float32": 1e-6, "float16": 1e-3, "compact": 1e-2, "tiny": 3e-2}
"""How far a mean from rounded weights may lie from that of the model's own."""
Group = tuple[int, int, str, int | None]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few inputs each; inputs of 46 tokens and more own two shards."""
    shrink(monkeypatch)


def ingest(tmp_path: Path, architecture: str = "bert", **settings: Any) -> Path:
    model = tiny.make(tmp_path / "m", architecture)
    pairs = architecture not in ("gpt2",)
    texts = write_texts(tmp_path / "t.jsonl", 20, pairs=pairs, longest=20)
    lines = [json.loads(line) for line in texts.read_text().splitlines()]
    lines += [{"text": "a", "label": "0"}, {"text": "the fox , the dog . " * 12, "label": "1"}]
    write_rows(texts, lines)
    settings = {"max_length": 56, "precision": "float32"} | settings
    attnstore.ingest(tmp_path / "store", str(model), str(texts), **settings)
    return tmp_path / "store"


def from_the_model(root: Path, tmp_path: Path, max_length: int = 56) -> dict[Group, list[float]]:
    """By (layer, head, target, offset): mean weight, share and number of pairs, pair by pair."""
    model = AutoModel.from_pretrained(tmp_path / "m", attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    rows = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    with attnstore.open(root) as store:
        tokens = store.sql(
            "SELECT example, kind, segment, token_id FROM tokens ORDER BY example, position"
        )
    sums: dict[Group, float] = defaultdict(float)
    pairs: dict[Group, int] = defaultdict(int)
    n_from = 0
    for (example,), own in tokens.group_by("example", maintain_order=True):
        texts = [rows[example][k] for k in ("text", "text_pair") if k in rows[example]]  # type: ignore[index]
        encoded = tokenizer(*texts, truncation=True, max_length=max_length, return_tensors="pt")
        with torch.no_grad():
            maps = torch.stack(model(**encoded, output_attentions=True).attentions)[:, 0].numpy()
        n = maps.shape[-1]
        assert own["token_id"].to_list()[:n] == encoded["input_ids"][0].tolist()
        groups = [
            target(own["kind"][:n].to_list(), own["segment"][:n].to_list(), i) for i in range(n)
        ]
        for of_row, weights in zip(groups, np.moveaxis(maps, 2, 0), strict=True):
            n_from += of_row is not None
            for j, group in enumerate(of_row or ()):
                for layer, head in np.ndindex(weights.shape[:2]):
                    sums[(layer, head, *group)] += float(weights[layer, head, j])
                    pairs[(layer, head, *group)] += 1
    return {g: [sums[g] / pairs[g], sums[g] / n_from, pairs[g]] for g in sums}


def target(kinds: list[str], segments: list[int], i: int) -> list[tuple[str, int | None]] | None:
    """The group of each pair of token i with a token of its input; None if token i is not ordinary."""

    def ordinary(k: int) -> bool:
        return k > 0 and kinds[k] in ("word", "punctuation")

    def of(j: int) -> tuple[str, int | None]:
        if kinds[j] in ("cls", "sep", "special"):
            return kinds[j], None
        if j == 0:
            return "first", None
        if segments[i] != segments[j]:
            return "other_text", None
        return ("near", j - i) if abs(j - i) <= 10 else ("far", None)

    return [of(j) for j in range(len(kinds))] if ordinary(i) else None


def stored(root: Path) -> dict[Group, list[float]]:
    with attnstore.open(root) as store:
        rows = store.sql(
            'SELECT layer, head, target, "offset", weight, share, n FROM offsets'
        ).rows()
    found = {tuple(row[:4]): list(row[4:]) for row in rows}
    assert len(found) == len(rows), "each group of a head stands once"
    return found


def assert_near(
    found: dict[Group, list[float]], wanted: dict[Group, list[float]], off: float
) -> None:
    assert found.keys() == wanted.keys()
    for group, values in wanted.items():
        assert found[group][2] == values[2], group
        assert found[group][:2] == pytest.approx(values[:2], abs=off, rel=1e-5), group


def drop_profiles(root: Path) -> None:
    """Leave a store as an earlier version wrote it."""
    shutil.rmtree(root / "fragments" / "offsets")


def profiles(root: Path) -> list[fragments.Fragment]:
    return fragments.listing(location.locate(root), "offsets", RUN)


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("bert", {}),
        ("bert", {"pad_to": 60}),
        ("bert", {"max_length": 9}),
        ("bert", {"layers": (1,), "heads": (0, 3)}),
        ("roberta", {}),
        ("gpt2", {}),
        ("modernbert", {}),
    ],
    ids=["pairs", "padded", "truncated", "some", "roberta", "causal", "windows"],
)
def test_a_profile_is_what_the_models_own_maps_give(
    tmp_path: Path, architecture: str, settings: dict[str, Any]
) -> None:
    """Pairs, singles, one-token texts, cut ones, and one longer than a shard; [PAD] is in no group."""
    root = ingest(tmp_path, architecture, **settings)
    wanted = from_the_model(root, tmp_path, settings.get("max_length", 56))
    kept = {
        g: v for g, v in wanted.items()
        if g[0] in settings.get("layers", (g[0],)) and g[1] in settings.get("heads", (g[1],))
    }  # fmt: skip
    assert_near(stored(root), kept, 2e-6)
    assert not verify(root).findings


def test_the_groups_are_where_all_attention_goes(tmp_path: Path) -> None:
    """Shares of a head sum to 1."""
    root = ingest(tmp_path)
    sums: dict[tuple[int, int], float] = defaultdict(float)
    for group, values in stored(root).items():
        sums[group[0], group[1]] += values[1]
    assert list(sums.values()) == pytest.approx([1.0] * 8, abs=1e-5)
    assert {g[2] for g in stored(root)} >= {"cls", "sep", "near", "far", "other_text"}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_is_recomputed_is_what_capture_stored(tmp_path: Path, precision: str) -> None:
    """Within what the precision rounds off; until then an older run has no row, and is whole."""
    root = ingest(tmp_path, precision=precision)
    before, n_blocks = stored(root), len(profiles(root))
    drop_profiles(root)
    assert stored(root) == {}
    assert not verify(root).findings
    (summary,) = attnstore.recompute(root, "offsets")
    assert summary.stored == summary.maps == 22 * 8
    assert len(profiles(root)) == n_blocks > 3
    assert_near(stored(root), before, TOLERANCE[precision])
    assert not verify(root).findings


def test_what_capture_stored_is_not_replaced(tmp_path: Path) -> None:
    """Capture sums the exact weights; recomputing has rounded ones."""
    root = ingest(tmp_path, precision="compact")
    paths = [f.path for f in profiles(root)]
    (summary,) = attnstore.recompute(root, "offsets", RUN)
    assert summary.stored == 0
    assert [f.path for f in profiles(root)] == paths


def test_a_stopped_recomputation_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block has its profile or none; a run of which some blocks have one has no row yet."""
    root = ingest(tmp_path)
    before, n_blocks = stored(root), len(profiles(root))
    drop_profiles(root)
    whole, done = OffsetsRecomputation.store, []

    def failing(self: OffsetsRecomputation, unit: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(unit)
        return whole(self, unit)

    with monkeypatch.context() as patch:
        patch.setattr(OffsetsRecomputation, "store", failing)
        with pytest.raises(KeyboardInterrupt):
            attnstore.recompute(root, "offsets")
    assert stored(root) == {}
    assert not verify(root).findings
    (work,) = recomputations.planned(root, "offsets", RUN)
    with work:
        assert len(work.missing()) == n_blocks - 2
        work.complete(job.in_process, job.silent)
    assert_near(stored(root), before, TOLERANCE["float32"])


def test_a_damaged_profile_is_found_and_made_again(tmp_path: Path) -> None:
    """`verify` names the repair, and it repairs; everything else of the run stays as it is."""
    root = ingest(tmp_path)
    before = stored(root)
    flip(root / profiles(root)[1].path)
    report = verify(root)
    assert any("recompute offsets" in str(finding) for finding in report.findings)
    (summary,) = attnstore.recompute(root, "offsets")
    assert 0 < summary.stored < summary.maps
    assert not verify(root).findings
    assert_near(stored(root), before, TOLERANCE["float32"])


def test_a_profile_that_is_not_one_is_a_finding(tmp_path: Path) -> None:
    """A head twice, and more attention than there is."""
    root = ingest(tmp_path)
    backend, listed = location.locate(root), profiles(root)
    twice, more = (fragments.read(backend, f) for f in listed[:2])
    fragments.write(backend, "offsets", RUN, listed[0].part, pl.concat([twice, twice.head(1)]))
    fragments.write(backend, "offsets", RUN, listed[1].part, more.with_columns(pl.col("sums") * 2))
    texts = [str(finding) for finding in verify(root).findings]
    assert any("profiles of 8 heads in 9 rows" in text for text in texts)
    assert any("8 profiles of offsets that cannot be right" in text for text in texts)


def test_a_copy_has_the_profiles(tmp_path: Path) -> None:
    """A copied run has the same rows; a run that was copied without them gets them by a second copy."""
    root, target_root = ingest(tmp_path), tmp_path / "copy"
    kept = tmp_path / "kept"
    shutil.copytree(root / "fragments" / "offsets", kept)
    before = stored(root)
    drop_profiles(root)
    copy(root, target_root)
    assert stored(target_root) == {}
    shutil.copytree(kept, root / "fragments" / "offsets")
    copy(root, target_root)
    assert stored(target_root) == before
    assert not verify(target_root).findings


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    """It is one sentence."""
    root = ingest(tmp_path)
    with pytest.raises(UnknownNameError, match="no run 'm/u'"):
        attnstore.recompute(root, "offsets", "m/u")


def of_maps(weights: torch.Tensor, tokens: torch.Tensor, step: int) -> Iterable[np.ndarray]:
    """Sums and pairs of whole maps (n, heads, L, L) from stripes of `step` rows."""
    length = weights.shape[-1]
    stripes = [slice(at, at + step) for at in range(0, length, step)]
    places = [Places.of(tokens, rows) for rows in stripes]
    sums = [p.sums(weights[:, :, r].contiguous()) for p, r in zip(places, stripes, strict=True)]
    return torch.stack(sums).double().sum(0).numpy(), np.sum([p.pairs() for p in places], axis=0)


def test_long_maps_are_summed_by_rows() -> None:
    """A map of more cells than are summed at once has the sums that it has as a whole."""
    length = 1300
    assert length**2 > STRIPE_CELLS
    weights = torch.rand((1, 2, length, length)).softmax(-1)
    tokens = torch.zeros((5, 1, length))
    tokens[0, 0, 700:] = 1
    tokens[4] = 1
    tokens[1, 0, 0], tokens[4, 0, 0] = 1, 0
    whole, stripes = (of_maps(weights, tokens, step) for step in (length, 300))
    assert len(whole[0][0]) == len(OFFSETS) + len(TARGETS)  # type: ignore[index]
    np.testing.assert_allclose(*(x[0] for x in (stripes, whole)), rtol=1e-4, atol=1e-3)  # type: ignore[index]
    np.testing.assert_array_equal(*(x[1] for x in (stripes, whole)))  # type: ignore[index]
