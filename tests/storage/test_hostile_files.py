"""Rules of readers for files that nobody meant: one sentence with file and line, and no dead process."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tiny

from attnstore.annotation.annotators import gap
from attnstore.datasets import conllu, corpora, framenet, readers, size_limits, tokenize
from attnstore.errors import AttnstoreError, DatasetError

DEEP, DIGITS = "[" * 100_000, "9" * 5_000
WORD = "1\tA" + "\t_" * 8


def message(path: Path) -> str:
    """The one sentence of the DatasetError that loading `path` raises."""
    with pytest.raises(DatasetError) as caught:
        corpora.load(str(path))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


# JSON --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "said"),
    [
        (DEEP, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        (DIGITS, "an integer of too many digits"),
        ("-" + DIGITS, "an integer of too many digits"),
    ],
)
def test_json_that_python_cannot_hold_is_named(tmp_path: Path, field: str, said: str) -> None:
    """With its line; also in a field that nobody reads."""
    row = f'{{"text": "b", "x": {field}}}'
    found = message(write(tmp_path / "x.jsonl", f'{{"text": "a"}}\n\n{row}\n'))
    assert "x.jsonl, line 3" in found
    assert said in found
    assert said in message(write(tmp_path / "x.json", f"[{row}]"))


def test_numbers_of_any_size_are_labels_or_refused(tmp_path: Path) -> None:
    """Never an OverflowError; the row is named."""
    rows = ['{"text": "a", "label": 1}', '{"text": "b", "label": %s}']
    for number in ("1e999", "-1e999", str(2**64), str(2**127), str(2**200), "1e-999", "NaN"):
        path = write(tmp_path / "x.jsonl", "\n".join(rows) % number)
        try:
            assert corpora.load(str(path)).frame["label"].dtype == pl.String
        except DatasetError as error:
            assert "'label'" in str(error)  # noqa: PT017


# CoNLL-U -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "line", "said"),
    [
        ([f"{DIGITS}\tA" + "\t_" * 8], 1, "is not a CoNLL-U token"),
        ([WORD, f"1-{DIGITS}\tA" + "\t_" * 8], 2, "is not a CoNLL-U token"),
        (["1-999999999\tA" + "\t_" * 8, WORD], 3, "ends with word 999999999, and its last word is 1"),
        (["5-3\tA" + "\t_" * 8, WORD], 1, "does not go from a word to a later one"),
        (["2-2\tA" + "\t_" * 8], 1, "does not go from a word to a later one"),
        ([WORD, "3\tA" + "\t_" * 8], 2, "token 3 comes after word 1"),
        ([WORD, WORD], 2, "token 1 comes after word 1"),
        (["0\tA" + "\t_" * 8], 1, "token 0 comes after word 0"),
        (["1-2\tA" + "\t_" * 8, "1-3\tA" + "\t_" * 8], 2, "token 1-3 comes after word 0"),
        (["\u0661\tA" + "\t_" * 8], 1, "is not a CoNLL-U token"),
        ([WORD + "\t_" * 1000], 1, "is not a CoNLL-U token"),
    ],
)  # fmt: skip
def test_numbers_of_conllu_run_from_1(
    tmp_path: Path, tokens: list[str], line: int, said: str
) -> None:
    """For texts and for trees alike: a number that no sentence has is refused with its line."""
    path = write(tmp_path / "x.conllu", "\n".join([*tokens, "", ""]))
    found = message(path)
    assert f"x.conllu, line {line}: " in found
    assert said in found
    with pytest.raises(DatasetError, match=r"x\.conllu"):
        conllu.trees(readers.lines(path), str(path))


def test_a_comment_of_many_spaces_takes_no_time(tmp_path: Path) -> None:
    """Two million of them, in a moment."""
    path = write(tmp_path / "x.conllu", f"# text = A{' ' * 2_000_000}.\n{WORD}\n")
    with pytest.raises(DatasetError, match="2,000,002 characters"):
        corpora.load(str(path))


# Text --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["txt", "csv", "jsonl", "parquet"])
def test_a_file_on_one_line_is_refused_in_a_sentence(tmp_path: Path, ending: str) -> None:
    """The row, its length, the longest that may be, and what to do."""
    long = "the cat sat " * 1_700_000
    path = tmp_path / f"x.{ending}"
    if ending == "parquet":
        pl.DataFrame({"text": ["a", long]}).write_parquet(path)
    else:
        rows = {"txt": ["a", long], "csv": ["text", "a", long]}
        write(path, "\n".join(rows.get(ending, [json.dumps({"text": t}) for t in ("a", long)])))
    found = message(path)
    assert found.startswith("row 1 of ")
    assert "a text of 20,400,000 characters in column 'text', and one may have 1,000,000" in found


def test_long_texts_are_tokenized_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many rows at once as fit into memory; the tokens are the same."""
    texts = ["the quick brown fox " * n for n in (1, 40, 3, 1, 1, 100, 1)]
    frame = pl.DataFrame(
        {"example": np.arange(7), "text": texts, "text_pair": [None, "a dog"] * 3 + [None]}
    )
    tokenizer = tiny.make_tokenizer("bert")
    whole = tokenize.tokenize(frame, tokenizer, 16)
    monkeypatch.setattr(tokenize, "_CHARACTERS_AT_ONCE", 200)
    assert [len(part) for part in tokenize._batches(frame)] == [1, 1, 3, 1, 1]
    assert tokenize.tokenize(frame, tokenizer, 16).equals(whole)


def test_the_longest_text_is_tokenized() -> None:
    """What a dataset may hold ends in tokens, truncated."""
    text = ("the cat! " * size_limits.CHARACTERS)[: size_limits.CHARACTERS]
    frame = pl.DataFrame(
        {"example": [0], "text": [text], "text_pair": [None]},
        schema_overrides={"text_pair": pl.String},
    )
    found = tokenize.tokenize(frame, tiny.make_tokenizer("bert"), 16)
    assert (found["length"].item(), found["truncated"].item()) == (16, True)


# Others ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", ["x", "\u00b2", "-1", DIGITS, ""])
def test_an_offset_of_gap_is_a_number(tmp_path: Path, offset: str) -> None:
    """Else the row is named."""
    row = ["she said", "she", offset, "A", "0", "TRUE", "B", "0", "FALSE"]
    path = write(tmp_path / "gap.tsv", "\n".join("\t".join(r) for r in (gap.COLUMNS, row)))
    with pytest.raises(DatasetError, match=r"Row 0 of .*gap\.tsv"):
        gap.passages(path)


@pytest.mark.parametrize(
    "unit",
    [
        '<?xml version="1.0" encoding="nonsense"?><lexUnit/>',
        "<a>" * 10_000,
        '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]><lexUnit>&z;</lexUnit>',
        '<lexUnit xmlns="http://framenet.icsi.berkeley.edu" frame="F"><sentence><text>a b</text><annotationSet>'
        f'<layer name="Target" rank="1"><label name="T" start="{DIGITS}" end="1"/></layer></annotationSet></sentence></lexUnit>',
    ],
)  # fmt: skip
def test_a_damaged_file_of_framenet_is_a_sentence(tmp_path: Path, unit: str) -> None:
    """Whatever XML can do."""
    for part in ("lu", "frame"):
        (tmp_path / part).mkdir()
    write(
        tmp_path / "frame" / "F.xml", '<frame xmlns="http://framenet.icsi.berkeley.edu" name="F"/>'
    )
    write(tmp_path / "lu" / "lu1.xml", unit)
    with pytest.raises(DatasetError):
        framenet.select(tmp_path, framenet.PAPER)


SEEDS = {
    ".csv": 'text,label\n"a ""b""",1\nc,2\n',
    ".tsv": "sentence1\tsentence2\tlabel\na\tb\t1\n",
    ".jsonl": '{"text": "a\\u00e9", "label": 1}\n{"text": "b", "label": 2.5, "x": [1, {"y": null}]}\n',
    ".json": '[{"text": "a", "label": true}, {"text": "b"}]',
    ".txt": "a\r\nb\n",
    ".conllu": f"# text = A B\n1-2\tA B{chr(9)}{chr(9).join('_' * 8)}\n{WORD}\n{WORD.replace('1', '2')}\n\n",
}


@pytest.mark.parametrize("ending", SEEDS)
def test_no_bytes_end_in_another_error(tmp_path: Path, ending: str) -> None:
    """Random changes of a good file, and bytes alone: rows, or a sentence."""
    choices, path = random.Random(7), tmp_path / f"x{ending}"
    seed = SEEDS[ending].encode()
    tokens = [
        b"\0",
        b"\xff",
        b'"',
        b"\t",
        b"{",
        b"[[[",
        b"\\ud800",
        b"1-9",
        b"\xef\xbb\xbf",
        b"9" * 5_000,
    ]
    for number in range(400):
        content = bytearray(choices.randbytes(choices.randrange(40)) if number % 8 == 0 else seed)
        for _ in range(choices.randrange(1, 5)):
            at = choices.randrange(len(content) + 1)
            content[at : at + choices.randrange(3)] = choices.choice(tokens)
        path.write_bytes(content)
        try:
            found = corpora.load(str(path)).frame
        except AttnstoreError as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert found.height


def test_sentences_are_what_the_terminal_gets(tmp_path: Path) -> None:
    """From the command, without a traceback; names of fields with half a character included."""
    path = write(tmp_path / "x.jsonl", '{"\\ud800": "a"}\n')
    command = "from attnstore.cli.main import main; main()"
    arguments = ["--store", str(tmp_path / "s"), "ingest", "--model", "m", "--dataset", str(path)]
    tiny.make(tmp_path / "m", "bert")
    done = subprocess.run(
        [sys.executable, "-c", command, *arguments],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert "it has \\ud800" in done.stderr
    assert "Traceback" not in done.stderr
