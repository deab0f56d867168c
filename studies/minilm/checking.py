"""Some numbers of the study once more, straight from the model's output: no stored map, no SQL, no code of the library that measures.

The maps are those of transformers' eager attention, in float32; what they are compared with came through the store, in
float16. Only the texts of a run's inputs are read from the store, and CoNLL-U and GAP are read here.
"""

from __future__ import annotations

import csv
import importlib.resources
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

import attnstore
from studies.minilm import grid
from studies.minilm.filling import Place
from studies.minilm.grid import Sources

Number = dict[str, Any]
_PACKAGE = grid.SPEC.partition("=")[0].partition(":")[2]


@dataclass(frozen=True)
class _Texts:
    """Inputs of a run: example, text, second text or None, label."""

    inputs: list[tuple[int, str, str | None, str | None]]

    @property
    def rows(self) -> list[tuple[int, str, str | None]]:
        """The inputs without their labels."""
        return [(example, text, pair) for example, text, pair, _ in self.inputs]

    @property
    def labels(self) -> dict[int, int]:
        """Labels of tasks of GLUE, which are numbers."""
        return {example: int(label) for example, _, _, label in self.inputs if label is not None}

    def encoded(self, tokenizer: Any) -> Iterator[tuple[int, Any]]:
        """Yield each input as tokens, one at a time, as the run has them."""
        for example, text, pair in self.rows:
            second = (pair,) if pair is not None else ()
            yield (
                example,
                tokenizer(text, *second, truncation=True, max_length=128, return_offsets_mapping=True, return_tensors="pt"),
            )  # fmt: skip


def check(place: Place, sources: Sources, numbers: dict[str, Any]) -> list[Number]:
    """Return each number with its own computation beside it.

    Args:
        place: Where the study lies.
        sources: Where the data lies; what is missing is not checked.
        numbers: The numbers of the study.
    """
    folder = Path(str(importlib.resources.files(_PACKAGE)))
    folder = next(path.parent for path in sorted(folder.rglob("tokenizer.json")))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    with attnstore.open(place.store) as store:
        texts = {
            dataset: _Texts(
                store.sql(
                    "SELECT example, text, text_pair, label FROM inputs JOIN examples USING (dataset, example) WHERE run = $run",
                    run=grid.run(dataset),
                ).rows()
            )
            for dataset in store.sql("SELECT dataset FROM runs WHERE model = 'minilm'")["dataset"]
        }
    found: list[Number] = []
    with torch.inference_mode():
        if "mrpc" in texts:
            found += _special(model, tokenizer, texts["mrpc"], numbers)
        if "ewt" in texts and sources.ud:
            found += _treebank(model, tokenizer, texts["ewt"], numbers, sources.ud)
        if "gap" in texts and sources.gap:
            found += _pronouns(model, tokenizer, texts["gap"], numbers, sources.gap)
        if last := place.checkpoints("mrpc")[-1:]:
            found += _tuned(model, tokenizer, texts["mrpc"], numbers, last[0])
    return found


def _row(rows: list[dict[str, Any]], **keys: Any) -> dict[str, Any]:
    return next(row for row in rows if all(row.get(name) == value for name, value in keys.items()))


def _special(model: Any, tokenizer: Any, texts: _Texts, numbers: dict[str, Any]) -> list[Number]:
    """[CLS] of layer 4: its share of the weight, and of weight times length of the vector that is moved."""
    layer = 4
    attention = model.encoder.layer[layer].attention
    size = model.config.hidden_size // model.config.num_attention_heads
    output = attention.output.dense.weight.view(-1, model.config.num_attention_heads, size)
    weights, norms = [], []
    for _, tokens in texts.encoded(tokenizer):
        tokens.pop("offset_mapping")
        out = model(**tokens, output_attentions=True, output_hidden_states=True)
        maps = out.attentions[layer][0].double()
        values = attention.self.value(out.hidden_states[layer])[0].view(-1, *output.shape[1:])
        lengths = torch.einsum("khd,ohd->hko", values, output).norm(dim=-1).double()
        moved = maps * lengths[:, None, :]
        weights.append(maps[:, :, 0].mean().item())
        norms.append((moved[:, :, 0] / moved.sum(-1)).mean().item())
    rows = numbers["tables"]["special_tokens-mrpc"]
    return [
        {
            "what": f"attention to [CLS] in layer {layer}, MRPC, by {by}",
            "study": _row(rows[by], layer=layer, kind="cls")["mean"],
            "own": float(np.mean(own)), "n": len(own),
        }
        for by, own in (("weight", weights), ("norm", norms)) if by in rows
    ]  # fmt: skip


def _treebank(
    model: Any, tokenizer: Any, texts: _Texts, numbers: dict[str, Any], folder: Path
) -> list[Number]:
    """The positional head, and the best head over all dependencies, over the sentences of the file itself."""
    text = (folder / "en_ewt-ud-dev.conllu").read_text("utf-8")
    sentences = [_sentence(block) for block in text.strip().split("\n\n")]
    positional = _row(numbers["heads"], key="positional_heads-ewt")["weight"]
    dependency = _row(numbers["heads"], key="dependency_heads-ewt-all-from_to")["weight"]
    (p_layer, p_head), (d_layer, d_head) = (
        map(int, row["place"].split(".")) for row in (positional, dependency)
    )
    shares = {offset: [0, 0] for offset in (-1, 1)}
    right, links = 0, 0
    for example, tokens in texts.encoded(tokenizer):
        offsets = tokens.pop("offset_mapping")[0].tolist()
        maps = model(**tokens, output_attentions=True).attentions
        most = maps[p_layer][0, p_head].argmax(-1)
        for offset, counts in shares.items():
            counts[0] += int((most == torch.arange(len(most)) + offset).sum())
            counts[1] += len(most)
        hits, all_ = _links(maps[d_layer][0, d_head].double().numpy(), offsets, sentences[example])
        right, links = right + hits, links + all_
    best = max(shares.values(), key=lambda counts: counts[0])
    return [
        {"what": f"rows of head {positional['place']} whose most attended token is the neighbor, EWT",
         "study": positional["value"], "own": best[0] / best[1], "n": best[1]},
        {"what": f"dependents whose most attended word is their head, head {dependency['place']}, EWT",
         "study": dependency["value"], "own": right / links, "n": links},
    ]  # fmt: skip


Word = tuple[int, int, int, str]
"""First character, last one (exclusive), number of the head (-1: none), relation."""


def _sentence(block: str) -> list[Word]:
    """Return the words of a sentence of CoNLL-U with their characters; those of a multiword token divide it."""
    lines = [line.split("\t") for line in block.splitlines() if not line.startswith("#")]
    text = next(line[9:] for line in block.splitlines() if line.startswith("# text = "))
    words: list[Word] = []
    at, inside = 0, 0
    for fields in lines:
        if "." in fields[0]:
            continue
        if "-" in fields[0]:
            first, last = map(int, fields[0].split("-"))
            at = text.index(fields[1], at)
            parts = [line[1] for line in lines if line[0].isdigit() and first <= int(line[0]) <= last]  # fmt: skip
            whole = "".join(parts).lower() != fields[1].lower()
            start, end, inside = at, at + len(fields[1]), last
            continue
        if int(fields[0]) <= inside:
            begin, stop = (start, end) if whole else (at, at + len(fields[1]))
            at = end if int(fields[0]) == inside else stop if not whole else at
        else:
            begin = text.index(fields[1], at)
            at = stop = begin + len(fields[1])
        words.append((begin, stop, int(fields[6]) - 1, fields[7]))
    return words


def _links(
    weights: np.ndarray[Any, Any], offsets: list[list[int]], words: list[Word]
) -> tuple[int, int]:
    """Return how many links the most attended word is the head of, and how many there are."""
    spans = [(begin, stop) for begin, stop, _, _ in words]
    owners = [
        [w for w, (begin, stop) in enumerate(spans) if first < stop and last > begin]
        for first, last in offsets
    ]
    tokens = [[t for t, own in enumerate(owners) if w in own] for w in range(len(words))]
    alone = [bool(own) and all(owners[t] == [w] for t in own) for w, own in enumerate(tokens)]
    right = links = 0
    for word, (_, _, head, relation) in enumerate(words):
        if head < 0 or relation.partition(":")[0] == "punct" or not (alone[word] and alone[head]):
            continue
        row = weights[tokens[word]].mean(0)
        sums = [row[own].sum() if alone[w] and w != word else -1 for w, own in enumerate(tokens)]
        right, links = right + (int(np.argmax(sums)) == head), links + 1
    return right, links


def _pronouns(
    model: Any, tokenizer: Any, texts: _Texts, numbers: dict[str, Any], folder: Path
) -> list[Number]:
    """The best head of coreference: how often the pronoun attends more to the name that it means."""
    best = _row(numbers["heads"], key="coreference_heads-gap")["weight"]["place"]
    layer, head = map(int, best.split("."))
    with (folder / "gap-development.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    scores = []
    for example, tokens in texts.encoded(tokenizer):
        row = rows[example]
        if (row["A-coref"] == "TRUE") == (row["B-coref"] == "TRUE"):
            continue
        offsets = tokens.pop("offset_mapping")[0].tolist()
        own = {
            name: _covering(offsets, int(row[f"{name}-offset"]), row[name])
            for name in ("A", "B")
        } | {"P": _covering(offsets, int(row["Pronoun-offset"]), row["Pronoun"])}  # fmt: skip
        if not all(own.values()):
            continue
        weights = model(**tokens, output_attentions=True).attentions[layer][0, head].numpy()
        largest = {name: weights[np.ix_(own["P"], own[name])].max() for name in ("A", "B")}
        meant, other = ("A", "B") if row["A-coref"] == "TRUE" else ("B", "A")
        scores.append(0.5 + 0.5 * np.sign(largest[meant] - largest[other]))
    rows_ = numbers["tables"]["coreference_heads-gap"]["weight"]
    return [
        {
            "what": f"pronouns that attend more to the name that they mean, head {best}, GAP",
            "study": _row(rows_, layer=layer, head=head)["accuracy"],
            "own": float(np.mean(scores)), "n": len(scores),
        }
    ]  # fmt: skip


def _covering(offsets: list[list[int]], start: int, text: str) -> list[int]:
    """Return the tokens of a stretch of text; none where the input ends before it."""
    found = [t for t, (a, b) in enumerate(offsets) if a < start + len(text) and b > start]
    return found if found and offsets[found[-1]][1] >= start + len(text) else []


def _tuned(
    model: Any, tokenizer: Any, texts: _Texts, numbers: dict[str, Any], checkpoint: Path
) -> list[Number]:
    """How far training moved layer 5, and the score without the head that costs most."""
    tuned = AutoModelForSequenceClassification.from_pretrained(
        checkpoint, attn_implementation="eager"
    ).eval()
    cosines = []
    for _, tokens in texts.encoded(tokenizer):
        tokens.pop("offset_mapping")
        pair = [
            m(**tokens, output_attentions=True).attentions[5][0].double().flatten(1)
            for m in (model, tuned)
        ]
        cosines.append(torch.nn.functional.cosine_similarity(*pair).mean().item())
    rows = numbers["trained"]["mrpc"]["drift_by_layer"]
    found = [
        {
            "what": "cosine of the maps of layer 5 before and after training, MRPC",
            "study": _row(rows, layer=5)["mean"], "own": float(np.mean(cosines)), "n": len(cosines),
        }
    ]  # fmt: skip
    disabled = numbers["classifiers"]["disabled"].get("mrpc", {}).get("disabled_sets", [])
    heads = [row for row in disabled if row["n_disabled"] == 1 and row["n"] == len(texts.inputs)]
    if heads:
        found += _without_head(tuned, tokenizer, texts, min(heads, key=lambda row: row["score"]))
    return found


def _without_head(tuned: Any, tokenizer: Any, texts: _Texts, worst: dict[str, Any]) -> list[Number]:
    """Accuracy of the classifier as it is, and without the head that costs most."""

    def accuracy() -> float:
        right = []
        for example, tokens in texts.encoded(tokenizer):
            tokens.pop("offset_mapping")
            right.append(tuned(**tokens).logits.argmax().item() == texts.labels[example])
        return float(np.mean(right))

    whole = accuracy()
    enable = _disable(tuned, *map(int, worst["setting"].split(".")))
    without = accuracy()
    enable()
    n = len(texts.rows)
    return [
        {"what": "accuracy of the classifier of MRPC", "study": worst["baseline"], "own": whole, "n": n},
        {"what": f"the same without head {worst['setting']}", "study": worst["score"],
         "own": without, "n": n},
    ]  # fmt: skip


def _disable(model: Any, layer: int, head: int) -> Callable[[], None]:
    """Let a head attend to every token alike; returns what ends it."""
    own = model.bert.encoder.layer[layer].attention.self
    size = own.attention_head_size

    def even(module: Any, arguments: Any, output: Any) -> Any:
        values = module.value(arguments[0])[..., head * size : (head + 1) * size]
        context = output[0].clone()
        context[..., head * size : (head + 1) * size] = values.mean(1, keepdim=True)
        return (context, *output[1:])

    return own.register_forward_hook(even).remove  # type: ignore[no-any-return]
