"""Annotators are found by name: those of the package's folder and those of installed packages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import write_rows

import attnstore
from attnstore.annotation import registry
from attnstore.annotation.annotate import annotate, request
from attnstore.errors import UsageError

CODE = '''
"""Marks numbers."""
import re

from attnstore.annotation import Annotation


class Numbers:
    def __init__(self, digits=""):
        self.source, self.digits = "numbers" + (":" + digits if digits else ""), digits or "0-9"

    def identity(self):
        return self.digits

    def annotate(self, texts, progress):
        annotation = Annotation()
        for example, text in texts.select("example", "text").iter_rows():
            numbers = [
                annotation.span(example, 0, *match.span(), number=match[0])
                for match in re.finditer(f"[{self.digits}]+", text)
            ]
            for first, second in zip(numbers, numbers[1:]):
                annotation.link(example, "next", "", first, second)
        progress(len(texts), len(texts))
        return annotation


class Outside(Numbers):
    def annotate(self, texts, progress):
        annotation = Annotation()
        annotation.span(0, 0, 0, 10_000, number="far")
        return annotation


class Loose(Numbers):
    def annotate(self, texts, progress):
        annotation = Annotation()
        annotation.link(0, "next", "", 7, 8)
        return annotation


class Raises(Numbers):
    def annotate(self, texts, progress):
        raise RuntimeError("no disk")


class Rows(Numbers):
    def annotate(self, texts, progress):
        return []


class Taken(Numbers):
    def __init__(self):
        self.source = "conllu"


ready = Numbers()
'''

TEXTS = [{"text": "4 of 25 dogs"}, {"text": "no dog"}]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with annotators, as pip leaves it: a module and its dist-info."""
    site = tmp_path / "site"
    info = site / "markers-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "markers.py").write_text(CODE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: markers\nVersion: 1.0\n")
    names = ("Numbers", "Outside", "Loose", "Raises", "Rows", "Taken", "ready", "Missing")
    lines = "".join(f"{name.lower()} = markers:{name}\n" for name in names)
    lines += "unimportable = no_such_module:x\nempty = markers:re\n"
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{lines}")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "markers", raising=False)


@pytest.fixture
def store(tmp_path: Path, tiny_bert: str) -> Path:
    rows = write_rows(tmp_path / "x.jsonl", TEXTS)
    attnstore.ingest(tmp_path / "s", tiny_bert, str(rows), max_length=32)
    return tmp_path / "s"


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    import tiny

    return str(tiny.make(tmp_path_factory.mktemp("model") / "tiny", "bert"))


def rows(store: Path, sql: str) -> list[tuple[Any, ...]]:
    with attnstore.open(store) as opened:
        return opened.sql(sql).rows()


def test_every_annotator_has_one_file_and_accepts_its_own_forms() -> None:
    """Each form in the help text is accepted, and its name is that of its kind."""
    assert registry.kinds()
    for name, kind in registry.kinds().items():
        for form in kind.forms:
            assert registry.check(form) is kind
            assert form.partition(":")[0] == name
            assert form in registry.forms()


def test_the_page_lists_every_form() -> None:
    """docs/annotation.md names each form that `--with` takes."""
    page = (Path(__file__).parents[2] / "docs" / "annotation.md").read_text("utf-8")
    assert not [
        form for kind in registry.kinds().values() for form in kind.forms if f"`{form}`" not in page
    ]


def test_an_annotator_of_a_package_writes_spans_and_links(store: Path, package: None) -> None:
    """An entry point may name a class; its rows are aligned with tokens like any other's."""
    summary = annotate(store, "x", "numbers")
    assert (summary.source, summary.spans, summary.links) == ("numbers", 2, 1)
    sql = 'SELECT example, "start", "end", label FROM spans ORDER BY ALL'
    assert rows(store, sql) == [(0, 0, 1, "4"), (0, 5, 7, "25")]
    assert rows(store, "SELECT example, kind FROM link_tokens") == [(0, "next")]


def test_an_argument_after_the_colon_reaches_the_annotator(store: Path, package: None) -> None:
    """`NAME:ARGUMENT` makes another annotator, with a source of its own."""
    assert annotate(store, "x", "numbers:4").spans == 1
    assert rows(store, "SELECT DISTINCT source FROM spans") == [("numbers:4",)]


def test_an_entry_point_may_name_a_ready_object(store: Path, package: None) -> None:
    """An object with the three members is used as it is; it takes no argument."""
    assert annotate(store, "x", "ready").spans == 2
    with pytest.raises(UsageError, match=r"takes no argument; leave out '4'\.$"):
        request(store, "x", "ready:4")


def test_a_package_is_imported_only_when_it_is_named(store: Path, package: None) -> None:
    """A mistake lists the annotators of packages without importing them."""
    with pytest.raises(UsageError, match=r"numbers.*; did you mean numbers\?$"):
        request(store, "x", "nubmers")
    assert "markers" not in sys.modules


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "unimportable",
            r"cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("missing", r"of markers\) cannot be loaded: AttributeError"),
        ("empty", r"cannot be loaded: TypeError"),
        ("taken", r"its source 'conllu' is the name of an annotator of attnstore"),
        ("outside", r"gives characters 0 to 10000 of segment 0 of example 0"),
        ("loose", r"gives a link of example 0 with from_span 7, a span that it does not label"),
        ("raises", r"fails in annotate\(\): RuntimeError: no disk"),
        ("rows", r"annotate\(\) gives list, not an Annotation"),
    ],
)
def test_a_broken_annotator_is_one_sentence(
    store: Path, package: None, name: str, said: str
) -> None:
    """Whatever another package does wrong is said with its name, and nothing is stored."""
    with pytest.raises(UsageError, match=said) as caught:
        annotate(store, "x", name)
    assert "\n" not in str(caught.value)
    assert rows(store, "SELECT * FROM spans") == []
