"""The grammar of the field Find: words, tokens, names of relations and features, thresholds, filters.

    question  = part, part, …            every part has to hold
    part      = term                     inputs that have it
              | term > 0.9               maps in which it receives more, mean over the tokens of the input
              | relation > 0.3           maps in which a word gives more to the word that it is linked to
              | term -> term > 0.5       maps in which a word of the first gives more to one of the second
              | filter
    term      = "word or words" | word | [SEP] | ##ing | name | *
    filter    = layer:2  layer:0-3  head:4  head:2.4  run:NAME  dataset:NAME  length:10-40  label:NAME
                direction:back           a relation from the other end

Reading a text needs no store: `find_names` says afterwards what its names mean there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass, field

from attnstore.errors import UsageError

FILTERS = ("layer", "head", "run", "dataset", "length", "label", "direction")
"""Filters of a question, written NAME:VALUE."""
DEFAULT = 0.5
"""Threshold of a pair of terms without one."""
LONGEST = 400
"""Characters of a question."""
MOST = 6
"""Terms of a question, and words of one term."""

_PIECES = re.compile(
    rf"""\s*(?:(?P<filter>{"|".join(FILTERS)}):(?P<value>"[^"]*"|\S+)
    |(?P<arrow>->|→)
    |(?P<over>>=|≥|>)\s*(?P<number>[0-9.]*[0-9][0-9eE.%-]*)?
    |(?P<quoted>["“”][^"“”]*["“”])
    |(?P<token>\[[^\]\s]+\]|<[^>\s]+>|\#\#\S+)
    |(?P<name>\*|[^\s"“”>≥→]+?(?=->|\s|>|≥|→|"|$)))""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Term:
    """One term as it is written.

    Attributes:
        kind: any, word (in quotes), token (as in a vocabulary) or name (what the store says of it).
        text: Its text, without quotes.
    """

    kind: str
    text: str

    @property
    def written(self) -> str:
        """The term as it stands in a question."""
        return f'"{self.text}"' if self.kind == "word" else self.text


@dataclass(frozen=True)
class Question:
    """What a text asks for.

    Attributes:
        having: Terms that each input has.
        sent, received: What gives and what receives attention; None for neither. `sent` is None for
            a lone term, which is a relation or a term that receives.
        over: The threshold of the weight, from 0 to 1; None for a question about inputs alone.
        filters: Value of each filter by its name, as written.
    """

    having: tuple[Term, ...] = ()
    sent: Term | None = None
    received: Term | None = None
    over: float | None = None
    filters: dict[str, str] = field(default_factory=dict)

    @property
    def terms(self) -> tuple[Term, ...]:
        """Every term, those of the weight first."""
        return tuple(t for t in (self.sent, self.received, *self.having) if t is not None)


def parse(text: str) -> Question:
    """Read a question.

    Raises:
        UsageError: It is not one; the sentence says what was found and what is possible.
    """
    if len(text) > LONGEST:
        raise UsageError(f"The question has {len(text)} characters; at most {LONGEST} here.")
    having: list[Term] = []
    filters: dict[str, str] = {}
    weighed: tuple[Term | None, Term, float] | None = None
    pieces = _pieces(text)
    while pieces:
        piece = pieces.pop(0)
        if (name := piece["filter"]) is not None:
            filters[_filter(name, filters)] = _unquoted(piece["value"])
            continue
        first = _term(piece, "a term")
        second = None
        if pieces and pieces[0]["arrow"]:
            pieces.pop(0)
            second = _term(pieces.pop(0) if pieces else None, f"after {first.written} ->, a term")
        over = _threshold(pieces.pop(0), first) if pieces and pieces[0]["over"] else None
        if over is None and second is None:
            having.append(first)
            continue
        if weighed is not None:
            raise UsageError(
                "The question has two thresholds or arrows; a question has one, and any number of words beside it."
            )
        over = DEFAULT if over is None else over
        weighed = (None, first, over) if second is None else (first, second, over)
    sent, received, limit = weighed or (None, None, None)
    question = Question(tuple(having), sent, received, limit, filters)
    _check(question)
    return question


def is_more_than_words(text: str) -> bool:
    """Return True for a text with anything that only a question has: a filter, quotes, a token, an arrow, a threshold."""
    special = ("filter", "arrow", "over", "quoted", "token")
    return any(piece[kind] is not None for piece in _PIECES.finditer(text) for kind in special)


def _check(question: Question) -> None:
    if not question.terms and not question.filters.keys() & {"run", "dataset", "length", "label"}:
        raise UsageError(
            'The question names nothing to find; write a word such as "not", or pronoun -> antecedent > 0.5.'
        )
    if len(question.terms) > MOST:
        raise UsageError(f"The question has {len(question.terms)} terms; at most {MOST} here.")
    others = [t for t in question.terms if t is not question.sent]
    if any(t.kind == "any" for t in others) or (
        question.received is not None and question.sent is None and question.received.kind == "any"
    ):
        raise UsageError("A * stands for any token before -> only, as in * -> [SEP] > 0.9.")
    if long := [t for t in question.terms if len(t.text.split()) > MOST]:
        raise UsageError(f"{long[0].written} has more than {MOST} words; give fewer.")


def _pieces(text: str) -> list[dict[str, str | None]]:
    found, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = _PIECES.match(text, at)
        if match is None or match.end() == at:
            raise UsageError(
                f"The question cannot be read from {text[at:].strip()[:40]!r} on; put words in "
                'double quotes, such as "not".'
            )
        found.append(match.groupdict())
        at = match.end()
    return found


def _term(piece: dict[str, str | None] | None, wanted: str) -> Term:
    if piece is not None and (name := piece["name"]) is not None:
        return Term("any", name) if name == "*" else Term("name", name)
    if piece is not None and (token := piece["token"]) is not None:
        return Term("token", token)
    if piece is not None and (quoted := piece["quoted"]) is not None:
        if words := _unquoted(quoted):
            return Term("word", words)
        raise UsageError('The question has "" without a word in it; write the word between them.')
    found = "the end" if piece is None else next(repr(v) for v in piece.values() if v is not None)
    raise UsageError(
        f"The question has {found} where {wanted} is to stand: a word in double quotes, a token "
        "such as [SEP], or the name of a relation or feature."
    )


def _threshold(piece: dict[str, str | None], term: Term) -> float:
    text = piece["number"] or ""
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise UsageError(
            f"The threshold of {term.written} is {text or 'missing'}; give a weight from 0 to below 1, such as > 0.5."
        )
    return value


def _filter(name: str, filters: dict[str, str]) -> str:
    if name in filters:
        raise UsageError(f"The question has {name}: twice; give it once.")
    return name


def _unquoted(text: str | None) -> str:
    return (text or "").strip('"“”').strip()


def numbers(name: str, text: str) -> tuple[int, int]:
    """Return the lowest and the highest number of a filter: 3, 2-5, <20 or >20.

    Raises:
        UsageError: It is none of these, or from a higher number to a lower one.
    """
    match = re.fullmatch(r"(<|>)?(\d{1,9})(?:-(\d{1,9}))?", text)
    if match is None or (match[1] and match[3]):
        raise UsageError(
            f"The question has {name}:{text[:40]}; give a number such as {name}:3, or from-to such as {name}:2-5."
        )
    low = int(match[2])
    if match[3] and int(match[3]) < low:
        raise UsageError(
            f"The question has {name}:{text}, from the higher to the lower number; write {name}:{match[3]}-{low}."
        )
    if match[1]:
        return (0, max(low - 1, 0)) if match[1] == "<" else (low + 1, 10**9)
    return low, int(match[3] or low)


def heads(text: str) -> tuple[int | None, int, int]:
    """Return the layer (None for any) and the lowest and highest head of the filter `head`: 4, 2-5, 2.4.

    Raises:
        UsageError: It is none of these.
    """
    if match := re.fullmatch(r"(\d{1,9})\.(\d{1,9})", text):
        return int(match[1]), int(match[2]), int(match[2])
    return None, *numbers("head", text)


def written(question: Question, without: Collection[str] = ()) -> str:
    """Write a question as a text that `parse` reads, without some of its filters."""
    parts = [term.written for term in question.having]
    if question.received is not None and question.over is not None:
        ends = [t.written for t in (question.sent, question.received) if t is not None]
        parts.append(f"{' -> '.join(ends)} > {question.over:g}")
    for name, value in question.filters.items():
        if name not in without:
            parts.append(f'{name}:"{value}"' if re.search(r"\s", value) else f"{name}:{value}")
    return " ".join(parts)
