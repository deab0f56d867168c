"""Figures about heads: frame links, types, entropy, relations between words, equal words.

A function is a figure, its name the figure's name: it takes a store and choices and gives a
`Drawing`. Section numbers are those of Kovaleva et al. 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import polars as pl

from attnstore.map_kinds import WEIGHTS
from attnstore.paper import schemes
from attnstore.plotting.drawings import (
    ANNOTATED,
    INGESTED,
    Drawing,
    NothingToDraw,
    Runs,
    asked,
    chosen,
    counted,
    every,
    n_of,
    one,
    per_run,
)  # fmt: skip
from attnstore.plotting.figures import by_head
from attnstore.plotting.panels import Panel, in_rows, kinds, pictures

if TYPE_CHECKING:
    from attnstore.store import Store

SENTENCE = "He was becoming agitated"
"""The example of section 4.2 and Figure 3."""
TYPES = ("previous", "next", "self", "cls", "sep", "punctuation", "broad", "mixed", "first", "none")
_LETTERS = dict(zip(TYPES, "PNSCEUBMF·", strict=True))
_RELATIONS = {
    ("subject", "from_to"): "subject → verb",
    ("subject", "to_from"): "verb → subject",
    ("object", "from_to"): "object → verb",
    ("object", "to_from"): "verb → object",
    ("coreference", "from_to"): "pronoun → antecedent",
    ("coreference", "to_from"): "antecedent → pronoun",
}


def frame_heads(
    store: Store,
    run: str | None = None,
    direction: str = "both",
    as_published: bool = False,
    same_class: bool = True,
    same_distance: bool = False,
    by: str = "weight",
    sentence: str = SENTENCE,
) -> Drawing:
    """The mean weight along frame links by head, and the best head on one sentence."""
    run = one(
        store, run, "SELECT run FROM link_tokens WHERE kind = 'frame'",
        "No input has frame-semantic links; ingest FrameNet with `attnstore ingest --model "
        "MODEL --dataset framenet:FOLDER=framenet`, then `attnstore annotate --dataset "
        "framenet --with framenet:FOLDER`.",
    )  # fmt: skip
    choices = {
        "direction": direction, "as_published": as_published, "same_class": same_class,
        "same_distance": same_distance, "by": by,
    }  # fmt: skip
    heads = store.query("frame_heads", run=run, **choices)
    best = heads.row(0, named=True)
    example = _example(store, run, sentence)
    one_map = store.map(
        run, example, best["layer"], best["head"], "norm" if by == "norm" else WEIGHTS
    )
    top = heads.filter("above_99th")
    above = heads.filter(pl.col("difference") > 0, pl.col("q") < 0.05)
    panel = Panel(
        by_head(heads), f"{run}\nmean over n = {best['n']} sentences",
        outlined=list(top.select("layer", "head").iter_rows()),
        dotted=list(above.select("layer", "head").iter_rows()), written=True,
    )  # fmt: skip
    beside = Panel(
        one_map.weights.astype(float), f"example {example}\nlayer {best['layer']}, head {best['head']}",
        one_map.texts, one_map.texts, ("to token", "from token"),
    )  # fmt: skip
    first, second = heads["mean"].head(2).to_list()
    ours = (
        f"{first:.3f} and {second:.3f} over {best['n']} sentences, {len(top)} of {len(heads)} heads above the 99th percentile, "
        f"{len(above)} above other words of the same sentences (n = {best['compared']})"
    )
    return Drawing(
        pictures([[panel, beside]], "share of what is moved" if by == "norm" else "attention weight", root=True),
        f"Left: per head, the mean over sentences of the largest weight between the tokens of a "
        f"frame element and of its target; framed: above the 99th percentile of the heads, which 2 of 144 "
        f"are by construction; dot: more than other words of the same sentences ({_matching(best, same_distance)}), in "
        f"the n = {best['compared']} sentences that have such words (false discovery rate 0.05 over the heads). Right: "
        f"the map of the head with the highest mean on one sentence, “{_text(store, run, example)}”. "
        f"Section 4.2, Figure 3.{schemes.of_norms(by)} n = {best['n']} sentences of {run}.",
        (
            asked("frame_heads", run=run, **choices),
            asked("frame_links", run=run, example=example),
        ),
        {run: ours},
    )  # fmt: skip


def _matching(row: Mapping[str, Any], same_distance: bool) -> str:
    """Say how the words of the baseline were matched."""
    kind = " of the same word class," if row["matched"] else ""
    return f"as many pieces,{kind} {'exactly' if same_distance else 'at least'} as far away"


def head_types(
    store: Store,
    run: Runs = None,
    position: float = 0.5,
    special: float = 0.6,
    breadth: float = 0.783,
    entropy: float | None = None,
    runs_like: str = "%",
) -> Drawing:
    """The type of each head, by the thresholds of Clark et al. 2019."""
    choices = {"position": position, "special": special, "breadth": breadth, "entropy": entropy}
    broad = (
        f"its mean entropy above {entropy} nats"
        if entropy is not None
        else f"the mean of its entropy over ln L above {breadth}"
    )
    frames, more = _frames(store, "head_types", runs_like, run, **choices)
    panels = [
        Panel(by_head(f.with_columns(mean=pl.col("type").replace_strict(_NUMBERS))), _title(run, f))
        for run, f in frames.items()
    ]
    return Drawing(
        kinds(in_rows(panels), TYPES, _LETTERS),
        "The type of each head: its mean weight to the previous, the next or the same token lies "
        f"above {position}, to [CLS], [SEP], punctuation or (without [CLS]) the first above {special}, "
        f"or {broad} (broad); mixed above several thresholds, none below all. Clark et al. 2019, sections 3.1 "
        f"to 3.3. {counted(frames)}{more}",
        tuple(asked("head_types", run=run, **choices) for run in frames),
        measured={
            kind: {run: _of_type(f, kind) for run, f in frames.items()} for kind in TYPES[:2]
        },
    )


def _of_type(frame: pl.DataFrame, kind: str) -> str:
    """Return how many heads are of a type, and in which layers, in words."""
    layers = frame.filter(type=kind)["layer"].sort().to_list()
    places = f" (layer{'s' * (len(layers) > 1)} {', '.join(map(str, layers))})" if layers else ""
    return f"{len(layers)} of {len(frame)}{places}"


_NUMBERS = {name: number for number, name in enumerate(TYPES)}


def head_entropy(store: Store, run: Runs = None, runs_like: str = "%") -> Drawing:
    """The entropy of each head's attention."""
    frames, more = _frames(store, "head_entropy", runs_like, run)
    panels = [Panel(by_head(f), _title(run, f)) for run, f in frames.items()]
    return Drawing(
        pictures(in_rows(panels), "entropy (nats)"),
        "Mean over inputs of the entropy of a token's attention weights: 0 for a head that looks at "
        f"one token, ln L for one that looks at all L alike. Clark et al. 2019, section 3.3. "
        f"{counted(frames)}{more}",
        tuple(asked("head_entropy", run=run) for run in frames),
    )


def token_pairs(
    store: Store,
    run: str | None = None,
    relation: str | None = None,
    direction: str | None = None,
    statistic: str = "max",
    annotation: str | None = None,
    scheme: str | None = None,
    by: str = "weight",
) -> Drawing:
    """Weights along relations between words, beside each head's best fixed offset."""
    run = one(
        store, run, "SELECT run FROM link_tokens WHERE kind IN ('dep', 'coreference')",
        f"No input has dependency or coreference links; `{ANNOTATED}` supplies them.",
    )  # fmt: skip
    labels = schemes.of_runs(store, [run], scheme)
    frames = {}
    for (one_relation, one_direction), title in _shown(relation, direction):
        frame = store.query(
            "token_pairs",
            run=run,
            relation=one_relation,
            direction=one_direction,
            statistic=statistic,
            annotation=annotation,
            scheme=labels[run],
            by=by,
        )
        if len(frame):
            frames[one_relation, one_direction, title] = frame
    if not frames:
        raise NothingToDraw(
            f"Run {run} has no subject, object or coreference; `{ANNOTATED}` supplies them."
        )
    linked = [
        Panel(by_head(f), f"{title}\n{n_of(f)}", dotted=_above(f))
        for (*_, title), f in frames.items()
    ]
    fixed = [Panel(by_head(f, "baseline"), "best fixed offset") for f in frames.values()]
    return Drawing(
        pictures(
            [linked, fixed],
            "share of what is moved" if by == "norm" else "attention weight",
            root=True,
        ),
        f"Top: per head, the mean over inputs of the {_WEIGHTS.get(statistic, statistic)} weight along a relation; dotted where "
        "it exceeds the bottom one at a false discovery rate of 5 % over the heads. Bottom: the same "
        "when each token looks at the one at the head's best fixed offset instead (-8 to 8 tokens, "
        "chosen on the other half of the inputs), so that a head that only looks at a neighbour "
        f"shows there too. {schemes.in_words(labels)} Section 4.5; Clark et al. 2019, section 4.2.{schemes.of_norms(by)} {_counts(frames)} of {run}.",
        tuple(
            asked(
                "token_pairs",
                run=run,
                relation=r,
                direction=d,
                statistic=statistic,
                annotation=annotation,
                scheme=labels[run],
                by=by,
            )
            for r, d, _ in frames
        ),
    )


def _shown(relation: str | None, direction: str | None) -> list[tuple[tuple[str, str], str]]:
    """The relations and directions of a figure with their titles: all, or those asked for."""
    relations = dict.fromkeys(r for r, _ in _RELATIONS) if relation is None else (relation,)
    directions = ("from_to", "to_from") if direction is None else (direction,)
    return [
        ((r, d), _RELATIONS.get((r, d), f"{r}, {d.replace('_', ' ')}"))
        for r in relations
        for d in directions
    ]


_WEIGHTS = {"max": "largest"}
"""Names of the statistics of token_pairs in a caption."""


def word_match(
    store: Store,
    run: Runs = None,
    punctuation: bool = False,
    stop_words: bool = True,
    by: str = "weight",
    runs_like: str = "%",
) -> Drawing:
    """Weights between equal words of the two texts of a pair, against other words'."""
    missing = f"No run holds pairs of texts that share words; `{INGESTED}` with a dataset of pairs supplies one."
    pairs = (
        "SELECT run FROM runs JOIN datasets USING (dataset) "
        "WHERE pair_column IS NOT NULL AND run LIKE $runs_like"
    )
    runs, more = chosen(store, 4, pairs, missing, run, runs_like=runs_like)
    choices = {"punctuation": punctuation, "stop_words": stop_words, "by": by}
    frames = {
        name: f for name, f in per_run(store, "word_match", runs, **choices).items() if len(f)
    }
    if not frames:
        raise NothingToDraw(missing)
    rows, ours = [], {}
    for run, frame in frames.items():
        best = frame.group_by("layer", "head").agg(pl.col("difference").mean())
        best = best.sort("difference", "layer", "head", descending=[True, False, False]).head(2)
        top = list(best.select("layer", "head").iter_rows())
        ours[run] = " and ".join(f"layer {layer}, head {head}" for layer, head in top)
        row: list[Panel] = []
        for direction, title in (
            ("first_to_second", "1st → 2nd"),
            ("second_to_first", "2nd → 1st"),
        ):
            part = frame.filter(direction=direction)
            row += [
                Panel(
                    by_head(part),
                    f"equal words, {title}, {n_of(part)}",
                    heading="" if row else run,
                    outlined=top,
                ),
                Panel(by_head(part, "unequal"), f"other words, {title}"),
            ]
        rows.append(row)
    return Drawing(
        pictures(rows, "attention weight"),
        "Mean over inputs of the weight from a word of one text to an equal word of the other (any "
        "case), and to the other words; framed: the two heads with the largest difference, mean of "
        f"both directions. Section 5. {counted(frames)}{more}",
        tuple(asked("word_match", run=run, **choices) for run in frames),
        ours,
    )


def _frames(
    store: Store, name: str, runs_like: str, run: Runs, **choices: object
) -> tuple[dict[str, pl.DataFrame], str]:
    """The results of an analysis that every run has."""
    runs, more = every(store, 8, runs_like, run)
    return per_run(store, name, runs, **choices), more


def _title(run: str, frame: pl.DataFrame) -> str:
    return f"{run}\n{n_of(frame)}"


def _counts(frames: dict[tuple[str, str, str], pl.DataFrame]) -> str:
    sizes = {relation: int(f["n"].to_numpy().max()) for (relation, _, _), f in frames.items()}
    return "n = " + ", ".join(f"{n} inputs with a link of {name}" for name, n in sizes.items())


def _above(frame: pl.DataFrame) -> list[tuple[int, int]]:
    """Heads that attend along the relation more than at their best fixed offset."""
    return list(frame.filter("above").select("layer", "head").iter_rows())


def _example(store: Store, run: str, sentence: str) -> int:
    """The first annotated example whose text holds a sentence, or else the first of all."""
    return int(
        store.sql(
            "SELECT example FROM inputs i JOIN examples e USING (dataset, example) WHERE i.run = $run "
            "AND example IN (SELECT example FROM link_tokens WHERE run = $run AND kind = 'frame') "
            "ORDER BY NOT contains(lower(e.text), lower($sentence)), example LIMIT 1",
            run=run, sentence=sentence,
        ).item()
    )  # fmt: skip


def _text(store: Store, run: str, example: int) -> str:
    return str(
        store.sql(
            "SELECT e.text FROM inputs i JOIN examples e USING (dataset, example) "
            "WHERE i.run = $run AND example = $example", run=run, example=example,
        ).item()
    )  # fmt: skip
