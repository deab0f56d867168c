"""Which runs and heads a question of the field Find is about, by its filters and by what is annotated."""

from __future__ import annotations

import json

from attnstore.errors import UsageError
from attnstore.naming import near
from attnstore.web import find_question
from attnstore.web.find_names import FEATURE, LABEL, LINK, SPECIAL
from attnstore.web.find_question import Question
from attnstore.web.run_records import Row
from attnstore.web.site import Site


def of(site: Site, question: Question, link: str | None) -> list[Row]:
    """Return the runs that a question is about: those with its names, without random-weights twins unless named.

    Raises:
        UsageError: There are none; the sentence says what there is.
    """
    rows = site.store.ask(
        "SELECT r.*, m.twin_of FROM runs r JOIN models m USING (model) WHERE stored > 0 ORDER BY n_weights, run"
    ).to_dicts()
    wanted = question.filters.get("run")
    if wanted is not None:
        exact = [r for r in rows if r["run"] == wanted]
        rows = exact or _filtered(rows, "run", wanted)
    else:
        rows = [r for r in rows if r["twin_of"] is None] or rows
    if (dataset := question.filters.get("dataset")) is not None:
        rows = [r for r in rows if r["dataset"] == dataset] or _filtered(rows, "dataset", dataset)
    for name in _annotated_names(question, link):
        having = set(_datasets(site, name))
        if not (kept := [r for r in rows if r["dataset"] in having]):
            raise UsageError(
                f"No dataset of the runs that are asked for is annotated with {name}; it is in {', '.join(sorted(having)) or 'none'}."
            )
        rows = kept
    if "label" in question.filters:
        rows = _labelled(site, question, rows)
    if question.over is not None and not any(n_heads(question, run) for run in rows):
        raise UsageError(
            f"No run that is asked for holds {_heads_in_words(question)}; layers and heads count from 0."
        )
    return rows


def largest(site: Site, question: Question, rows: list[Row]) -> tuple[list[Row], list[str]]:
    """Return of each dataset the largest run that has the tokens asked for, and sentences on inputs that it lacks."""
    for token in {term.text for term in question.terms if term.kind == "token"}:
        having = site.store.ask(
            "SELECT DISTINCT run FROM inputs WHERE list_contains($runs, run) AND list_contains(tokens, $token)",
            runs=[row["run"] for row in rows], token=token,
        )  # fmt: skip
        rows = [row for row in rows if row["run"] in set(having["run"])] or rows
    chosen = {row["dataset"]: row for row in sorted(rows, key=lambda r: r["stored"])}
    said = []
    for dataset, run in sorted(chosen.items()):
        others = [row["run"] for row in rows if row["dataset"] == dataset and row is not run]
        lacking = site.store.ask(
            "SELECT run, count(*) AS n FROM inputs WHERE list_contains($others, run) AND example NOT IN "
            "(SELECT example FROM inputs WHERE run = $run) GROUP BY run ORDER BY n DESC, run LIMIT 1",
            others=others, run=run["run"],
        ).rows()  # fmt: skip
        for other, n in lacking:
            said.append(
                f"Of {dataset}, inputs of {run['run']} are asked; {other} has {n:,} more: ask them with run:{other}."
            )
    return [chosen[dataset] for dataset in sorted(chosen)], said


def _filtered(rows: list[Row], name: str, wanted: str) -> list[Row]:
    known = sorted({row[name] for row in rows})
    if kept := [row for row in rows if wanted.lower() in row[name].lower()]:
        return kept
    held = (
        near(wanted, known) or f"; it holds {', '.join(known[:6])}{', …' if len(known) > 6 else ''}"
    )
    raise UsageError(f"The store holds no {name} with {wanted} in its name{held}")


def _labelled(site: Site, question: Question, rows: list[Row]) -> list[Row]:
    kept = [row for row in rows if labels(question, row["dataset"], site) != "[]"]
    if not kept:
        datasets = sorted({row["dataset"] for row in rows})
        known = site.store.ask(
            "SELECT DISTINCT label, dataset FROM examples WHERE list_contains($datasets, dataset) AND label IS NOT NULL "
            "ORDER BY dataset, label LIMIT 200",
            datasets=datasets,
        )
        names = list(dict.fromkeys(site.labels.called(*row) for row in known.iter_rows()))
        wanted = question.filters["label"]
        raise UsageError(
            f"No dataset that is asked for has the label {wanted}{near(wanted, names) or '; there are ' + (', '.join(names[:8]) or 'none')}"
        )
    return kept


def _annotated_names(question: Question, link: str | None) -> list[str]:
    kinds = (FEATURE, LABEL, LINK)
    named = [t.text for t in question.terms if t.kind in kinds and t.text not in SPECIAL]
    return [*named, *([link] if link else [])]


def _datasets(site: Site, name: str) -> list[str]:
    """Return the datasets that have a name of labels, links or features."""
    rows = site.store.ask(
        "SELECT DISTINCT dataset FROM spans s WHERE label = $name OR kind = $name OR EXISTS "
        "(FROM feature_labels f WHERE f.feature = $name AND f.kind = s.kind AND f.label = s.label) "
        "UNION SELECT DISTINCT dataset FROM links WHERE label = $name OR kind = $name",
        name=name,
    )
    return list(rows["dataset"])


def labels(question: Question, dataset: str, site: Site) -> str:
    """Return the labels that a dataset writes for the one asked for, as JSON; null for any."""
    if "label" not in question.filters:
        return "null"
    wanted = question.filters["label"]
    rows = site.store.ask(
        "SELECT DISTINCT label FROM examples WHERE dataset = $dataset AND label IS NOT NULL",
        dataset=dataset,
    )
    fits = [
        label for label in rows["label"]
        if wanted.lower() in (label.lower(), site.labels.called(label, dataset).lower())
    ]  # fmt: skip
    return json.dumps(fits)


def heads(question: Question, run: Row) -> tuple[list[int], list[int]]:
    """Return the layers and heads of a run that a question asks for."""
    layers, heads = list(run["layers"]), list(run["heads"])
    if "layer" in question.filters:
        low, high = find_question.numbers("layer", question.filters["layer"])
        layers = [layer for layer in layers if low <= layer <= high]
    if "head" in question.filters:
        layer, low, high = find_question.heads(question.filters["head"])
        heads = [head for head in heads if low <= head <= high]
        layers = [x for x in layers if layer in (None, x)]
    return layers, heads


def n_heads(question: Question, run: Row) -> int:
    """Return how many heads of a run a question asks for."""
    some_layers, some_heads = heads(question, run)
    return len(some_layers) * len(some_heads)


def _heads_in_words(question: Question) -> str:
    return " ".join(
        f"{n}:{question.filters[n]}" for n in ("layer", "head") if n in question.filters
    )
