"""Rules about how a model is examined before its run is registered, and how its inputs share passes."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tiny
import torch
from helpers import contents, write_rows
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    BigBirdConfig,
    BigBirdModel,
    LlamaConfig,
    LlamaModel,
    MobileBertConfig,
    MobileBertModel,
    NystromformerConfig,
    NystromformerModel,
    Phi3Config,
    Phi3Model,
    ReformerConfig,
    ReformerModel,
    TapasConfig,
    TapasModel,
    XmodConfig,
    XmodModel,
)
from transformers.models.bert import modeling_bert

import attnstore
from attnstore.errors import (
    AttnstoreError,
    CaptureError,
    MemoryShortError,
    ModelError,
    UsageError,
)
from attnstore.models import architectures, probe
from attnstore.models.sample_inputs import Item
from attnstore.naming import EAGER, EQUAL, INTERFACE, MIXED, SINGLE
from attnstore.storage import fragments, location
from attnstore.storage.precision import PRECISIONS

SIZES = {
    "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 130, "pad_token_id": 0,
}  # fmt: skip
LENGTHS = (3, 20, 41, 64)


def spread(model: Any) -> Any:
    """Draw every matrix widely, so that attention is far from uniform."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.25)
    return model.eval()


def mobilebert() -> Any:
    return MobileBertModel(MobileBertConfig(
        **SIZES, embedding_size=32, true_hidden_size=32, intra_bottleneck_size=32,
        num_feedforward_networks=1,
    ))  # fmt: skip


def nystromformer() -> Any:
    return NystromformerModel(NystromformerConfig(**SIZES))


def phi3() -> Any:
    rope = {
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0, 1.1, 1.2, 1.3],
        "long_factor": [1.5, 3.0, 5.0, 8.0],
    }  # fmt: skip
    return Phi3Model(Phi3Config(**SIZES, original_max_position_embeddings=20, rope_parameters=rope))


def dynamic_rope() -> Any:
    """Its frequencies grow with the longest input seen, and stay."""
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
    return LlamaModel(LlamaConfig(**SIZES | {"max_position_embeddings": 16}, rope_parameters=rope))


def bert() -> Any:
    return BertModel(BertConfig(**SIZES))


def items(*lengths: int) -> list[Item]:
    draw = np.random.default_rng(7)
    return [Item(tuple(draw.integers(1, 60, n).tolist()), None, n) for n in lengths]


def maps_alone(model: Any, ids: tuple[int, ...]) -> torch.Tensor:
    """(layers, heads, L, L) that a copy of the model returns with eager attention, run for the first time."""
    fresh = architectures.twin(model)
    fresh.set_attn_implementation("eager")
    tokens = torch.tensor([ids])
    with torch.no_grad():
        found = fresh(
            input_ids=tokens, attention_mask=torch.ones_like(tokens), output_attentions=True
        )
    return torch.cat(found.attentions)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (bert, MIXED),
        (mobilebert, EQUAL),
        (nystromformer, EQUAL),
        (phi3, EQUAL),
        (dynamic_rope, SINGLE),
    ],
)
def test_inputs_share_a_pass_only_where_each_map_stays_that_of_the_model_alone(
    make: Any, rule: str
) -> None:
    """Padding that leaks, a batch's longest input that decides, what a model keeps of earlier inputs."""
    model = spread(make())
    found = probe.examine(model, items(*LENGTHS), 2)
    assert found.way.batching == rule
    asked = items(5, 5, 19, 19, 25, 25, 40, 64, 30)
    step = 3 if rule == MIXED else 1
    for at in range(0, len(asked), step):
        batch, maps = asked[at : at + step], []
        found.forward(
            [item.ids for item in batch], None, lambda _, w, to=maps: to.append(w.clone())
        )
        for i, item in enumerate(batch):
            own = torch.stack([layer[i, :, : len(item), : len(item)] for layer in maps])
            assert (own - maps_alone(model, item.ids)).abs().max() < 1e-5


def test_a_copy_of_the_model_leaves_the_model_as_it_was_loaded() -> None:
    """What a pass changes stays in the copy; the weights are shared, not copied."""
    model = BigBirdModel(BigBirdConfig(**SIZES, block_size=4, num_random_blocks=1)).eval()
    copy = architectures.twin(model)
    copy(input_ids=torch.tensor([[5, 6, 7]]))
    assert (copy.attention_type, model.attention_type) == ("original_full", "block_sparse")
    pairs = zip(copy.parameters(), model.parameters(), strict=True)
    assert all(a.data_ptr() == b.data_ptr() for a, b in pairs)


def test_bigbird_is_captured_where_it_attends_to_all_and_refused_where_its_maps_lack_weights() -> (
    None
):
    """Short inputs switch it to full attention; the maps of its blocks leave some weights out."""
    model = spread(BigBirdModel(BigBirdConfig(**SIZES, block_size=4, num_random_blocks=1)))
    found, maps = probe.examine(model, items(3, 20, 27), 2), []
    assert (found.way.captured, found.way.batching) == (EAGER, MIXED)
    found.forward([items(20)[0].ids], None, lambda _, w: maps.append(w))
    assert all(torch.allclose(m.sum(-1), torch.ones(()), atol=1e-5) for m in maps)
    with pytest.raises(ModelError, match=r"for 64 tokens has rows that sum to .* not to 1"):
        probe.examine(model, items(3, 64), 2)


def test_a_model_that_draws_at_random_is_refused() -> None:
    """Dropout that stays on: no map is the model's."""
    model = spread(bert())
    own = modeling_bert.eager_attention_forward

    def noisy(module: Any, *args: Any, **kwargs: Any) -> Any:
        output, weights = own(module, *args, **kwargs)
        noise = torch.rand_like(weights)
        return output, weights * noise / (weights * noise).sum(-1, keepdim=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modeling_bert, "eager_attention_forward", noisy)
        with pytest.raises(ModelError, match="different attention maps each time"):
            probe.examine(model, items(*LENGTHS), 2)


@pytest.mark.parametrize(
    "model",
    [
        TapasModel(TapasConfig(**SIZES)),
        ReformerModel(ReformerConfig(
            vocab_size=60, hidden_size=32, num_attention_heads=2, attention_head_size=16,
            attn_layers=["local", "lsh"], axial_pos_embds=False, max_position_embeddings=130,
        )),
    ],
    ids=lambda model: type(model).__name__,
)  # fmt: skip
def test_any_error_of_a_forward_pass_is_one_sentence(model: Any) -> None:
    """A model is captured, or refused with its name; never a traceback."""
    try:
        said = probe.examine(spread(model), items(5, 40, 90), 2).way.captured
    except ModelError as error:
        said = str(error)
    assert said in (INTERFACE, EAGER) or re.fullmatch(rf".*{type(model).__name__}.*", said)


def test_an_input_beyond_the_table_of_positions_is_one_sentence() -> None:
    """The sentence says how many tokens the table serves: those before the first token are not counted."""
    model = XmodModel(XmodConfig(
        **SIZES | {"max_position_embeddings": 34, "pad_token_id": 1}, default_language="en_XX",
        languages=["en_XX"],
    )).eval()  # fmt: skip
    with pytest.raises(ModelError, match=r"over 36 tokens: .* serves 32 tokens.* --max-length"):
        probe.examine(model, [*items(3), Item(tuple(range(2, 38)), None, 36)], 2)


def test_too_little_memory_is_no_reason_for_another_way(caplog: pytest.LogCaptureFixture) -> None:
    """It ends in a sentence of its own; eager attention would need more still."""

    def short(*_: Any, **__: Any) -> Any:
        raise RuntimeError(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modeling_bert, "eager_attention_forward", short)
        with pytest.raises(
            MemoryShortError, match="too little memory to run BertModel over 1 inputs"
        ):
            probe.examine(bert(), items(3), 2)
    assert not caplog.records


def test_the_way_of_capture_is_logged_where_it_is_not_the_interface(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By the library's logger, with the reason."""
    from transformers import MPNetConfig, MPNetModel

    with caplog.at_level(logging.INFO, "attnstore"):
        found = probe.examine(spread(MPNetModel(MPNetConfig(**SIZES))), items(*LENGTHS), 2)
    assert found.way.captured == EAGER
    (record,) = caplog.records
    assert record.name == "attnstore.models.probe"
    assert (
        "MPNetModel is captured by eager attention: MPNetModel gives 0 attention maps"
        in record.message
    )


# In a run


def texts(path: Path, n: int = 9) -> str:
    return str(
        write_rows(
            path,
            [{"text": " ".join(["fox", "dog", "quick"][: 1 + i % 3] * (1 + i))} for i in range(n)],
        )
    )


def test_a_run_says_how_its_maps_were_had(tmp_path: Path) -> None:
    """Way of capture, rule of batches, and the versions of what computed the maps."""
    attnstore.ingest(
        tmp_path / "s",
        str(tiny.make(tmp_path / "m", "bert")),
        texts(tmp_path / "t.jsonl"),
        max_length=64,
    )
    with attnstore.open(tmp_path / "s") as store:
        row = store.sql("FROM runs").row(0, named=True)
    assert (row["captured"], row["batching"], row["sinks"]) == (INTERFACE, MIXED, False)
    assert row["torch_version"] == torch.__version__
    assert all(row[f"{package}_version"] for package in ("transformers", "tokenizers", "attnstore"))


def test_a_run_of_an_earlier_version_has_no_such_columns(tmp_path: Path) -> None:
    """They are NULL then, and the index takes its fragments all the same."""
    attnstore.ingest(
        tmp_path / "s",
        str(tiny.make(tmp_path / "m", "bert")),
        texts(tmp_path / "t.jsonl"),
        max_length=64,
    )
    for table, columns in (
        ("runs", ["captured", "batching", "sinks", "torch_version"]),
        ("map_stats", ["sink"]),
    ):
        for path in (tmp_path / "s" / "fragments" / table).rglob("*.parquet"):
            old = pl.read_parquet(path).drop(columns)
            path.unlink()
            fragments.write(
                location.locate(tmp_path / "s"), table, "m/t", path.name.partition(".")[0], old
            )
    with attnstore.open(tmp_path / "s") as store:
        assert store.sql("SELECT captured, batching, torch_version FROM runs").row(0) == (None,) * 3
        assert store.sql("SELECT count(*), count(sink), count(max) FROM map_stats").row(0) == (
            72,
            0,
            72,
        )


@pytest.mark.parametrize("shared", [False, True])
def test_every_worker_follows_the_rule_of_the_run(tmp_path: Path, shared: bool) -> None:
    """In the process that planned it, and in another that has only the run's record."""
    from attnstore.capture.ingestion import planned
    from attnstore.capture.runs import Settings
    from attnstore.datasets import corpora
    from attnstore.models import checkpoints

    tokenizer = tiny.make_tokenizer("bert")
    model = MobileBertModel(MobileBertConfig(
        **SIZES | {"vocab_size": len(tokenizer)}, embedding_size=32, true_hidden_size=32,
        intra_bottleneck_size=32, num_feedforward_networks=1,
    ))  # fmt: skip
    spread(model).save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    data = corpora.load(texts(tmp_path / "t.jsonl"))
    root = attnstore.storage.location.create(tmp_path / "s")
    settings = Settings(max_length=64, precision="float32")
    with planned(root, checkpoints.resolve(str(tmp_path / "m")), data, settings) as ingestion:
        storing = ingestion.share() if shared else ingestion
        for unit in ingestion.missing():
            ingestion.take(storing.store(unit))
        ingestion.finish()
    fresh = AutoModel.from_pretrained(tmp_path / "m", attn_implementation="eager").eval()
    with attnstore.open(root) as store:
        assert store.sql("SELECT batching FROM runs").item() == EQUAL
        for example, ids in store.sql("SELECT example, token_ids FROM inputs").iter_rows():
            theirs = maps_alone(fresh, tuple(ids)).numpy()
            assert np.abs(store.maps("m/t", example) - theirs).max() < 1e-5


def test_a_refused_model_leaves_no_run_and_the_others_are_run(tmp_path: Path) -> None:
    """All refusals are listed at the end, each with its run."""
    from safetensors.torch import load_file, save_file

    good, other = (
        tiny.make(tmp_path / "good", "bert"),
        tiny.make(tmp_path / "other", "bert", seed=1),
    )
    for name in ("bad", "worse"):
        bad = tiny.make(tmp_path / name, "bert", seed=len(name))
        tensors = load_file(bad / "model.safetensors")
        tensors["encoder.layer.1.attention.self.query.weight"] *= 1e30
        tensors["encoder.layer.1.attention.self.key.weight"] *= 1e30
        save_file(tensors, bad / "model.safetensors", {"format": "pt"})
    folders = [str(tmp_path / "bad"), str(good), str(tmp_path / "worse"), str(other)]
    with pytest.raises(ModelError) as caught:
        attnstore.ingest(tmp_path / "s", folders, texts(tmp_path / "t.jsonl"), max_length=64)
    assert str(caught.value).startswith("2 of 4 runs were refused, the others are stored:")
    assert "  bad/t: The attention map that BertModel gives" in str(caught.value)
    assert "  worse/t: The attention map" in str(caught.value)
    with attnstore.open(tmp_path / "s") as store:
        assert store.sql("SELECT run, state FROM runs ORDER BY run").rows() == [
            ("good/t", "complete"), ("other/t", "complete"),
        ]  # fmt: skip
        assert store.sql("SELECT model FROM models ORDER BY model")["model"].to_list() == [
            "good",
            "other",
        ]


def test_layers_without_maps_cannot_be_asked_for(tmp_path: Path) -> None:
    """The sentence names those that have maps, and nothing is registered."""
    import test_families

    folder = test_families.make(tmp_path / "m", "lfm2")
    with pytest.raises(
        UsageError, match=r"no attention map of layer 0 in m: its layers with maps are 1"
    ):
        attnstore.ingest(
            tmp_path / "s", str(folder), texts(tmp_path / "t.jsonl"), max_length=64, layers=(0,)
        )
    assert contents(tmp_path / "s") == {}


def test_the_smallest_runs_can_be_examined(tmp_path: Path) -> None:
    """One input, and inputs of one length only."""
    folder = str(tiny.make(tmp_path / "m", "bert"))
    for n, rows in enumerate((["fox"], ["fox", "dog"], ["fox"] * 3)):
        data = write_rows(tmp_path / f"{n}.jsonl", [{"text": text} for text in rows])
        (summary,) = attnstore.ingest(tmp_path / "s", folder, str(data), max_length=64)
        assert summary.stored == len(rows)


def test_errors_are_of_the_library() -> None:
    """A shortage of memory is caught with every other error of a model."""
    assert issubclass(MemoryShortError, ModelError)
    assert issubclass(ModelError, AttnstoreError)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_only_a_full_batch_changes_is_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """A model examined with few inputs that gives other maps to many, as experts with a limit would."""
    model = tiny.make(tmp_path / "m", "bert")
    rows = [{"text": f"the lazy dog jumps over fox {'and ' * (i % 5)}home"} for i in range(20)]
    asked = str(model), str(write_rows(tmp_path / "t.jsonl", rows))
    settings = {"max_length": 64, "precision": precision}
    attnstore.ingest(tmp_path / "sound", *asked, **settings)
    eager = modeling_bert.eager_attention_forward

    def crowded(module: Any, query: torch.Tensor, *rest: Any, **named: Any) -> Any:
        output, weights = eager(module, query, *rest, **named)
        return output, (weights.roll(1, 1) if len(query) > 8 else weights)

    monkeypatch.setattr(modeling_bert, "eager_attention_forward", crowded)
    with pytest.raises(CaptureError, match="in a batch of 20 inputs differ"):
        attnstore.ingest(tmp_path / "store", *asked, **settings)
    assert not fragments.listing(location.locate(tmp_path / "store"), "blocks")
