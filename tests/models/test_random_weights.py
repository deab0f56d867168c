"""Rules of random-weights twins: the model's configuration, tokenizer and inputs, weights of a seed."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from click.testing import CliRunner
from helpers import contents, write_texts
from transformers import AutoConfig, AutoModel, AutoTokenizer

import attnstore
from attnstore.capture import ingestion
from attnstore.capture.runs import Settings
from attnstore.cli.main import main
from attnstore.datasets import corpora
from attnstore.declared import config
from attnstore.declared.readiness import candidates
from attnstore.errors import ModelError, UsageError
from attnstore.models import checkpoints, random_weights
from attnstore.models.loading import load_classifier, load_model
from attnstore.storage import location


def plain(folder: Path, seed: int) -> torch.nn.Module:
    """The model that transformers makes of a folder's configuration after torch.manual_seed."""
    torch.manual_seed(seed)
    settings = AutoConfig.from_pretrained(folder)
    model: torch.nn.Module = AutoModel.from_config(settings, attn_implementation="eager").eval()
    return model


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """True if two models hold the same tensors."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_the_weights_are_those_of_transformers_own_initialization(
    architecture: str, tmp_path: Path
) -> None:
    """Tensor by tensor those of AutoModel.from_config under the seed, another seed's others."""
    folder = tiny.make(tmp_path / architecture, architecture, seed=9)
    twin = checkpoints.resolve(f"random:3:{folder}")
    assert same(load_model(twin), plain(folder, 3))
    assert not same(load_model(twin), plain(folder, 4))


def test_stored_maps_are_those_of_the_plain_model(tiny_bert: Path, tmp_path: Path) -> None:
    """Bit for bit, in float32, of every token of a text."""
    text = "She said that he was not at home."
    (tmp_path / "t.jsonl").write_text(f'{{"text": "{text}"}}\n')
    options = {"max_length": 64, "precision": "float32", "random_weights": True, "seeds": (5,)}
    attnstore.ingest(tmp_path / "s", f"{tiny_bert}=tiny", str(tmp_path / "t.jsonl"), **options)
    encoded = AutoTokenizer.from_pretrained(tiny_bert)(text, return_tensors="pt")
    with torch.no_grad():
        maps = plain(tiny_bert, 5)(**encoded, output_attentions=True).attentions
    stored = attnstore.open(tmp_path / "s").maps("tiny-random-5/t", example=0)
    assert np.array_equal(stored, torch.cat(maps).numpy())


def test_the_generator_of_torch_is_left_alone(tiny_bert: Path) -> None:
    """Drawing a twin changes no number that the caller draws next."""
    torch.manual_seed(1)
    expected = torch.rand(4)
    torch.manual_seed(1)
    checkpoints.resolve(f"random:7:{tiny_bert}")
    assert torch.equal(torch.rand(4), expected)


def test_the_identity_is_the_same_in_every_process(tiny_bert: Path) -> None:
    """Original, seed and drawn weights decide the fingerprint, nothing of the process."""
    spec = f"random:2:{tiny_bert}"
    code = (
        f"from attnstore.models import checkpoints; print(checkpoints.resolve({spec!r}).identity)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                         env=environment)  # fmt: skip
    assert run.stdout.strip() == checkpoints.resolve(spec).identity
    others = [checkpoints.resolve(s) for s in (str(tiny_bert), f"random:3:{tiny_bert}")]
    assert len({run.stdout.strip(), *(c.identity for c in others)}) == 3


def test_a_twin_has_the_inputs_of_its_run(tiny_bert: Path, tmp_path: Path) -> None:
    """The sample's seed stays its own: the same examples and tokens, on the command line as written."""
    texts = str(write_texts(tmp_path / "texts.jsonl", 30))
    common = [
        "--model",
        f"{tiny_bert}=tiny",
        "--dataset",
        texts,
        "--limit",
        "9",
        "--max-length",
        "64",
    ]
    store = str(tmp_path / "store")
    for more in (["--seed", "4"], ["--random-weights", "--seed", "0,1", "--sample-seed", "4"]):
        result = CliRunner().invoke(main, ["--store", store, "ingest", *common, *more])
        assert result.exit_code == 0, result.output
    opened = attnstore.open(store)
    inputs = {
        run: opened.sql(
            "SELECT example, token_ids FROM inputs WHERE run = $run ORDER BY 1", run=run
        )
        for run in ("tiny/texts", "tiny-random-0/texts", "tiny-random-1/texts")
    }
    assert inputs["tiny/texts"].equals(inputs["tiny-random-0/texts"])
    twins = opened.sql("FROM random_twins ORDER BY seed").rows()
    assert twins == [("tiny/texts", f"tiny-random-{seed}/texts", seed) for seed in (0, 1)]
    described = opened.sql("SELECT twin_of, random_seed FROM models ORDER BY model").rows()
    assert described == [(None, None), (str(tiny_bert), 0), (str(tiny_bert), 1)]


def test_runs_of_other_inputs_or_settings_are_no_twins(tiny_bert: Path, tmp_path: Path) -> None:
    """Another sample, precision, padding or set of heads is not held against a run."""
    texts, root = str(write_texts(tmp_path / "texts.jsonl", 30)), tmp_path / "store"
    base = {"limit": 9, "max_length": 32, "precision": "float32"}
    for more in ({"seed": 1}, {"precision": "float16"}, {"pad_to": 40}, {"heads": (0, 1)}):
        options = {**base, **more, "random_weights": True}
        attnstore.ingest(root, f"{tiny_bert}=tiny", texts, **options)
    attnstore.ingest(root, f"{tiny_bert}=tiny", texts, **base)
    with attnstore.open(root) as store:
        assert store.sql("FROM random_twins").is_empty()
    attnstore.ingest(root, f"{tiny_bert}=tiny", texts, **base, random_weights=True)
    with attnstore.open(root) as store:
        assert store.sql("SELECT run, seed FROM random_twins").rows() == [("tiny/texts", 0)]


def test_a_twin_of_the_base_stands_beside_runs_of_trained_checkpoints(
    tiny_bert: Path, tmp_path: Path
) -> None:
    """A checkpoint has the configuration of the model that it was trained from."""
    texts, root = str(write_texts(tmp_path / "texts.jsonl", 5)), tmp_path / "store"
    tuned = tiny.make(tmp_path / "tuned", "bert", seed=2)
    attnstore.ingest(root, f"{tiny_bert}=tiny", texts, max_length=64, random_weights=True)
    attnstore.ingest(root, f"{tuned}=tuned", texts, max_length=64, base=str(tiny_bert))
    other = tiny.make(tmp_path / "other", "bert", num_attention_heads=2)
    attnstore.ingest(root, f"{other}=other", texts, max_length=64, base=str(tiny_bert))
    twins = attnstore.open(root).sql("SELECT run, twin_run FROM random_twins").rows()
    assert twins == [("tuned/texts", "tiny-random-0/texts")]


def test_a_stopped_twin_continues_with_the_same_bytes(tiny_bert: Path, tmp_path: Path) -> None:
    """Blocks that are missing are computed again, and asking for a whole run computes nothing."""
    texts = str(write_texts(tmp_path / "texts.jsonl", 12))
    root, options = tmp_path / "store", {"max_length": 64, "random_weights": True, "seeds": (1,)}
    attnstore.ingest(root, f"{tiny_bert}=tiny", texts, **options)
    before = contents(root, "attention.zarr")
    (block,) = (root / "fragments" / "blocks").rglob("*.parquet")
    block.unlink()
    (summary,) = attnstore.ingest(root, f"{tiny_bert}=tiny", texts, **options)
    assert summary.stored == 12
    assert contents(root, "attention.zarr") == before
    (summary,) = attnstore.ingest(root, f"{tiny_bert}=tiny", texts, **options)
    assert summary.stored == 0


def test_a_worker_makes_the_twin_anew(tiny_bert: Path, tmp_path: Path) -> None:
    """What a worker gets is the checkpoint: it draws the weights itself, and stores the same bytes."""
    texts = str(write_texts(tmp_path / "texts.jsonl", 6))
    checkpoint = checkpoints.twin(checkpoints.resolve(f"{tiny_bert}=tiny"), 1)
    roots = (tmp_path / "here", tmp_path / "there")
    for root in roots:
        backend = location.create(root)
        with ingestion.planned(
            backend, checkpoint, corpora.load(texts), Settings(max_length=64)
        ) as job:
            store = job.store if root.name == "here" else job.share().store
            for unit in job.missing():
                store(unit)
    assert contents(roots[0], "attention.zarr") == contents(roots[1], "attention.zarr")


def test_weights_that_are_not_those_of_the_plan_are_refused(tiny_bert: Path) -> None:
    """As where another processor or version of torch draws other numbers."""
    twin = checkpoints.resolve(f"random:1:{tiny_bert}")
    with pytest.raises(ModelError, match="other weights than when it was planned"):
        load_model(replace(twin, fingerprint="0" * 64))


def test_what_has_no_twin_is_refused_in_a_sentence(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A twin of a twin, a task's score, seeds without random weights, an architecture that fails."""
    twin = checkpoints.resolve(f"random:1:{tiny_bert}")
    with pytest.raises(UsageError, match="random weights itself"):
        checkpoints.resolve(f"random:2:random:1:{tiny_bert}")
    with pytest.raises(ModelError, match="no trained head"):
        load_classifier(twin)
    with pytest.raises(UsageError, match="give random_weights too"):
        attnstore.ingest(tmp_path / "s", str(tiny_bert), "sample", seeds=(1, 2))
    result = CliRunner().invoke(
        main, ["ingest", "--model", str(tiny_bert), "--dataset", "sample", "--seed", "1,2"]
    )
    assert result.exit_code
    assert "seed of the sample" in result.output

    def fail(*_: object, **__: object) -> None:
        raise NotImplementedError("no initialization")

    monkeypatch.setattr(random_weights, "draw", fail)
    with pytest.raises(ModelError, match=r"cannot be initialized .*no initialization"):
        checkpoints.resolve(f"random:1:{tiny_bert}")


def test_a_declaration_has_twins_of_a_model(tiny_bert: Path, tmp_path: Path) -> None:
    """`random_weights = [0, 1]` of an entry of [[models]] declares the model and its twins."""
    (tmp_path / "attnstore.toml").write_text(
        f'store = "s"\nsettle = 0\n[[models]]\nname = "tiny"\nfolder = "{tiny_bert}"\n'
        'random_weights = [0, 1]\n[[datasets]]\nname = "sample"\nsource = "sample"\n'
    )
    found = candidates(config.read(tmp_path / "attnstore.toml"))
    assert [c.name for c in found] == ["tiny", "tiny-random-0", "tiny-random-1"]
    seeds = [c.checkpoint.random_seed for c in found if c.checkpoint is not None]
    assert seeds == [None, 0, 1]
