"""FrameNet as distributed (fndata-1.5, fndata-1.7): short sentences with frame elements.

Reads lu/*.xml (annotated sentences, their words' tags) and frame/*.xml (which elements are core);
needs no network.
The selection is section 4.2 of Kovaleva et al. 2019, by the paper's words or its notebook's code.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as Xml

from attnstore.datasets import framenet_tags
from attnstore.errors import DatasetError

_NS = "{http://framenet.icsi.berkeley.edu}"
MAX_TOKENS = 12
"""A sentence may have that many tokens (FrameNet's texts are spaced: white space separates them)."""
MAX_ELEMENT = 3
"""An element, core or not, may have that many tokens."""


@dataclass(frozen=True)
class Rule:
    """Rule that selects sentences, besides their lengths; one core element must be there.

    core_sets: core elements are the members of the frame's core sets, not those of type Core;
    distance: tokens from target to element (1: neighbors) that are asked for at least;
    every_element: also of elements that are not core.
    """

    core_sets: bool
    distance: int
    every_element: bool


PAPER = Rule(core_sets=False, distance=2, every_element=False)
AS_PUBLISHED = Rule(core_sets=True, distance=3, every_element=True)
RULES = {"framenet": PAPER, "framenet-as-published": AS_PUBLISHED}
"""By the word that stands before `:FOLDER` where a dataset is named."""


@dataclass(frozen=True)
class Element:
    """A frame element in a text: characters start to end; core as the rule understands it."""

    name: str
    start: int
    end: int
    core: bool


@dataclass(frozen=True)
class Tagged:
    """A word of a text: characters start to end, and its universal part of speech."""

    start: int
    end: int
    upos: str


@dataclass(frozen=True)
class Exemplar:
    """One annotation of a sentence: a frame, its target (in one or more parts), its elements.

    words: the tagged words of the sentence; empty if FrameNet has no tags for it.
    """

    frame: str
    text: str
    targets: tuple[tuple[int, int], ...]
    elements: tuple[Element, ...]
    words: tuple[Tagged, ...] = ()


def find(folder: str) -> Path:
    """Return the folder of a FrameNet release. Raises DatasetError if it is none."""
    path = Path(os.path.expanduser(folder))
    for part in ("lu", "frame"):
        if not any((path / part).glob("*.xml")):
            raise DatasetError(
                f"{path} is no FrameNet release: it has no {part}/*.xml; give the folder fndata-1.5 "
                "or fndata-1.7 as it was unpacked"
            )
    return path


def listing(folder: Path) -> list[tuple[str, int]]:
    """Return name and size of the files that are read."""
    files = [*_files(folder, "lu"), *_files(folder, "frame")]
    return [(str(f.relative_to(folder)), f.stat().st_size) for f in files]


def select(folder: Path, rule: Rule) -> list[Exemplar]:
    """Return the annotations of sentences that the rule takes, by file and in the files' order."""
    cores = dict(_core(file, rule) for file in _files(folder, "frame"))
    exemplars = (e for file in _files(folder, "lu") for e in _exemplars(file, cores))
    return [exemplar for exemplar in exemplars if _taken(exemplar, rule)]


def _files(folder: Path, part: str) -> list[Path]:
    return sorted((folder / part).glob("*.xml"))


def _root(file: Path) -> Xml.Element:
    try:
        return Xml.parse(file).getroot()
    except (Xml.ParseError, OSError, ValueError, LookupError, MemoryError) as error:
        raise DatasetError(f"{file} cannot be read ({error}); unpack FrameNet again") from error


def _core(file: Path, rule: Rule) -> tuple[str, frozenset[str]]:
    """Return a frame's name and its core elements."""
    frame = _root(file)
    if rule.core_sets:
        names = [e.get("name", "") for e in frame.iterfind(f"{_NS}FEcoreSet/{_NS}memberFE")]
    else:
        elements = frame.iterfind(f"{_NS}FE")
        names = [e.get("name", "") for e in elements if e.get("coreType") == "Core"]
    return frame.get("name", ""), frozenset(names)


def _exemplars(file: Path, cores: dict[str, frozenset[str]]) -> Iterator[Exemplar]:
    """Yield the annotated sentences of a lexical unit that are short enough."""
    unit = _root(file)
    frame = unit.get("frame", "")
    for sentence in unit.iter(f"{_NS}sentence"):
        text = (sentence.findtext(f"{_NS}text") or "").rstrip()
        if len(text.split()) > MAX_TOKENS:
            continue
        words = _words(sentence)
        for annotation in sentence.iterfind(f"{_NS}annotationSet"):
            targets = tuple((start, end) for _, start, end in _labels(annotation, "Target"))
            if targets:
                elements = tuple(
                    Element(name, start, end, name in cores.get(frame, ()))
                    for name, start, end in _labels(annotation, "FE")
                )
                yield Exemplar(frame, text, targets, elements, words)


def _words(sentence: Xml.Element) -> tuple[Tagged, ...]:
    """Return the words of a sentence by the first layer of tags that has any."""
    for annotation in sentence.iterfind(f"{_NS}annotationSet"):
        for layer in framenet_tags.LAYERS:
            if labels := list(_labels(annotation, layer)):
                return tuple(
                    Tagged(s, e, framenet_tags.universal(layer, tag)) for tag, s, e in labels
                )
    return ()


def _labels(annotation: Xml.Element, layer: str) -> Iterator[tuple[str, int, int]]:
    """Yield name, start and end of the labels of a layer, its first rank; those without text left out.

    Ranks above the first annotate the same words a second time.
    """
    for rank in annotation.iterfind(f"{_NS}layer[@name='{layer}']"):
        for label in rank.iterfind(f"{_NS}label") if rank.get("rank") == "1" else ():
            if label.get("start") is not None:
                start, end = (_character(label.get(key, "0")) for key in ("start", "end"))
                yield label.get("name", ""), start, end + 1


def _character(number: str) -> int:
    """Return a place in a text. Raises DatasetError for what is none."""
    if not re.fullmatch(r"\d{1,9}", number, re.ASCII):
        raise DatasetError(
            f"FrameNet says that a label begins or ends at character {number[:20]!r}, which is no "
            "number; unpack it again"
        )
    return int(number)


def _taken(exemplar: Exemplar, rule: Rule) -> bool:
    tokens = [match.span() for match in re.finditer(r"\S+", exemplar.text)]
    target = [t for part in exemplar.targets for t in _overlapped(tokens, *part)]
    elements = [(e, _overlapped(tokens, e.start, e.end)) for e in exemplar.elements]
    return (
        any(e.core for e, _ in elements)
        and all(len(own) <= MAX_ELEMENT for _, own in elements)
        and all(
            _distance(target, own) >= rule.distance
            for e, own in elements
            if e.core or rule.every_element
        )
    )


def _overlapped(tokens: Iterable[tuple[int, int]], start: int, end: int) -> list[int]:
    return [n for n, (a, b) in enumerate(tokens) if a < end and start < b]


def _distance(target: list[int], element: list[int]) -> int:
    """Return tokens from the one to the other: 1 for neighbors, 0 if they overlap or one has none."""
    return min((abs(a - b) for a in target for b in element), default=0)
