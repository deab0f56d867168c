"""Every analysis of the library as the study asks it: of which dataset, by which value the best row is taken, and by what it is held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_NONE: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True)
class Question:
    """One analysis of one run, by weight and by norm where it knows both.

    Attributes:
        analysis: Name of the analysis.
        dataset: Dataset of the run of the base model.
        value: Column whose largest value is the best row.
        unit: What that value is, in words.
        baseline: Column that it is held against, if any.
        params: Parameters besides run and by.
        where: Values of columns that a row must have.
        by: Whether the analysis has the parameter `by`.
        ends: Columns of the interval of the value; None: those that are called after it.
        band: Whether the analysis has a band of random-weights twins.
        twins: Column that the band is of, where it is not the value.
    """

    analysis: str
    dataset: str
    value: str
    unit: str
    baseline: str | None = None
    params: Mapping[str, object] = field(default_factory=lambda: _NONE)
    where: Mapping[str, object] = field(default_factory=lambda: _NONE)
    by: bool = True
    ends: tuple[str, str] | None = None
    band: bool = True
    twins: str = ""

    @property
    def key(self) -> str:
        """Name of the question, as numbers.json has it."""
        further = [str(value) for value in (*self.params.values(), *self.where.values())]
        return "-".join([self.analysis, self.dataset, *further])

    @property
    def interval(self) -> tuple[str, str]:
        """Columns of the ends of the value's interval."""
        if self.ends:
            return self.ends
        return ("low", "high") if self.value == "mean" else (f"{self.value}_low", f"{self.value}_high")  # fmt: skip

    @property
    def command(self) -> str:
        """The line that asks it."""
        params = "".join(
            f" --param {name}={'null' if value is None else value}"
            for name, value in self.params.items()
        )
        return f"attnstore query {self.analysis} --param run=minilm/{self.dataset}{params}"


HEADS = (
    Question("positional_heads", "ewt", "held_out", "rows whose most attended token is at one distance", "baseline", twins="mean"),
    Question("positional_heads", "mrpc", "held_out", "rows whose most attended token is at one distance", "baseline", twins="mean"),
    Question("confidence", "ewt", "mean", "largest weight of a row", "baseline"),
    Question("confidence", "mrpc", "mean", "largest weight of a row", "baseline"),
    Question("rare_words", "ewt", "mean", "rows whose most attended token is the rarest", "baseline"),
    Question("rare_words", "mrpc", "mean", "rows whose most attended token is the rarest", "baseline"),
    Question("punctuation_heads", "ewt", "mean", "attention to punctuation", "baseline"),
    Question("punctuation_heads", "mrpc", "mean", "attention to punctuation", "baseline"),
    Question("sink_heads", "ewt", "mean", "attention that the largest column receives"),
    Question("sink_heads", "mrpc", "mean", "attention that the largest column receives"),
    Question("dependency_heads", "ewt", "mean", "links, dependent to head", "baseline", {"relation": "all", "direction": "from_to"}),
    Question("trees", "ewt", "mean", "links joined in the tree (UUAS)", "chain", {"heads": None}),
    Question("token_pairs", "ewt", "difference", "attention from subject to verb, above the best offset", params={"relation": "subject"}),
    Question("token_pairs", "ewt", "difference", "attention from object to verb, above the best offset", params={"relation": "object"}),
    Question("coreference_heads", "gap", "difference", "attention from pronoun to its name, above the other name"),
    Question("frame_heads", "frames", "difference", "attention between target and frame element, above other words"),
    Question("word_match", "mrpc", "difference", "attention between equal words, above unequal ones", twins="mean"),
    Question("word_match", "rte", "difference", "attention between equal words, above unequal ones", twins="mean"),
    Question("depth_and_tags", "ewt", "mean", "attention to nouns", "baseline", {"measure": "to"}, {"label": "NOUN"}),
    Question("depth_and_tags", "ewt", "mean", "attention to verbs", "baseline", {"measure": "to"}, {"label": "VERB"}),
    Question("pair_property", "ewt", "mean", "high weights on dependencies", "background", where={"label": None}),
    Question("agreement", "agreement", "difference", "bits less confused than even attention", params={"per": "head"}, where={"distractors": None}, band=False),
    Question("heads_alike", "mrpc", "difference", "bits nearer to the own layer's heads", by=True),
    Question("no_op_heads", "mrpc", "mean", "attention to delimiters", by=False, band=False),
    Question("no_op_heads", "ewt", "mean", "attention to delimiters", by=False, band=False),
)  # fmt: skip
"""Analyses with a row a head: the best head stands for them."""

ENSEMBLES = (
    Question("head_ensembles", "ewt", "mean", "links, dependent to head", "baseline", {"relation": "all", "direction": "from_to"}),
    Question("attention_probe", "ewt", "mean", "links, all heads weighted", where={"variant": "attention"}),
)  # fmt: skip
"""Analyses of several heads together."""

TABLES = (
    Question("dependency_table", "ewt", "held_out", "", params={"direction": "from_to"}),
    *(
        Question("head_ensembles", "ewt", "mean", "", params={"relation": relation}, by=False)
        for relation in ("det", "amod", "obj", "nsubj", "aux", "nmod", "case")
    ),
    Question("relations", "ewt", "difference", ""),
    Question("relations", "gap", "difference", ""),
    Question("relations", "frames", "difference", ""),
    Question("special_tokens", "mrpc", "mean", ""),
    Question("special_tokens", "rte", "mean", ""),
    Question("special_tokens", "sst2", "mean", ""),
    Question("cls_attention", "mrpc", "mean", "", params={"scheme": "upos"}),
    Question("feature_attention", "mrpc", "mean", "", params={"scheme": "upos"}),
    Question("sinks", "ewt", "mean", ""),
    Question("sinks", "mrpc", "mean", ""),
    Question("sinks", "gap", "mean", ""),
    Question("rollout", "mrpc", "mean", ""),
    Question("flow", "mrpc", "mean", ""),
    Question("layers_alike", "mrpc", "difference", ""),
    Question("agreement", "agreement", "difference", "", params={"per": "layer"}),
    Question("norm_share", "ewt", "weight", "", by=False),
    Question("norm_share", "mrpc", "weight", "", by=False),
    Question("norm_share", "gap", "weight", "", by=False),
    Question("mixing_ratio", "ewt", "mean", "", by=False),
    Question("mixing_ratio", "mrpc", "mean", "", by=False),
    Question("head_types", "ewt", "mean", "", by=False),
    Question("head_types", "mrpc", "mean", "", by=False),
    Question("head_entropy", "mrpc", "breadth", "", by=False),
    Question("pattern_by_head", "mrpc", "stability", "", by=False),
    Question("coreference_heads", "gap", "accuracy", ""),
    Question("language_summary", "ewt", "mean", "", params={"part": "order"}),
)
"""Analyses that the pages show as tables."""

CHECKPOINTS = (
    "drift", "drift_by_layer", "drift_over_steps", "feature_change", "heads_across_runs", "faithfulness", "pattern_shares",
    "frame_heads_matter", "table1", "scores_over_steps", "heads_that_hurt", "disabled_sets", "importance_agreement",
    "shared_heads", "pruned_sets", "outlier_dimensions",
)  # fmt: skip
"""Analyses of checkpoints and classifiers, which `answers` asks."""

LEFT_OUT = {
    "drift_by_input": "one head, input by input",
    "rollout_tokens": "one input, token by token",
    "top_links": "one input",
    "typical_maps": "one head, input by input",
    "frame_links": "one sentence",
    "head_pairs_alike": "72 x 72 distances, which heads_alike and layers_alike sum up",
    "label_agreement": "people who label maps, not a model",
    "ingest_rates": "the machine, not the model",
    "classify_rates": "the machine, not the model",
}
"""Analyses that the study does not ask, each with the reason."""
