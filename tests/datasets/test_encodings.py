"""What a tokenizer gives, fast or slow; texts without tokens; and tokenizers that fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from families import frame, save, sentencepiece_bpe, tokens
from helpers import write_rows
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers import models as kinds
from transformers import (
    BertConfig,
    BertJapaneseTokenizer,
    BertModel,
    BertweetTokenizer,
    EsmConfig,
    EsmModel,
    EsmTokenizer,
    GPT2Config,
    GPT2Model,
    PreTrainedTokenizerFast,
)

import attnstore
from attnstore.datasets import encodings, subwords
from attnstore.datasets.tokenize import refuse_tokenless, tokenize
from attnstore.errors import AttnstoreError, DatasetError, ModelError, UsageError
from attnstore.maintenance.verify import verify
from attnstore.models import checkpoints, loading

ESM = (
    "<cls> <pad> <eos> <unk> L A G V S E R T I D P K Q N F Y M H W C X B U Z O . - <null_1> <mask>"
)
SIZES: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37,
    "max_position_embeddings": 64,
}  # fmt: skip


def esm(folder: Path) -> EsmTokenizer:
    (folder / "esm.txt").write_text("\n".join(ESM.split()) + "\n")
    return EsmTokenizer(str(folder / "esm.txt"))


def bertweet(folder: Path, **options: Any) -> BertweetTokenizer:
    entries = ("d@@", "o@@", "g", "do@@", "dog", "cat", "the", ",", "c@@", "a@@", "t")
    (folder / "bertweet.txt").write_text("".join(f"{entry} 1\n" for entry in entries))
    (folder / "bpe.codes").write_text("d o 9\ndo g</w> 8\nt h 7\nth e</w> 6\n")
    return BertweetTokenizer(str(folder / "bertweet.txt"), str(folder / "bpe.codes"), **options)


def japanese(folder: Path) -> BertJapaneseTokenizer:
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "猫", "が", "好", "##き", "です", "。"]
    (folder / "japanese.txt").write_text("\n".join(entries) + "\n")
    return BertJapaneseTokenizer(str(folder / "japanese.txt"), word_tokenizer_type="basic")


def unigram(text: str) -> PreTrainedTokenizerFast:
    """A tokenizer without special tokens that drops control characters: some texts give nothing."""
    letters = sorted(set(text) - {" "})
    model = kinds.Unigram([("<unk>", 0.0), ("▁", -2.0), *((x, -3.0) for x in letters)], unk_id=0)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Nmt()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


# Texts without tokens ----------------------------------------------------------------------------


def gpt2(folder: Path, tokenizer: Any) -> Path:
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=64)
    return save(GPT2Model(config), tokenizer, folder)


def test_a_text_without_tokens_is_left_out_and_counted(tmp_path: Path) -> None:
    """Like an empty text, whether the model adds special tokens or not."""
    rows = write_rows(
        tmp_path / "t.jsonl", [{"text": t} for t in ("\x01\x02", "the dog", "", "dog")]
    )
    for folder in (
        gpt2(tmp_path / "gpt2", unigram("the dog")),
        tiny.make(tmp_path / "bert", "bert"),
    ):
        root = tmp_path / f"s-{folder.name}"
        attnstore.ingest(root, str(folder), str(rows), max_length=16)
        with attnstore.open(root) as store:
            run = store.runs().row(0, named=True)
            assert (run["planned"], run["stored"], run["n_empty"]) == (2, 2, 2)
            assert store.sql("SELECT example FROM inputs ORDER BY 1")["example"].to_list() == [1, 3]
        assert not verify(root).findings


def test_a_sample_with_a_text_without_tokens_counts_it(tmp_path: Path) -> None:
    """The run holds fewer than the limit, and says how many were left out."""
    rows = write_rows(tmp_path / "t.jsonl", [{"text": t} for t in ("\x01", "\x02", "\x03", "dog")])
    folder = tiny.make(tmp_path / "bert", "bert")
    attnstore.ingest(tmp_path / "s", str(folder), str(rows), max_length=16, limit=3, seed=0)
    with attnstore.open(tmp_path / "s") as store:
        run = store.runs().row(0, named=True)
    assert run["sample"] == 3
    assert run["planned"] + run["n_empty"] == 3
    assert run["planned"] == 1


def test_of_a_pair_both_texts_need_tokens() -> None:
    """But a text whose tokens are all cut has some."""
    tokenizer = tiny.make_tokenizer("bert")
    long = "the dog " * 20
    texts = frame(("dog", "\x01"), ("\x01", "dog"), ("dog", "dog"), "\x01", "dog", (long, "\x01"), (long, "dog"))  # fmt: skip
    found = tokenize(texts, tokenizer, 16)
    assert found["empty"].to_list() == [True, True, False, True, False, True, False]
    cut = tokenize(frame(("dog", "fox")), tokenizer, 3)
    assert cut.select("empty", "truncated", "length").row(0) == (False, True, 3)


def test_texts_of_no_token_at_all_are_one_sentence(tmp_path: Path) -> None:
    """And nothing is registered."""
    rows = write_rows(tmp_path / "t.jsonl", [{"text": "\x01"}, {"text": "\x02"}])
    folder = tiny.make(tmp_path / "bert", "bert")
    with pytest.raises(UsageError, match=r"No text of .* gives a token"):
        attnstore.ingest(tmp_path / "s", str(folder), str(rows), max_length=16)
    with attnstore.open(tmp_path / "s") as store:
        assert store.runs().is_empty()


def test_a_text_to_train_on_needs_a_token() -> None:
    """A model without special tokens cannot run on nothing: the row is named."""
    inputs = tokenize(frame("dog", "\x01"), unigram("dog"), 16)
    with pytest.raises(DatasetError, match="text of example 1 gives no token"):
        refuse_tokenless(inputs)
    assert refuse_tokenless(inputs[:1]).equals(inputs[:1])


# Tokenizers that fail ----------------------------------------------------------------------------


def test_a_max_length_below_the_special_tokens_is_refused() -> None:
    """Tokenizers cut nothing then, and the input would be longer than asked for."""
    for tokenizer in (tiny.make_tokenizer("bert"), sentencepiece_bpe("dog")):
        with pytest.raises(UsageError, match="max-length is 1 and leaves no room"):
            tokenize(frame(("dog", "dog")), tokenizer, 1)


def test_a_regex_that_gives_up_is_a_sentence_with_the_row() -> None:
    """It panics in Rust, which is no Exception to Python."""
    tokenizer = Tokenizer(kinds.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"(a+)+$"), "isolated")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")
    with pytest.raises(ModelError, match=r"fails on the text of example 1 .*retry-limit"):
        tokenize(frame("a", "a" * 40 + "b", "a"), fast, 16)


@pytest.mark.parametrize("where", ["model", "added_tokens", "tokenizer_config.json"])
def test_a_token_number_that_no_vocabulary_has_is_a_sentence(tmp_path: Path, where: str) -> None:
    """Before transformers makes a table of that length, which takes gigabytes."""
    folder, number = tiny.make(tmp_path / "m", "bert"), 3_000_000_000
    file = folder / ("tokenizer.json" if where != "tokenizer_config.json" else where)
    content = json.loads(file.read_text("utf-8"))
    if where == "model":
        content["model"]["vocab"]["the"] = number
    elif where == "added_tokens":
        content["added_tokens"].append(
            {**content["added_tokens"][0], "content": "[E1]", "id": number}
        )
    else:
        content["added_tokens_decoder"] = {str(number): {"content": "[E1]", "special": True}}
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ModelError, match=f"gives token {number}, a number that no vocabulary has"):
        loading.load_tokenizer(checkpoints.resolve(str(folder)))


def test_a_token_number_beyond_32_bits_is_not_stored() -> None:
    """Whatever a tokenizer without such files gives."""
    with pytest.raises(ModelError, match="token 3000000000, a number that no vocabulary has"):
        encodings._checked(np.array([5, 3_000_000_000]))


# Tokenizers without offsets ----------------------------------------------------------------------


def test_a_protein_is_stored_with_its_places(tmp_path: Path) -> None:
    """ESM-2: each residue a word at its place; the maps are the model's own."""
    tokenizer = esm(tmp_path)
    config = EsmConfig(
        vocab_size=33, pad_token_id=1, mask_token_id=32, position_embedding_type="rotary",
        token_dropout=True, **SIZES,
    )  # fmt: skip
    folder = save(EsmModel(config), tokenizer, tmp_path / "esm")
    protein = "MKTVRQERLKSIVRIL"
    rows = write_rows(tmp_path / "t.jsonl", [{"text": protein}])
    attnstore.ingest(tmp_path / "s", str(folder), str(rows), max_length=40, precision="float32")
    model = EsmModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        output = model(**tokenizer(protein, return_tensors="pt"), output_attentions=True)
    with attnstore.open(tmp_path / "s") as store:
        assert store.maps("esm/t", 0) == pytest.approx(
            torch.cat(output.attentions).numpy(), abs=1e-6
        )
        found = store.sql("FROM tokens ORDER BY position")
    assert found["kind"].to_list() == ["cls", *["word"] * 16, "special"]
    assert found["text"].to_list()[1:-1] == list(protein)
    assert found["start"].to_list() == [None, *range(16), None]
    assert found["word"].to_list() == [None, *range(16), None]


def test_japanese_bert_has_segments_words_and_places(tmp_path: Path) -> None:
    """A pair of texts through a Python tokenizer, with an unknown word between known ones."""
    tokenizer = japanese(tmp_path)
    config = BertConfig(vocab_size=len(tokenizer), **SIZES)
    folder = save(BertModel(config), tokenizer, tmp_path / "ja")
    rows = write_rows(tmp_path / "t.jsonl", [{"text": "猫 が 好き 犬 です 。", "text_pair": "猫"}])
    attnstore.ingest(tmp_path / "s", str(folder), str(rows), max_length=40, precision="float32")
    with attnstore.open(tmp_path / "s") as store:
        found = store.sql("FROM tokens ORDER BY position")
        types = store.sql("SELECT type_ids FROM idx.core.inputs").item().to_list()
    assert found["token"].to_list() == [
        "[CLS]", "猫", "が", "好", "##き", "[UNK]", "です", "。", "[SEP]", "猫", "[SEP]"
    ]  # fmt: skip
    assert found["text"].to_list()[4:6] == ["き", "[UNK]"]
    assert found["start"].to_list() == [None, 0, 2, 4, 5, 7, 9, 12, None, 0, None]
    assert found["word"].to_list() == [None, 0, 1, 2, 2, 3, 4, 5, None, 6, None]
    assert types == found["segment"].to_list() == [0] * 9 + [1] * 2
    assert found["kind"][7] == "punctuation"


def test_bertweet_has_places_where_it_keeps_the_text(tmp_path: Path) -> None:
    """And none for words that it rewrites."""
    found = tokens(bertweet(tmp_path), "the  dog do ,", "dog")
    assert [(t["tokens"], t["words"], t["starts"], t["ends"]) for t in found if t["starts"] is not None] == [
        ("the", 0, 0, 3), ("dog", 1, 5, 8), ("d@@", 2, 9, 10), ("<unk>", 2, 10, 11), (",", 3, 12, 13),
        ("dog", 4, 0, 3),
    ]  # fmt: skip
    rewritten = [
        t
        for t in tokens(bertweet(tmp_path, normalization=True), "the @joe … dog")
        if t["kinds"] in ("word", "punctuation")
    ]
    placed = [(t["tokens"], t["starts"], t["ends"]) for t in rewritten if t["starts"] is not None]
    assert placed == [("the", 0, 3), ("dog", 11, 14)]
    assert len(rewritten) > 5


def test_a_slow_tokenizers_tokens_are_its_own(tmp_path: Path) -> None:
    """Numbers and order as it gives them itself, singles and pairs, whole, cut and padded."""
    for tokenizer in (esm(tmp_path), bertweet(tmp_path), japanese(tmp_path)):
        tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
        for texts in (("the dog cat",), ("the dog the dog", "cat"), ("猫 が", "好き 。 猫 が")):
            for most in (64, 8, 6):
                found = tokenize(frame(texts if len(texts) > 1 else texts[0]), tokenizer, most, 64)  # type: ignore[arg-type]
                row, expected = (
                    found.row(0, named=True),
                    tokenizer(*texts, truncation=True, max_length=most),
                )
                n = len(expected["input_ids"])
                assert row["token_ids"][:n] == expected["input_ids"]
                assert row["type_ids"][:n] == expected["token_type_ids"]
                assert row["kinds"].count("pad") == 64 - n
                assert row["truncated"] == (n < len(tokenizer(*texts)["input_ids"]))


@given(
    st.lists(st.sampled_from(("dog", "cat", "a", "é")), min_size=1, max_size=6),
    st.lists(st.sampled_from((" ", "  ", "\n")), min_size=6, max_size=6),
)
def test_places_follow_where_pieces_are_the_text(words: list[str], gaps: list[str]) -> None:
    """Each piece stands where it was cut out."""
    text = "".join(word + gap for word, gap in zip(words, gaps, strict=False))
    split = [
        part for word in words for part in (word[:2], *([f"##{word[2:]}"] if word[2:] else []))
    ]
    found = subwords.spans(text, split, "##", "[UNK]")
    assert [text[a:b] for a, b in found] == [part.removeprefix("##") for part in split]


@pytest.mark.parametrize(
    ("text", "split", "expected"),
    [
        ("a b c", ["a", "b"], [(0, 1), (2, 3)]),  # what comes after was dropped
        ("a x c", ["a", "y", "c"], [(0, 1), subwords.NOWHERE, (4, 5)]),
        ("a ?? c", ["a", "[UNK]", "c"], [(0, 1), (2, 4), (5, 6)]),
        ("a ? ? c", ["a", "[UNK]", "c"], [(0, 1), subwords.NOWHERE, (6, 7)]),
        (
            "a ?? c",
            ["a", "[UNK]", "[UNK]", "c"],
            [(0, 1), subwords.NOWHERE, subwords.NOWHERE, (5, 6)],
        ),
        ("A b", ["a", "b"], [(0, 1), (2, 3)]),
        ("", [], []),
    ],
)
def test_a_place_that_does_not_follow_is_none(
    text: str, split: list[str], expected: list[tuple[int, int]]
) -> None:
    """Rather nowhere than at a wrong place."""
    assert subwords.spans(text, split, "##", "[UNK]") == expected


def test_a_missing_package_of_a_tokenizer_is_a_sentence(tmp_path: Path) -> None:
    """It names what to install."""
    pytest.importorskip("transformers")
    try:
        import fugashi  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("fugashi is installed")
    tokenizer = japanese(tmp_path)
    folder = save(
        BertModel(BertConfig(vocab_size=len(tokenizer), **SIZES)), tokenizer, tmp_path / "m"
    )
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["word_tokenizer_type"] = "mecab"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    rows = write_rows(tmp_path / "t.jsonl", [{"text": "猫"}])
    with pytest.raises(
        AttnstoreError, match=r"needs a Python package that is not installed .*fugashi"
    ):
        attnstore.ingest(tmp_path / "s", str(folder), str(rows), max_length=16)
