"""A model with a task head: its creation for a training, its inputs and its logits.

Texts are tokenized exactly as in an ingestion, so training and analysis see the same tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    set_seed,
)

from attnstore.datasets import tokenize
from attnstore.errors import ModelError
from attnstore.experiments.finetuning.recipes import other_order
from attnstore.experiments.finetuning.tasks import Examples, Task
from attnstore.models import loading as models
from attnstore.models import pretrained
from attnstore.models.checkpoints import Checkpoint, output_names
from attnstore.storage import layout

Inputs = list[dict[str, Any]]


def make(checkpoint: Checkpoint, task: Task, init: str, seed: int) -> Any:
    """Create a model with a head for the task, in training mode; the seed fixes all random weights.

    init: `pretrained` keeps the head of a model that has one, `none` draws a new one, and `normal`
    draws everything with the architecture's own initialization: matrices and embeddings from
    N(0, initializer_range) (0.02 for BERT), biases 0, gains of layer norms 1. Raises ModelError.
    """
    with pretrained.quiet(), pretrained.explained(checkpoint, "model"):
        with pretrained.opened(checkpoint) as (folder, parts):
            kind = "single_label_classification" if task.labels else "regression"
            config = pretrained.read_config(
                folder, num_labels=len(task.labels) or 1, problem_type=kind
            )
            pretrained.refuse_changed(checkpoint, "fingerprint")
        pretrained.refuse_larger_than_weights(
            checkpoint, parts, AutoModelForSequenceClassification, config
        )
        if task.labels:
            config.id2label = dict(enumerate(task.labels))
            config.label2id = {name: n for n, name in config.id2label.items()}
        set_seed(seed)
        model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    if init != "normal":
        _fill(model, checkpoint, task, head=init == "pretrained")
    if init == "pretrained":  # read by `models.base`; a model with random weights has none
        model.config.base_model_name_or_path = checkpoint.source
    return model


def _fill(model: Any, checkpoint: Checkpoint, task: Task, head: bool) -> None:
    """Copy the checkpoint's encoder, and its head if present, with outputs in label order."""
    encoder = models.load_model(checkpoint, "sdpa")
    own = model.base_model.state_dict()
    tensors = {name: tensor for name, tensor in encoder.state_dict().items() if name in own}
    model.base_model.load_state_dict(tensors, strict=False)
    if head and output_names(checkpoint) is not None:
        trained = models.load_classifier(checkpoint)
        model.load_state_dict(_in_order(checkpoint, trained, task))


def _in_order(checkpoint: Checkpoint, trained: Any, task: Task) -> dict[str, torch.Tensor]:
    """Return a trained model's tensors with the outputs reordered to match a task's labels.

    Raises ModelError if the tensors with one row per output are ambiguous.
    """
    tensors: dict[str, torch.Tensor] = trained.state_dict()
    order = other_order(checkpoint, task)
    if order is None:
        return tensors
    prefix = f"{trained.base_model_prefix}."
    rows = [
        name
        for name, tensor in tensors.items()
        if not name.startswith(prefix) and tensor.ndim and len(tensor) == len(order)
    ]
    if len({name.rpartition(".")[0] for name in rows}) != 1:
        raise ModelError(
            f"The head of {checkpoint.name} cannot be brought into the order of the labels "
            f"{', '.join(task.labels)}; train from --init none or normal."
        )
    return tensors | {name: tensors[name][list(order)] for name in rows}


def inputs(examples: Examples, tokenizer: Any, max_length: int) -> Inputs:
    """Tokenize each example as model inputs, with its target as `labels`."""
    tokens = tokenize.refuse_tokenless(tokenize.tokenize(examples.frame, tokenizer, max_length))
    types = tokens["type_ids"].to_list()
    return [
        {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": target}
        | ({} if kind is None else {"token_type_ids": kind})
        for ids, kind, target in zip(
            tokens["token_ids"].to_list(), types, examples.targets.tolist(), strict=True
        )
    ]


def logits(model: Any, rows: Inputs, tokenizer: Any) -> npt.NDArray[np.float32]:
    """Compute logits, (n, labels) float32, in row order, without dropout; batches group by length."""
    model.eval()
    collate = DataCollatorWithPadding(tokenizer)
    length = np.array([len(row["input_ids"]) for row in rows])
    order = np.argsort(length, kind="stable")
    outputs = np.empty((len(rows), model.config.num_labels), np.float32)
    for batch in layout.batches(length[order], layout.BATCH_TOKENS):
        indices = order[batch]
        padded = collate([rows[i] for i in indices.tolist()]).to(model.device)
        padded.pop("labels")
        with torch.inference_mode():
            outputs[indices] = model(**padded).logits.cpu().numpy()
    return outputs
