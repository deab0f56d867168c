"""FrameNet as distributed: which sentences are selected, and what becomes of them in a store."""

from __future__ import annotations

import functools
import re
import tarfile
from collections import Counter
from pathlib import Path

import pytest
import tiny
from helpers import write_rows

import attnstore
from attnstore.annotation.annotate import annotate
from attnstore.datasets import corpora, framenet
from attnstore.datasets.framenet import AS_PUBLISHED, PAPER, Rule
from attnstore.errors import DatasetError, UsageError

SUBSET = Path(__file__).parents[3] / "shared" / "data" / "framenet" / "fndata-1.5-subset.tar.xz"
NS = 'xmlns="http://framenet.icsi.berkeley.edu"'


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The subset of FrameNet 1.5, unpacked."""
    if not SUBSET.exists():
        pytest.skip(f"{SUBSET} is not on this machine")
    folder = tmp_path_factory.mktemp("framenet")
    with tarfile.open(SUBSET) as archive:
        archive.extractall(folder, filter="data")
    return folder / "fndata-1.5"


def _xml(folder: Path, text: str, target: str, elements: dict[str, str]) -> Path:
    """A release of one frame (Core: A, B; core set: B, C) and one sentence."""
    for part in ("lu", "frame"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "frame" / "F.xml").write_text(
        f'<frame {NS} name="F"><FE name="A" coreType="Core"/><FE name="B" coreType="Core"/>'
        '<FE name="C" coreType="Peripheral"/><FEcoreSet><memberFE name="B"/><memberFE name="C"/></FEcoreSet></frame>'
    )
    place = {
        part: (text.index(part), text.index(part) + len(part) - 1)
        for part in (target, *elements.values())
    }
    labels = "".join(
        f'<label name="{name}" start="{place[part][0]}" end="{place[part][1]}"/>'
        for name, part in elements.items()
    )
    (folder / "lu" / "lu1.xml").write_text(
        f'<lexUnit {NS} frame="F"><subCorpus><sentence ID="1"><text>{text}</text>'
        '<annotationSet status="UNANN"><layer name="BNC" rank="1"/></annotationSet>'
        f'<annotationSet status="MANUAL"><layer name="FE" rank="1">{labels}<label name="B" itype="CNI"/></layer>'
        f'<layer name="Target" rank="1"><label name="Target" start="{place[target][0]}" end="{place[target][1]}"/></layer>'
        "</annotationSet></sentence></subCorpus></lexUnit>"
    )
    return folder


selected = functools.cache(framenet.select)


@pytest.mark.parametrize(
    ("rule", "count"),
    [
        (AS_PUBLISHED, 228),
        (Rule(core_sets=False, distance=3, every_element=True), 427),
        (Rule(core_sets=True, distance=2, every_element=False), 447),
        (PAPER, 696),
    ],
)
def test_selections_have_the_counts_of_the_reference(release: Path, rule: Rule, count: int) -> None:
    assert len(selected(release, rule)) == count


def test_selected_sentences_keep_the_rule_of_the_paper(release: Path) -> None:
    """At most 12 tokens, elements at most 3, core ones at least two tokens from the target."""
    for exemplar in selected(release, PAPER):
        words = exemplar.text.split(" ")
        assert len(words) <= 12
        starts = [len(" ".join(words[:n])) + (n > 0) for n in range(len(words))]
        place = {c: n for n, s in enumerate(starts) for c in range(s, s + len(words[n]))}
        target = {place[c] for a, b in exemplar.targets for c in range(a, b) if c in place}
        for element in exemplar.elements:
            own = {place[c] for c in range(element.start, element.end) if c in place}
            assert len(own) <= 3
            assert not element.core or min(abs(a - b) for a in own for b in target) >= 2


@pytest.mark.parametrize(
    ("text", "elements", "paper", "published"),
    [
        ("she then was just GOES", {"A": "she"}, True, False),  # core by type, in no core set
        ("she then was just GOES", {"B": "she"}, True, True),
        ("she then was just GOES", {"C": "she"}, False, True),  # in the core set, not core by type
        ("she then was just GOES", {"B": "she", "A": "just"}, False, False),  # a core one beside it
        ("she then was just GOES", {"B": "she", "C": "just"}, True, False),  # one that is not core
        ("she then was just GOES", {"B": "she", "A": "was"}, True, False),  # two tokens away
        ("a very long name then was just GOES", {"B": "a very long name"}, False, False),
        ("a very long name then was just GOES", {"B": "a very long"}, True, True),
        ("she then was just GOES", {}, False, False),
    ],
)
def test_each_condition_of_a_rule_decides(
    tmp_path: Path, text: str, elements: dict[str, str], paper: bool, published: bool
) -> None:
    folder = _xml(tmp_path, text, "GOES", elements)
    counts = [len(framenet.select(folder, rule)) for rule in (PAPER, AS_PUBLISHED)]
    assert counts == [paper, published]


def test_a_sentence_of_thirteen_tokens_is_too_long(tmp_path: Path) -> None:
    twelve = "she b c d e f g h i j k GOES"
    assert len(framenet.select(_xml(tmp_path, twelve, "GOES", {"B": "she"}), PAPER)) == 1
    assert framenet.select(_xml(tmp_path, twelve + " .", "GOES", {"B": "she"}), PAPER) == []


@pytest.mark.slow
def test_a_release_is_a_dataset_labelled_with_frames(release: Path) -> None:
    found = corpora.load(f"framenet:{release}")
    assert (found.name, found.frame.height, found.label_column) == ("framenet", 696, "label")
    agitated = found.frame.filter(text="He was becoming agitated .")
    assert agitated["label"].to_list() == ["Emotion_directed"]
    published = corpora.load(f"framenet-as-published:{release}=notebook")
    assert (published.name, published.frame.height) == ("notebook", 228)
    assert "He was becoming agitated ." in published.frame["text"].to_list()
    with pytest.raises(UsageError, match="has no splits"):
        corpora.load(f"framenet:{release}", split="train")


@pytest.mark.slow
def test_frames_of_a_dataset_become_links_between_tokens(release: Path, tmp_path: Path) -> None:
    """One link per core element; he is linked to agitated; a text annotated twice takes each in turn."""
    model = tiny.make(tmp_path / "tiny", "bert")
    (run,) = attnstore.ingest(
        tmp_path / "s", str(model), f"framenet:{release}", max_length=64, layers=(0,)
    )
    summary = annotate(tmp_path / "s", "framenet", f"framenet:{release}")
    exemplars = selected(release, PAPER)
    store = attnstore.open(tmp_path / "s")
    core = Counter(
        f"{e.frame}/{x.name}" for e in exemplars for x in e.elements if x.core for _ in e.targets
    )
    held = store.sql("SELECT label, count(*) FROM link_tokens WHERE kind = 'frame' GROUP BY ALL")
    assert dict(held.iter_rows()) == dict(core)
    assert summary.links == sum(core.values())
    (row,) = store.sql(
        "SELECT l.label, list_select(i.tokens, list_transform(l.from_positions, lambda p: p + 1)) AS element, "
        "list_select(i.tokens, list_transform(l.to_positions, lambda p: p + 1)) AS target FROM link_tokens l "
        "JOIN inputs i USING (run, example) JOIN examples e USING (dataset, example) "
        "WHERE l.run = $run AND e.text = 'He was becoming agitated .'",
        run=run.run,
    ).iter_rows()
    assert row[0] == "Emotion_directed/Experiencer"
    assert re.sub("##", "", "".join(row[1])) == "he"
    assert re.sub("##", "", "".join(row[2])) == "agitated"
    wrong = store.sql(
        "SELECT e.text, e.label, s.label FROM spans s JOIN examples e USING (dataset, example) "
        "WHERE s.kind = 'frame_target' AND s.label <> e.label"
    )
    assert wrong.is_empty()


def test_words_have_the_parts_of_speech_of_either_tag_set(tmp_path: Path) -> None:
    """PRP is a preposition to the British National Corpus and a pronoun to Penn; FrameNet has both."""
    folder = _xml(tmp_path, "she then was in GOES", "GOES", {"B": "she"})
    unit = folder / "lu" / "lu1.xml"
    text, empty = unit.read_text(), '<layer name="BNC" rank="1"/>'
    tags = {"BNC": ("PNP", "AV0", "VBD", "PRP"), "PENN": ("PRP", "rb", "VBD", "in")}
    for layer, names in tags.items():
        starts = (0, 4, 9, 13)
        labels = "".join(
            f'<label name="{name}" start="{start}" end="{start + len(word) - 1}"/>'
            for name, start, word in zip(
                names, starts, text.split("<text>")[1].split(), strict=False
            )
        )
        unit.write_text(text.replace(empty, f'<layer name="{layer}" rank="1">{labels}</layer>'))
        (exemplar,) = framenet.select(folder, PAPER)
        words = {exemplar.text[w.start : w.end]: w.upos for w in exemplar.words}
        be = (
            "AUX" if layer == "BNC" else "VERB"
        )  # FrameNet's VBD is "be" in one, any verb in the other
        assert words == {"she": "PRON", "then": "ADV", "was": be, "in": "ADP"}


@pytest.mark.slow
def test_every_selected_sentence_of_the_release_has_its_words(release: Path) -> None:
    """No word with a letter or digit is left without a part of speech, or called punctuation."""
    for exemplar in selected(release, PAPER):
        tagged = {exemplar.text[w.start : w.end]: w.upos for w in exemplar.words}
        words = [word for word in exemplar.text.split() if any(map(str.isalnum, word))]
        assert "PUNCT" not in [tagged[word] for word in words]


def test_a_folder_that_is_no_release_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no FrameNet release: it has no lu/\*\.xml"):
        corpora.load(f"framenet:{tmp_path}")
    folder = _xml(tmp_path, "she b c GOES", "GOES", {"B": "she"})
    (folder / "lu" / "lu2.xml").write_text("<lexUnit><cut")
    with pytest.raises(DatasetError, match=r"lu2\.xml cannot be read .*; unpack FrameNet again"):
        framenet.select(folder, PAPER)


def test_a_dataset_without_its_sentences_cannot_take_them(tmp_path: Path) -> None:
    model = tiny.make(tmp_path / "tiny", "bert")
    rows = write_rows(tmp_path / "other.jsonl", [{"text": "the dog"}])
    attnstore.ingest(tmp_path / "s", str(model), str(rows), max_length=64)
    folder = _xml(tmp_path / "fn", "she b c GOES", "GOES", {"B": "she"})
    with pytest.raises(DatasetError, match="No text of the dataset is a selected sentence"):
        annotate(tmp_path / "s", "other", f"framenet:{folder}")
