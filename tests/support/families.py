"""Tokenizers and checkpoints of further kinds than `tiny`'s, made by hand and without network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from attnstore.datasets.tokenize import tokenize

LISTS = ("tokens", "texts", "token_ids", "words", "segments", "starts", "ends", "kinds")


def sentencepiece_bpe(*words: str) -> PreTrainedTokenizerFast:
    """A tokenizer as Llama 2's: spaces become ▁ before all else, bytes for what it does not know.

    It has the letters of `words`, and each word as one piece with its ▁.
    """
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    merges: list[tuple[str, str]] = []
    for word in words:
        whole = "▁"
        for letter in word:
            pieces.append(letter)
            merges.append((whole, letter))
            whole += letter
            pieces.append(whole)
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    model = models.BPE(
        vocabulary,
        list(dict.fromkeys(merges)),
        unk_token="<unk>",
        byte_fallback=True,
        fuse_unk=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def save(model: Any, tokenizer: Any, folder: Path) -> Path:
    """Write a checkpoint with weights spread widely, so that attention is far from uniform."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def frame(*texts: str | tuple[str, str | None]) -> pl.DataFrame:
    """Texts and pairs as a dataset's rows."""
    both = [(t, None) if isinstance(t, str) else t for t in texts]
    columns = {"text": [a for a, _ in both], "text_pair": [b for _, b in both]}
    types = {"example": pl.Int64, "text": pl.String, "text_pair": pl.String}
    return pl.DataFrame({"example": range(len(both)), **columns}, schema=types)


def tokens(
    tokenizer: Any, *texts: str, most: int = 128, pad_to: int | None = None
) -> list[dict[str, Any]]:
    """One input as one row per token."""
    given = texts if len(texts) > 1 else texts[0]
    row = tokenize(frame(given), tokenizer, most, pad_to).row(0, named=True)  # type: ignore[arg-type]
    return [
        dict(zip(LISTS, values, strict=True))
        for values in zip(*(row[name] for name in LISTS), strict=True)
    ]
