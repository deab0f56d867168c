"""What the names of a question mean in a store: features, labels of words, relations; else they are words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from attnstore.errors import UsageError
from attnstore.naming import near
from attnstore.web.find_question import FILTERS, Question, Term
from attnstore.web.served_store import ServedStore

FEATURE, LABEL, LINK, WORD = "feature", "label", "link", "word"
"""Kinds of a term whose name the store knows (`Term.kind`), beside word, token and any."""
SPECIAL = ("cls", "sep", "punctuation")
"""Features of every run, annotated or not."""


@dataclass(frozen=True)
class Names:
    """The names that a store knows. features; labels: of spans, and their kinds; links: labels and kinds."""

    features: frozenset[str]
    labels: frozenset[str]
    links: frozenset[str]

    @property
    def all(self) -> list[str]:
        """Every name, in order."""
        return sorted(self.features | self.labels | self.links)


def of(store: ServedStore) -> Names:
    """Return the names that a store knows."""
    spans = store.ask("SELECT DISTINCT kind, label FROM spans")
    links = store.ask("SELECT DISTINCT kind, label FROM links")
    known = store.ask(
        "SELECT DISTINCT feature FROM feature_labels f "
        "SEMI JOIN (SELECT DISTINCT kind, label FROM spans) USING (kind, label)"
    )
    features = {*SPECIAL, *known["feature"], *(["negation"] if "negation" in spans["kind"] else [])}
    return Names(
        frozenset(features),
        frozenset(n for column in spans.columns for n in spans[column] if n),
        frozenset(n for column in links.columns for n in links[column] if n),
    )


def resolved(question: Question, names: Names) -> Question:
    """Say of each term what it is: a name that the store does not know is a word.

    A term with a threshold of its own is a relation if links have its name, and what receives otherwise.

    Raises:
        UsageError: A name looks like a filter, or a pair of terms cannot be a pair.
    """
    alone = question.sent is None and question.received is not None
    received = question.received and _meant(question.received, names, links=alone)
    if question.filters.get("direction") not in (None, "back"):
        raise UsageError(
            f"The question has direction:{question.filters['direction']}; direction:back takes a relation from its other end."
        )
    if "direction" in question.filters and question.sent is not None:
        raise UsageError(
            "direction:back is for a relation without ->; swap the two terms of the arrow instead."
        )
    if "direction" in question.filters and (received is None or received.kind != LINK):
        raise UsageError(
            "direction:back is for a relation with a threshold, such as nsubj > 0.3 direction:back."
        )
    return replace(
        question,
        having=tuple(_meant(term, names, links=False) for term in question.having),
        sent=question.sent and _meant(question.sent, names, links=False),
        received=received,
    )


def _meant(term: Term, names: Names, links: bool) -> Term:
    if term.kind != "name":
        return term
    order = [(FEATURE, names.features), (LABEL, names.labels), (LINK, names.links)]
    for kind, known in reversed(order) if links else order:
        if found := _called(term.text, known):
            return Term(kind, found)
    if ":" in term.text and not term.text.strip(":") == "":
        raise UsageError(
            f"There is no filter and no name {term.text}{near(term.text, names.all) or '; the filters are ' + ', '.join(FILTERS)}"
        )
    return Term(WORD, term.text)


def _called(text: str, known: Iterable[str]) -> str | None:
    exact = {name: name for name in known}
    folded = {name.lower(): name for name in sorted(exact, reverse=True)}
    return exact.get(text) or folded.get(text.lower())


def in_words(term: Term) -> str:
    """Say what a term was taken for."""
    if term.kind == "any":
        return "any token"
    if term.kind == WORD:
        return f"the word{'s' if ' ' in term.text else ''} “{term.text}”"
    if term.kind == "token":
        return f"the token {term.text}"
    kind = {FEATURE: "kind of token" if term.text in SPECIAL else "feature", LINK: "relation"}
    return f"{term.text} ({kind.get(term.kind, term.kind)})"


def linking(question: Question, names: Names) -> str | None:
    """Return the name of the links that join the two terms of a pair; None if any two of an input are a pair."""
    if question.received is None:
        return None
    if question.received.kind == LINK:
        return question.received.text
    for term in (question.received, question.sent):
        if term is not None and term.kind in (FEATURE, LABEL) and term.text in names.links:
            return term.text
    return None
