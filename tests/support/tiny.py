"""Tiny random checkpoints of each architecture, with a real fast tokenizer, made without network.

    folder = tiny.make(tmp_path / "bert", "bert", seed=1, num_hidden_layers=3)

The weights are spread widely (`initializer_range` 0.2), so that attention is far from uniform.
"""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import Any

import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)

CORPUS = [
    "The quick brown fox jumps over the lazy dog.",
    "She said that he was not at home, but nobody believed her.",
    "Attention heads look at the previous token, the next token, or the separator.",
    "A small model can still learn patterns: diagonal, vertical, block and heterogeneous!",
    "Did the company report its earnings on Tuesday? Yes, it did; shares rose by 3.5 percent.",
]

_CLS = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
_BERT = {"pad_token": "[PAD]", "unk_token": "[UNK]", **_CLS}
_ROBERTA = {"bos_token": "<s>", "cls_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>"}
_ROBERTA |= {"sep_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
_SPECIAL: dict[str, dict[str, str]] = {
    "bert": _BERT,
    "distilbert": _BERT,
    "electra": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "albert": {"pad_token": "<pad>", "unk_token": "<unk>", **_CLS},
    "modernbert": _BERT,
    "gpt2": dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>"),
}
"""Special tokens of each architecture; a token's id is its place."""

ARCHITECTURES = tuple(_SPECIAL)

_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
_OWN_SIZES: dict[str, dict[str, Any]] = {
    "distilbert": {"hidden_dim": 64},
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16},
    "roberta": {"max_position_embeddings": 66},
    "xlm-roberta": {"max_position_embeddings": 66},
    "modernbert": {  # layers: global, sliding, global
        "num_hidden_layers": 3,
        "global_attn_every_n_layers": 2,
        "local_attention": 8,
    },
}
_SEGMENTED = ("bert", "electra", "albert")
"""Architectures whose tokenizer returns token_type_ids."""


def make_classifier(
    folder: Path, architecture: str, n_labels: int = 2, seed: int = 0, **config: Any
) -> Path:
    """The same as `make`, with a random head of so many outputs."""
    sizes = {"num_hidden_layers": 3, "num_labels": n_labels}
    return make(folder, architecture, seed, AutoModelForSequenceClassification, **sizes | config)


def make(
    folder: Path, architecture: str, seed: int = 0, kind: Any = AutoModel, **config: Any
) -> Path:
    """Write a checkpoint (config.json, model.safetensors, tokenizer) into `folder` and return it.

    `config` overrides any key of the architecture's config, in BERT's spelling or its own.
    """
    tokenizer = make_tokenizer(architecture)
    roles = ("pad", "bos", "eos", "cls", "sep")
    ids = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in roles}
    sizes = _SIZES | _OWN_SIZES.get(architecture, {}) | {"vocab_size": len(tokenizer)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind.from_config(AutoConfig.for_model(architecture, **sizes | ids | config))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tokenizer(architecture: str) -> PreTrainedTokenizerFast:
    """A fast tokenizer of the architecture's kind on `CORPUS`, the same in every process."""
    special = _SPECIAL[architecture]
    tokenizer = _pipeline(architecture, list(dict.fromkeys(special.values())))
    tokenizer.post_processor = _post_processor(architecture, tokenizer)
    segments = ["token_type_ids"] if architecture in _SEGMENTED else []
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=64,
        model_input_names=["input_ids", *segments, "attention_mask"],
        **special,
    )


def _pipeline(architecture: str, special: list[str]) -> Tokenizer:
    """Normaliser, pre-tokenizer and model: WordPiece, Unigram, or byte-level BPE."""
    if architecture in ("bert", "distilbert", "electra"):
        pieces = [*special, *_pieces("", "##", lower=True)]
        vocabulary = {piece: place for place, piece in enumerate(pieces)}
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
    elif architecture in ("albert", "xlm-roberta"):
        lower = architecture == "albert"
        pieces = [*special, "\u2581", *_pieces("\u2581", "", lower=lower)]
        scores = [(piece, -10.0 if len(piece) < 2 else -5.0) for piece in pieces]
        tokenizer = Tokenizer(models.Unigram(scores, unk_id=special.index("<unk>")))
        steps = [normalizers.NFKC(), *([normalizers.Lowercase()] if lower else [])]
        tokenizer.normalizer = normalizers.Sequence(steps)
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def _pieces(start: str, inside: str, lower: bool) -> list[str]:
    """Each character, each word; words over five letters in two pieces, so that words get split.

    Not the libraries' trainers: for these two models their result differs from run to run.
    """
    words = re.findall(r"\w+|[^\w\s]", " ".join(CORPUS).lower() if lower else " ".join(CORPUS))
    characters = sorted(set("".join(words)) | set(string.ascii_lowercase))
    whole = [start + (word if len(word) < 6 else word[:4]) for word in words]
    rest = [inside + word[4:] for word in words if len(word) >= 6]
    inner = [inside + character for character in characters]
    return list(dict.fromkeys([*characters, *inner, *whole, *rest]))


def _post_processor(architecture: str, tokenizer: Tokenizer) -> Any:
    """What puts the special tokens around a text and between the two of a pair."""
    if architecture == "gpt2":
        return processors.ByteLevel(trim_offsets=False)
    vocabulary, special = tokenizer.get_vocab(), _SPECIAL[architecture]
    cls, sep = ((t, vocabulary[t]) for t in (special["cls_token"], special["sep_token"]))
    if architecture == "roberta":
        return processors.RobertaProcessing(sep, cls, trim_offsets=True, add_prefix_space=False)
    single, pair = f"{cls[0]} $A {sep[0]}", f"$B:1 {sep[0]}:1"
    if architecture == "xlm-roberta":
        pair = f"{sep[0]} $B {sep[0]}"
    return processors.TemplateProcessing(
        single=single, pair=f"{single} {pair}", special_tokens=[cls, sep]
    )
