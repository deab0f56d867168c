"""Parts of speech and dependencies by spaCy: the one home of that library, an optional extra.

A pipeline is a package (en_core_web_sm) or a folder; any label scheme is taken as it comes.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module, metadata, util
from pathlib import Path
from typing import Any

import polars as pl

from attnstore.annotation.annotators.interface import Context, Kind
from attnstore.datasets.annotations import WORDS_VERSION, Annotation, Word
from attnstore.errors import ModelError
from attnstore.storage.files import file_crc32c

DEFAULT = "en_core_web_sm"
_AT_ONCE = 256
_NEEDLESS = ("ner", "entity_ruler", "entity_linker", "lemmatizer", "textcat", "spancat")
"""Parts of a pipeline that are left out, for speed: nothing here reads what they say."""


class SpacyAnnotator:
    """One pipeline. Raises ModelError where spaCy or the pipeline is not installed."""

    def __init__(self, model: str, _: Context) -> None:
        try:
            self._version = metadata.version("spacy")
        except metadata.PackageNotFoundError:
            raise ModelError(
                "spaCy is not installed: `pip install 'attnstore[spacy]'`, then for English "
                f"`python -m spacy download {DEFAULT}`."
            ) from None
        self._folder = _folder(model or DEFAULT)
        self._meta = _meta(self._folder)
        self.source = f"spacy:{self._meta['lang']}_{self._meta['name']}"

    def identity(self) -> str:
        """Describe spaCy's version and the files of the pipeline, which decide the annotation."""
        files = sorted(p for p in self._folder.rglob("*") if p.is_file() and p.suffix != ".pyc")
        sums = [(str(p.relative_to(self._folder)), file_crc32c(p)) for p in files]
        return json.dumps([self.source, self._version, sums, WORDS_VERSION])

    def annotate(self, texts: pl.DataFrame, progress: Callable[[int, int], None]) -> Annotation:
        """Return words with tag, upos, relation and head of every used text."""
        nlp = _loaded(self._folder)
        items = list(_items(texts))
        nlp.max_length = max((len(text) for text, _ in items), default=0) + 1
        annotation = Annotation()
        for n, (doc, (example, segment)) in enumerate(
            nlp.pipe(items, as_tuples=True, batch_size=_AT_ONCE), start=1
        ):
            annotation.words(example, segment, _words(doc))
            if n % _AT_ONCE == 0 or n == len(items):
                progress(n, len(items))
        return annotation


def _items(texts: pl.DataFrame) -> Iterator[tuple[str, tuple[int, int]]]:
    used = texts.filter("used")
    for example, *both in used.select("example", "text", "text_pair").iter_rows():
        for segment, text in enumerate(both):
            if text:
                yield text, (example, segment)


def _words(doc: Iterable[Any]) -> Iterator[Word]:
    """Yield the tokens of a document without those that are white space."""
    tokens = [t for t in doc if not t.is_space]
    numbers = {t.i: n for n, t in enumerate(tokens)}
    for t in tokens:
        head = None if t.head.i == t.i or not t.dep_ else numbers.get(t.head.i)
        yield Word(t.idx, t.idx + len(t.text), t.tag_, t.pos_, t.dep_, head)


def _folder(model: str) -> Path:
    """Return the folder of a pipeline: given as such, or of an installed package."""
    path = os.path.expanduser(model)
    if os.path.isdir(path):
        return Path(path).resolve()
    package = util.find_spec(model) if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", model) else None
    if package is None or not package.submodule_search_locations:
        raise ModelError(
            f"{model!r} is neither the folder of a spaCy pipeline nor an installed one: "
            f"`python -m spacy download {DEFAULT}`, or give a folder as spacy:FOLDER."
        )
    return Path(package.submodule_search_locations[0])


def _meta(folder: Path) -> dict[str, Any]:
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        return {"lang": str(meta["lang"]), "name": str(meta["name"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(
            f"{folder} holds no spaCy pipeline: its meta.json with lang and name cannot be read; "
            "give the folder that spaCy's `to_disk` wrote, or the name of an installed pipeline."
        ) from error


def _loaded(folder: Path) -> Any:
    spacy: Any = import_module("spacy")  # seconds to import, and only needed here
    # A package keeps its data in a folder with the version; loading it by name finds that.
    pipeline = folder if (folder / "config.cfg").exists() else folder.name
    try:
        nlp = spacy.load(pipeline, exclude=list(_NEEDLESS))
    except (OSError, ValueError, ImportError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"The spaCy pipeline {folder} cannot be loaded ({reason}); "
            "`python -m spacy validate` lists the pipelines that fit the installed spaCy."
        ) from error
    if not {"tagger", "morphologizer", "parser", "attribute_ruler"} & set(nlp.pipe_names):
        raise ModelError(
            f"The spaCy pipeline {folder} neither tags nor parses (it has "
            f"{', '.join(nlp.pipe_names) or 'no parts'}); give one that does, such as {DEFAULT}."
        )
    return nlp


KIND = Kind(
    "spacy",
    ("spacy", "spacy:MODEL"),
    f"parts of speech and dependencies by a spaCy pipeline, a package or a folder ({DEFAULT} if none is named)",
    SpacyAnnotator,
    many_sources=True,
)
