"""The parts of the report: for each paper its figures, in the order of the page.

A figure is a public function of a module of this package. What the papers report lies in
`data/published`, a file each, under the same keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attnstore.errors import UnknownNameError
from attnstore.naming import near
from attnstore.paper import (
    ablations,
    agreement,
    alike,
    attended,
    coreference,
    heads,
    layers,
    positions,
    probing,
    profiles,
    relations,
    scores,
    sinks,
    syntax,
    tasks,
)
from attnstore.plotting.drawings import Drawing

Builder = Callable[..., Drawing]

PARTS: dict[str, tuple[Builder, ...]] = {
    "kovaleva2019": (
        tasks.pattern_examples,
        tasks.pattern_shares,
        tasks.pattern_by_head,
        heads.frame_heads,
        tasks.drift,
        scores.table1,
        scores.scores_over_steps,
        attended.special_tokens,
        attended.feature_attention,
        attended.cls_attention,
        heads.token_pairs,
        ablations.disabled_heads,
        ablations.disabled_layers,
        heads.word_match,
    ),
    "clark2019": (
        heads.head_types,
        heads.head_entropy,
        attended.special_tokens,
        positions.punctuation_heads,
        alike.heads_alike,
        coreference.coreference_heads,
        relations.relations,
        probing.attention_probe,
        probing.probe_weights,
        syntax.dependency_table,
    ),
    "voita2019": (
        profiles.offsets,
        positions.positional_heads,
        positions.confidence,
        positions.rare_words,
    ),
    "htut2019": (syntax.trees,),
    "limisiewicz2020": (syntax.head_ensembles, syntax.trees),
    "vig2019": (positions.attention_depth, positions.tag_shares),
    "vig2021": (relations.pair_property,),
    "lin2019": (agreement.agreement,),
    "bian2021": (alike.heads_alike, alike.heads_across_runs),
    "abnar2020": (layers.rollout, layers.flow, layers.faithfulness),
    "kobayashi2020": (attended.norm_share, sinks.no_op_heads),
    "kobayashi2021": (layers.mixing_ratio,),
    "xiao2023": (sinks.sinks, sinks.sink_heads),
    "kovaleva2021": (sinks.outlier_dimensions,),
    "michel2019": (ablations.pruned_heads,),
}
"""By paper, what a store can show of it. A figure of several papers stands in the first part that has it."""

BUILDERS: dict[str, Builder] = {
    builder.__name__: builder for builders in PARTS.values() for builder in builders
}
"""Every figure by name, in the order of the page."""


def names(part: str) -> tuple[str, ...]:
    """Return the names of a part's figures."""
    return tuple(builder.__name__ for builder in PARTS[part])


def chosen(papers: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the keys of the parts asked for, in the order of the page; None for all.

    Raises UnknownNameError for a key that is none.
    """
    if papers is None:
        return tuple(PARTS)
    asked_for = papers.split(",") if isinstance(papers, str) else papers
    keys = {key.strip() for key in asked_for}
    for key in sorted(keys - set(PARTS)):
        raise UnknownNameError(
            f"The report has no part {key!r}{near(key, PARTS) or '; there are ' + ', '.join(PARTS) + '.'}"
        )
    return tuple(key for key in PARTS if key in keys)
