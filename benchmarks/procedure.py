"""The notebook's procedure for one GLUE task, written anew from its description (Kovaleva et al. 2019).

Eleven passes, one for each of nine features and two relations, every pass running both models over
every input again, one input at a time, padded to 200 tokens, all maps to numpy, then the statistic.
What [CLS] attends to and the drift use the maps of the last pass, so they cost it no BERT.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np

PADDED = 200
PENN = {"noun": ("NN", "NNP", "NNPS", "NNS"), "pronoun": ("PRP", "PRP$"), "verb": ("VB", "VBD", "VBG", "VBN", "VBP", "VBZ")}  # fmt: skip
DEPENDENCIES = {"subject": ("nsubj", "nsubj:pass", "csubj", "csubj:pass", "expl"), "object": ("obj", "iobj")}  # fmt: skip
NEGATION = ("neither", "nor", "not", "never", "none", "n't", "nothing", "nowhere")
PASSES = ("cls", "sep", "punctuation", "negation", *PENN, *DEPENDENCIES, "verb-subject", "verb-object")  # fmt: skip


class Procedure:
    """The notebook's. spent: seconds by part; to_cls: attention to [CLS] by head, per input."""

    def __init__(self, specs: list[str], nlp: Any) -> None:
        from attnstore.models import checkpoints, loading

        found = [checkpoints.resolve(spec) for spec in specs]
        self.models = [loading.load_model(checkpoint, "eager") for checkpoint in found]
        self.tokenizer, self.nlp = loading.load_tokenizer(found[0]), nlp
        self.spent = {"parsing": 0.0, "BERT": 0.0, "statistics": 0.0}
        self.to_cls: list[np.ndarray] = []

    def run(self, name: str, rows: Any, last: bool = False) -> None:
        """One pass over all inputs with both models."""
        for texts in rows.select("text", "text_pair").iter_rows():
            began = perf_counter()
            texts = [text for text in texts if text]
            needs = name in PENN or name in DEPENDENCIES or "-" in name
            docs = [self.nlp(text) for text in texts] if needs else []
            parsed = perf_counter()
            encoded = self.tokenizer(*texts, padding="max_length", truncation=True,
                                     max_length=PADDED, return_tensors="pt")  # fmt: skip
            both = [self.maps(model, encoded) for model in self.models]
            ran = perf_counter()
            ids = encoded["input_ids"][0][: int(encoded["attention_mask"].sum())]
            self.reduce(name, self.tokenizer.convert_ids_to_tokens(ids), docs, both, last)
            self.spent["parsing"] += parsed - began
            self.spent["BERT"] += ran - parsed
            self.spent["statistics"] += perf_counter() - ran

    def maps(self, model: Any, encoded: Any) -> np.ndarray:
        """All maps of one input (layers, heads, 200, 200) by one forward pass."""
        import torch

        with torch.inference_mode():
            found = model(**encoded, output_attentions=True).attentions
        return torch.stack(found).squeeze(1).numpy()

    def reduce(
        self, name: str, tokens: list[str], docs: list[Any], both: list[Any], last: bool
    ) -> None:
        """The statistic of a pass, of both models' maps; tokens: those that are not padding."""
        n = len(tokens)
        if "-" in name:
            wanted = DEPENDENCIES[name.partition("-")[2]]
            pairs = [(i, j) for doc in docs for w in doc if w.dep_ in wanted
                     for i in self._find(w.head.text, tokens) for j in self._find(w.text, tokens)]  # fmt: skip
            if pairs:
                found = [maps[:, :, *np.transpose(pairs)].max(-1) for maps in both]
        elif places := self._places(name, tokens, docs):
            found = [(maps[:, :, :n, places].sum(2) / n).max(-1) for maps in both]
            if name == "cls":
                self.to_cls.append(found[0])
        if last:
            _ = [maps[-1, :, 0, :n] for maps in both]
            base, tuned = (maps.reshape(*maps.shape[:2], -1) for maps in both)
            norms = np.linalg.norm(base, axis=-1) * np.linalg.norm(tuned, axis=-1)
            _ = np.vecdot(base, tuned) / norms

    def _places(self, name: str, tokens: list[str], docs: list[Any]) -> list[int]:
        """Positions of a feature, found by string as the notebook finds them."""
        if name in ("cls", "sep"):
            return [i for i, token in enumerate(tokens) if token == f"[{name.upper()}]"]
        if name == "punctuation":
            return [i for i, token in enumerate(tokens) if not any(c.isalnum() for c in token)]
        if name == "negation":
            return [i for i, token in enumerate(tokens) if any(w in token for w in NEGATION)]
        tags, labels = PENN.get(name, ()), DEPENDENCIES.get(name, ())
        words = [w.text for doc in docs for w in doc if w.tag_ in tags or w.dep_ in labels]
        return sorted({i for word in words for i in self._find(word, tokens)})

    def _find(self, word: str, tokens: list[str]) -> list[int]:
        return [tokens.index(p) for p in self.tokenizer.tokenize(word) if p in tokens]
