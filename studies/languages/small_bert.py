"""A small multilingual BERT, trained by masked language modeling on the sentences of the treebanks.

Weights, order and masks follow from a seed. An interrupted training continues from its last checkpoint.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers.implementations import BertWordPieceTokenizer
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

LONGEST = 128
"""Tokens of the longest input."""
_BATCH = 16
_CHARACTERS = 4000
"""Characters that the vocabulary may hold: the default, 1000, leaves out many of Japanese."""


class _Trainer(Trainer):  # type: ignore[misc]
    """Trainer that computes logits of masked tokens alone, which are one in seven."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        labels = inputs["labels"]
        states = model.bert(inputs["input_ids"], inputs["attention_mask"]).last_hidden_state
        logits = model.cls(states[labels >= 0])
        loss = torch.nn.functional.cross_entropy(logits, labels[labels >= 0])
        return (loss, {"logits": logits}) if return_outputs else loss


@dataclass(frozen=True)
class Size:
    """What is trained, and how long. tokens: of all texts that pass through the model, special ones included."""

    layers: int = 4
    heads: int = 6
    width: int = 192
    vocabulary: int = 8000
    tokens: int = 8_000_000
    learning_rate: float = 1e-3


def train(
    texts: dict[str, dict[str, list[str]]], folder: Path, size: Size, seed: int = 0
) -> dict[str, Any]:
    """Train a tokenizer and a model, or return what an earlier call measured.

    Every language has an equal share of the training, whatever its texts: those of a small treebank come more often.

    Args:
        texts: Per language the sentences to train on (`trained`) and others (`held_out`).
        folder: Where `model` (the checkpoint), `training` (for resuming) and `training.json` are written.
        size: Sizes of the model and of the training.
        seed: Seed of weights, order and masks.

    Returns:
        Tokens, sentences, hours, and per language and part the loss (nats a masked token) and the accuracy of
        the masked tokens before and after, and the share of unknown tokens.
    """
    record = folder / "training.json"
    if record.exists():
        return dict(json.loads(record.read_text("utf-8")))
    tokenizer = _tokenizer(texts, folder / "model", size)
    set_seed(seed)
    model = _model(tokenizer, size)
    rows = {
        language: {part: _encode(tokenizer, lines) for part, lines in parts.items()}
        for language, parts in texts.items()
    }
    scores = {"before": _scores(model, tokenizer, rows)}
    started = time.time()
    balanced = _balanced({language: parts["trained"] for language, parts in rows.items()})
    total = sum(len(row["input_ids"]) for row in balanced)
    trainer = _Trainer(
        model=model, args=_arguments(folder / "training", size, seed, total, len(balanced)), train_dataset=balanced,
        data_collator=DataCollatorForLanguageModeling(tokenizer),
    )  # fmt: skip
    last = get_last_checkpoint(folder / "training") if (folder / "training").exists() else None
    trainer.train(resume_from_checkpoint=last)
    hours = (time.time() - started) / 3600
    scores["after"] = _scores(model, tokenizer, rows)
    model.save_pretrained(folder / "model")
    result = {
        "size": vars(size), "seed": seed, "parameters": model.num_parameters(), "resumed": last is not None, "hours": hours,
        "steps": trainer.state.global_step,
        "languages": {language: _counts(tokenizer, parts, scores, language) for language, parts in rows.items()},
    }  # fmt: skip
    record.write_text(json.dumps(result, indent=1), "utf-8")
    return result


def _tokenizer(texts: dict[str, dict[str, list[str]]], folder: Path, size: Size) -> Any:
    """Train WordPiece on the texts of the training, cased and with accents, as multilingual BERT has it."""
    if (folder / "tokenizer.json").exists():
        return BertTokenizer.from_pretrained(folder)
    pieces = BertWordPieceTokenizer(lowercase=False, strip_accents=False)
    lines = [line for parts in texts.values() for line in parts["trained"]]
    pieces.train_from_iterator(
        lines, size.vocabulary, min_frequency=2, limit_alphabet=_CHARACTERS, show_progress=False
    )
    tokenizer = BertTokenizer(
        vocab=pieces.get_vocab(), do_lower_case=False, strip_accents=False, model_max_length=LONGEST
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def _model(tokenizer: Any, size: Size) -> BertForMaskedLM:
    return BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokenizer), hidden_size=size.width, num_hidden_layers=size.layers,
            num_attention_heads=size.heads, intermediate_size=4 * size.width, max_position_embeddings=LONGEST,
            pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


def _encode(tokenizer: Any, lines: list[str]) -> list[dict[str, list[int]]]:
    if not lines:  # a small treebank has nothing held out
        return []
    return [{"input_ids": ids} for ids in tokenizer(lines, truncation=True)["input_ids"]]


def _balanced(rows: dict[str, list[dict[str, list[int]]]]) -> list[dict[str, list[int]]]:
    """Repeat the rows of each language until it has about as many tokens as the largest."""
    tokens = {name: sum(len(row["input_ids"]) for row in own) for name, own in rows.items()}
    most = max(tokens.values())
    return [row for name, own in rows.items() for row in own * round(most / tokens[name])]


def _arguments(folder: Path, size: Size, seed: int, tokens: int, rows: int) -> TrainingArguments:
    steps = max(1, round(size.tokens / tokens * rows / _BATCH))
    return TrainingArguments(
        output_dir=str(folder), seed=seed, max_steps=steps, learning_rate=size.learning_rate, weight_decay=0.01,
        warmup_steps=steps // 20, lr_scheduler_type="linear", per_device_train_batch_size=_BATCH, use_cpu=True,
        train_sampling_strategy="group_by_length", save_steps=max(1, steps // 10), save_total_limit=1, logging_steps=max(1, steps // 50),
        report_to="none", disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip


def _scores(
    model: BertForMaskedLM, tokenizer: Any, rows: dict[str, dict[str, list[dict[str, list[int]]]]]
) -> dict[str, dict[str, dict[str, float]]]:
    """Loss and accuracy of masked tokens per language and part, with the same masks each time."""
    return {
        language: {part: _score(model, tokenizer, own) for part, own in parts.items() if own}
        for language, parts in rows.items()
    }


@torch.no_grad()
def _score(
    model: BertForMaskedLM, tokenizer: Any, rows: list[dict[str, list[int]]]
) -> dict[str, float]:
    collate = DataCollatorForLanguageModeling(tokenizer, seed=1)
    training = model.training
    model.eval()
    loss = right = n = 0.0
    rows = sorted(rows, key=lambda row: len(row["input_ids"]))
    for at in range(0, len(rows), _BATCH):
        batch = collate(rows[at : at + _BATCH])
        masked = batch["labels"] >= 0
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[
            masked
        ]
        loss += float(
            torch.nn.functional.cross_entropy(logits, batch["labels"][masked], reduction="sum")
        )
        right += float((logits.argmax(-1) == batch["labels"][masked]).sum())
        n += float(masked.sum())
    model.train(training)
    return {"loss": loss / n, "accuracy": right / n, "masked": n}


def _counts(
    tokenizer: Any,
    parts: dict[str, list[dict[str, list[int]]]],
    scores: dict[str, Any],
    language: str,
) -> dict[str, Any]:
    found = {}
    for part, rows in parts.items():
        ids = [i for row in rows for i in row["input_ids"]]
        found[part] = {
            "sentences": len(rows), "tokens": len(ids), "unknown": ids.count(tokenizer.unk_token_id) / max(1, len(ids)),
            **{when: own[language].get(part) for when, own in scores.items()},
        }  # fmt: skip
    return found
