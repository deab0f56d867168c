"""The bundled dataset `agreement`: English sentences with nouns between a subject and its verb.

Made of the words of data/agreement, always the same for a seed. The nouns between them, attractors,
have all the number of the subject or all the other; they stand in prepositional phrases or in a relative
clause, whose own verb shows no number. After the items of Linzen et al. 2016 and Lin et al. 2019.
"""

from __future__ import annotations

import random
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Any

from attnstore import resources
from attnstore.errors import DatasetError

NAME = "agreement"
NUMBERS = ("singular", "plural")
CONSTRUCTIONS = ("pp", "rc")
"""Prepositional phrases, or a relative clause; a sentence without attractors is `plain`."""
MOST = 4
"""Attractors of a sentence, at most."""
EACH = 40
"""Sentences of each construction, number of attractors and agreement in number."""

_SPEC = re.compile(rf"{NAME}(?::(.*))?")


@dataclass(frozen=True)
class Noun:
    """A noun of a sentence: characters start to end, and its number."""

    start: int
    end: int
    number: str


@dataclass(frozen=True)
class Item:
    """A sentence. verb: characters; subject; attractors, in the order of the text.

    construction: plain, pp or rc; agreement: none (no attractors), match or mismatch in number.
    """

    text: str
    verb: tuple[int, int]
    subject: Noun
    attractors: tuple[Noun, ...]
    construction: str
    agreement: str

    @property
    def label(self) -> str:
        """The kind of sentence, as the dataset labels it."""
        if not self.attractors:
            return self.construction
        return f"{self.construction} {len(self.attractors)} {self.agreement}"


def named(location: str) -> bool:
    """True if a dataset is written as `agreement` or `agreement:SEED`."""
    return _SPEC.fullmatch(location) is not None


@cache
def items(location: str = NAME) -> tuple[Item, ...]:
    """Make the sentences of `agreement` or `agreement:SEED`; the seed is 0 if none is given.

    Raises:
        DatasetError: The seed is no whole number.
    """
    match = _SPEC.fullmatch(location)
    seed = (match and match[1]) or "0"
    if not match or not re.fullmatch("[0-9]{1,9}", seed):
        raise DatasetError(
            f"The seed of {location!r} is no whole number from 0 on; write {NAME} or {NAME}:SEED."
        )
    draw, words = random.Random(int(seed)), _words()
    kinds = [("plain", 0, "none")]
    kinds += [
        (construction, n, agreement)
        for construction in CONSTRUCTIONS
        for n in range(1, MOST + 1)
        for agreement in ("match", "mismatch")
    ]
    made: dict[str, Item] = {}
    for kind in kinds:
        for number in NUMBERS:
            wanted = len(made) + EACH // 2
            while len(made) < wanted:
                item = _item(draw, words, number, *kind)
                made.setdefault(item.text, item)
    return tuple(made.values())


@cache
def _words() -> dict[str, Any]:
    file = resources.agreement_folder() / "words.toml"
    return tomllib.loads(file.read_text("utf-8"))


def _item(
    draw: random.Random, words: dict[str, Any], number: str, construction: str, n: int, agreement: str
) -> Item:  # fmt: skip
    """Make one sentence whose subject has this number."""
    own = NUMBERS.index(number)
    other = own if agreement != "mismatch" else 1 - own
    nouns = draw.sample(words["nouns"], n + 1)
    forms = [nouns[0][own], *(forms[other] for forms in nouns[1:])]
    joints = [f" {p} the " for p in draw.sample(words["prepositions"], MOST)[:n]]
    before_verb = " "
    if construction == "rc":
        past = draw.choice(words["past"])
        if draw.random() < 0.5:
            joints[0] = f" who {past} the "
        else:
            joints[0], before_verb = " that the ", f" {past} "
    text, places = "The ", []
    for form, joint in zip(forms, [*joints, before_verb], strict=True):
        places.append((len(text), len(text) + len(form)))
        text += form + joint
    verb = draw.choice(words["verbs"])[own]
    start = len(text)
    text += f"{verb} {draw.choice(words['endings'])}."
    found = [Noun(*place, NUMBERS[k]) for place, k in zip(places, [own, *[other] * n], strict=True)]
    return Item(
        text, (start, start + len(verb)), found[0], tuple(found[1:]), construction, agreement
    )
