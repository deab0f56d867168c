"""Reading text: every source gives the same frame, and bad input one sentence."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnstore.datasets import corpora
from attnstore.errors import DatasetError, UsageError

SHARED = Path(__file__).parents[3] / "shared" / "data"
ROWS: dict[str, Any] = {
    "sentence1": ["a b", "c"],
    "sentence2": ["d", "e f"],
    "label": [1, 0],
    "idx": [0, 1],
}


def write(path: Path, content: str | bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def parquet(path: Path, rows: dict[str, Any] | None = None) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows or ROWS).write_parquet(path)
    return str(path)


def message(spec: object, **options: str) -> str:
    """The one sentence of the DatasetError that loading `spec` raises."""
    with pytest.raises(DatasetError) as caught:
        corpora.load(str(spec), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The frame ---------------------------------------------------------------------------------------


def test_a_frame_has_every_row_in_source_order(tmp_path: Path) -> None:
    found = corpora.load(parquet(tmp_path / "x.parquet"))
    assert found.frame.schema == {
        "example": pl.Int64,
        "text": pl.String,
        "text_pair": pl.String,
        "label": pl.String,
    }
    assert found.frame.rows() == [(0, "a b", "d", "1"), (1, "c", "e f", "0")]
    assert (found.name, found.split) == ("x", None)
    assert found.source == str(tmp_path / "x.parquet")


CELLS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    [
        "",
        " ",
        '"',
        'a "b", c',
        "line\nline",
        "cr\r\nlf",
        "\r",
        "\ufeffbom",
        "\u2028",
        "007",
        "\0",
        "é",
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS, st.none() | CELLS), min_size=1, max_size=6))
def test_a_source_format_changes_neither_frame_nor_fingerprint(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str | None]]
) -> None:
    folder = tmp_path_factory.mktemp("formats")
    table = pl.DataFrame(
        rows,
        schema={"sentence1": pl.String, "sentence2": pl.String, "label": pl.String},
        orient="row",
    )
    table.write_parquet(folder / "x.parquet")
    table.write_ndjson(folder / "x.jsonl")
    table.write_csv(folder / "polars.csv", quote_style="always")
    write(folder / "x.json", json.dumps(table.to_dicts()))
    with open(folder / "python.csv", "w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([table.columns, *rows])
    loaded = [corpora.load(str(path)) for path in sorted(folder.iterdir())]
    expected = [(n, a or None, b or None, c or None) for n, (a, b, c) in enumerate(rows)]
    assert [d.frame.rows() for d in loaded] == [expected] * 5
    assert len({d.fingerprint for d in loaded}) == 1


def test_a_fingerprint_tells_apart_where_a_text_ends() -> None:
    """Moving a character to the next row or column is another data set; so is another order."""

    def fingerprint(*rows: tuple[str | None, str | None]) -> str:
        text, label = zip(*rows, strict=True)
        frame = pl.DataFrame(
            {"text": text, "text_pair": [None] * len(rows), "label": label},
            schema=dict.fromkeys(("text", "text_pair", "label"), pl.String),
        ).with_row_index("example")
        return corpora._fingerprint(frame.cast({"example": pl.Int64}))

    variants = [
        fingerprint(("ab", "c"), ("d", None)),
        fingerprint(("a", "c"), ("bd", None)),
        fingerprint(("ab", None), ("d", "c")),
        fingerprint(("abc", None), ("d", None)),
        fingerprint(("d", None), ("ab", "c")),
        fingerprint(("ab", "c")),
    ]
    assert len(set(variants)) == len(variants)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pl.Series([1, -1]), ["1", "-1"]),
        (pl.Series([3.8, 5.0]), ["3.8", "5.0"]),
        (pl.Series([3.8, 5.0], dtype=pl.Float32), ["3.8", "5.0"]),
        (pl.Series([True, None]), ["true", None]),
        (pl.Series(["x", ""], dtype=pl.Categorical), ["x", None]),
    ],
)
def test_labels_become_the_shortest_strings(
    tmp_path: Path, values: pl.Series, expected: list[str | None]
) -> None:
    pl.DataFrame({"text": ["a", "b"], "label": values}).write_parquet(tmp_path / "x.parquet")
    assert corpora.load(str(tmp_path / "x.parquet")).frame["label"].to_list() == expected


@pytest.mark.parametrize(("text", "pair"), [*corpora.PAIRS, ("sentence", None), ("text", None)])
def test_known_columns_are_recognised(tmp_path: Path, text: str, pair: str | None) -> None:
    rows: dict[str, Any] = {"idx": [7], text: ["t"]} | ({pair: ["p"]} if pair else {})
    found = corpora.load(parquet(tmp_path / "x.parquet", rows))
    assert (found.text_column, found.pair_column, found.label_column) == (text, pair, None)
    assert found.frame.row(0) == (0, "t", "p" if pair else None, None)


def test_columns_can_be_chosen(tmp_path: Path) -> None:
    """`text` alone means single sentences; `pair` alone joins the text that is recognised."""
    path = parquet(tmp_path / "x.parquet", {**ROWS, "gold": ["p", "q"], "other": ["y", "z"]})
    single = corpora.load(path, text="sentence2", label="gold").frame
    assert single.rows() == [(0, "d", None, "p"), (1, "e f", None, "q")]
    assert corpora.load(path, pair="other").frame.row(1) == (1, "c", "z", "0")
    assert corpora.load(path, text="other", pair="gold").frame.row(0) == (0, "y", "p", "1")


def test_a_missing_column_names_the_near_ones(tmp_path: Path) -> None:
    said = message(parquet(tmp_path / "x.parquet"), text="sentense1")
    assert "no column 'sentense1' (it has sentence1, sentence2, label, idx)" in said
    assert "did you mean sentence1" in said


def test_columns_that_do_not_fit_are_listed_with_the_options(tmp_path: Path) -> None:
    said = message(write(tmp_path / "x.csv", "body,stars\nfine,5\n"))
    assert "(it has body, stars)" in said
    assert "--text, --pair and --label" in said


def test_text_and_labels_must_hold_text_and_labels(tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", {"text": [["a", "b"]], "n": [1], "body": ["a"]})
    assert "column 'text' of " in message(path)
    assert "holds List(String), not text; choose another of text, n, body with --text" in message(
        path
    )
    assert "holds Int64, not text" in message(path, text="body", pair="n")
    assert "not labels; choose another of text, n, body with --label" in message(
        path, text="body", label="text"
    )


def test_a_nested_label_column_is_no_label_unless_asked_for(tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", {"text": ["a"], "label": [[0, 1]]})
    assert corpora.load(path).label_column is None


# Which rows are run ------------------------------------------------------------------------------


def test_rows_without_text_are_counted_and_kept_out(tmp_path: Path) -> None:
    """A first text is needed; without a second one a row is a single sentence, one of white space is none."""
    path = write(tmp_path / "x.csv", 'sentence1,sentence2\na,b\n" ",b\na,\na,"\u3000"\nc,d\n')
    pairs = corpora.load(path)
    assert (pairs.frame.height, pairs.empty) == (5, 2)
    assert pairs.select(None, 0).tolist() == [0, 2, 4]
    assert corpora.load(path, text="sentence1").select(None, 0).tolist() == [0, 2, 3, 4]


def test_a_limit_draws_a_seeded_sample_in_order(tmp_path: Path) -> None:
    found = corpora.load(write(tmp_path / "x.txt", "a\n\n" * 50))
    even = list(range(0, 100, 2))
    chosen = found.select(10, 7)
    assert chosen.dtype == np.int64
    assert chosen.tolist() == sorted(random.Random(7).sample(even, 10))
    assert found.select(50, 7).tolist() == found.select(None, 0).tolist() == even
    with pytest.raises(UsageError, match="limit is 0"):
        found.select(0, 0)


# Names and places --------------------------------------------------------------------------------


def test_a_spec_may_end_in_a_name(tmp_path: Path) -> None:
    path = write(tmp_path / "some file.txt", "a")
    assert corpora.load(f"{path}=mine").name == "mine"
    assert corpora.load(path).name == "some-file"


def test_an_equals_sign_in_an_existing_path_belongs_to_the_path(tmp_path: Path) -> None:
    path = write(tmp_path / "fold=1" / "x=y.txt", "a")
    assert corpora.load(path).name == "x-y"
    assert corpora.load(f"{path}=short").name == "short"


@pytest.mark.parametrize("name", ["", "two words", "-dash"])
def test_a_name_must_be_a_name(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "x.txt", "a")
    with pytest.raises(UsageError, match="cannot be a name"):
        corpora.load(f"{path}={name}")


def test_the_sample_holds_pairs_and_single_sentences() -> None:
    pairs, singles = corpora.load("sample/pairs"), corpora.load("sample/sentences")
    both = corpora.load("sample")
    assert (both.name, pairs.name, singles.name) == ("sample", "sample-pairs", "sample-sentences")
    columns = ["text", "text_pair", "label"]
    assert both.frame[columns].equals(pl.concat([pairs.frame[columns], singles.frame[columns]]))
    assert pairs.frame["text_pair"].null_count() == 0
    assert singles.pair_column is None
    assert singles.frame["text_pair"].null_count() == 100
    assert both.empty == 0
    assert len(both.select(None, 0)) == both.frame.height == 300
    assert both.frame["label"].null_count() == 0


def test_a_file_and_the_sample_have_no_splits(tmp_path: Path) -> None:
    for spec in ("sample", write(tmp_path / "x.txt", "a")):
        with pytest.raises(UsageError, match="has no splits"):
            corpora.load(spec, split="train")


def test_a_folder_gives_validation_unless_told(tmp_path: Path) -> None:
    parquet(tmp_path / "rte" / "validation.parquet")
    write(tmp_path / "rte" / "train.tsv", 'sentence\tlabel\nsay "a\t1\n')
    found = corpora.load(str(tmp_path / "rte"))
    assert (found.name, found.split, found.frame.height) == ("rte", "validation", 2)
    train = corpora.load(str(tmp_path / "rte"), split="train")
    assert (train.split, train.frame.row(0)) == ("train", (0, 'say "a', None, "1"))
    assert "no split 'tran'; choose one of train, validation" in message(
        tmp_path / "rte", split="tran"
    )


def test_a_folder_with_one_split_gives_that_one(tmp_path: Path) -> None:
    parquet(tmp_path / "mnli" / "validation_matched.parquet")
    parquet(tmp_path / "mnli" / "validation_mismatched.parquet")
    parquet(tmp_path / "ax" / "test.parquet")
    assert corpora.load(str(tmp_path / "mnli")).split == "validation_matched"
    assert corpora.load(str(tmp_path / "ax")).split == "test"


@pytest.mark.parametrize("data", ["", "data"])
def test_a_folder_in_the_hubs_layout_joins_its_shards(tmp_path: Path, data: str) -> None:
    first = parquet(tmp_path / data / "train-00000-of-00002.parquet", {"text": ["a"]})
    assert "train-00000-of-00002.parquet; name one file, or add" in message(tmp_path)
    parquet(tmp_path / data / "train-00001-of-00002.parquet", {"text": ["b"]})
    assert corpora.load(str(tmp_path)).frame["text"].to_list() == ["a", "b"]
    assert corpora.load(first).frame["text"].to_list() == ["a"]
    parquet(tmp_path / data / "train-00001-of-00002.parquet", {"body": ["b"]})
    assert "the shards of split 'train' of folder" in message(tmp_path)


def test_a_split_in_two_formats_is_not_guessed(tmp_path: Path) -> None:
    parquet(tmp_path / "validation.parquet")
    write(tmp_path / "validation.txt", "a")
    assert "it is validation.parquet, validation.txt; name one file" in message(tmp_path)


def test_a_folder_saved_by_datasets_is_read(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict(ROWS)
    datasets.DatasetDict(train=rows, validation=rows.select([1])).save_to_disk(tmp_path / "dict")
    rows.select([1, 0]).save_to_disk(tmp_path / "one")
    found = corpora.load(str(tmp_path / "dict"))
    assert (found.split, found.frame.rows()) == ("validation", [(0, "c", "e f", "0")])
    one = corpora.load(str(tmp_path / "one"))
    assert (one.split, one.frame["text"].to_list()) == ("train", ["c", "a b"])
    assert "choose one of train, validation" in message(tmp_path / "dict", split="test")
    write(tmp_path / "one" / "state.json", "{")
    assert "save_to_disk and cannot be read" in message(tmp_path / "one")


# File formats ------------------------------------------------------------------------------------


def test_csv_keeps_quotes_newlines_and_numbers_as_written(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.csv", '\ufefftext,label\r\n"a ""b""\r\nc, d",007\r\n2012,3.80\r\n\r\n'
    )
    assert corpora.load(path).frame.rows() == [
        (0, 'a "b"\r\nc, d', None, "007"),
        (1, "2012", None, "3.80"),
    ]


def test_a_blank_line_of_a_csv_with_one_column_is_a_row(tmp_path: Path) -> None:
    found = corpora.load(write(tmp_path / "x.csv", "text\na\n\nb\n"))
    assert found.frame["text"].to_list() == ["a", None, "b"]


def test_a_field_may_be_longer_than_pythons_csv_allows(tmp_path: Path) -> None:
    found = corpora.load(write(tmp_path / "x.csv", f"text\n{'a' * 200_000}\n"))
    assert found.frame["text"].str.len_bytes().to_list() == [200_000]


def test_tsv_quotes_are_characters(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", '#1 String\tlabel\r\n"He said\t1\r\na "b" c\r"\t0\r\n')
    found = corpora.load(path, text="#1 String").frame
    assert found["text"].to_list() == ['"He said', 'a "b" c\r"']
    assert found["label"].to_list() == ["1", "0"]


def test_txt_has_a_text_per_line(tmp_path: Path) -> None:
    found = corpora.load(write(tmp_path / "x.txt", "\ufeffa\r\n\nb\u2028c"))
    assert found.frame["text"].to_list() == ["a", None, "b\u2028c"]
    assert found.empty == 1


def test_json_records_may_leave_fields_out(tmp_path: Path) -> None:
    path = write(tmp_path / "x.ndjson", '{"text": "a"}\n\n{"label": 2, "text": "b"}\n')
    assert corpora.load(path).frame.rows() == [(0, "a", None, None), (1, "b", None, "2")]


CONLLU = """# newdoc

# sent_id = 1
# text = As given  here.
1\tAs\t_\t_\t_\t_\t_\t_\t_\t_

# text_en = no text comment
1\tEl\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No
2-3\tdel\t_\t_\t_\t_\t_\t_\t_\t_
2\tde\t_\t_\t_\t_\t_\t_\t_\t_
3\tel\t_\t_\t_\t_\t_\t_\t_\t_
3.1\tGHOST\t_\t_\t_\t_\t_\t_\t_\t_
4\tmar\t_\t_\t_\t_\t_\t_\t_\tX=1|SpaceAfter=No
5\t.\t_\t_\t_\t_\t_\t_\t_\t_
"""


def test_conllu_gives_the_text_comment_or_the_surface_forms(tmp_path: Path) -> None:
    """A multiword token is written once, an empty node not at all, SpaceAfter=No joins."""
    for content in (CONLLU, CONLLU.replace("\n", "\r\n"), CONLLU.rstrip("\n")):
        found = corpora.load(write(tmp_path / "x.conllu", content))
        assert found.frame["text"].to_list() == ["As given  here.", "Eldel mar."]


def test_conllu_says_which_line_is_no_token(tmp_path: Path) -> None:
    path = write(tmp_path / "x.conllu", "1\tA" + "\t_" * 8 + "\nplain text\n")
    assert "x.conllu, line 2: 'plain text' is not a CoNLL-U token" in message(path)


# Bad input ---------------------------------------------------------------------------------------


def test_an_unknown_place_says_what_a_place_is(tmp_path: Path) -> None:
    write(tmp_path / "mrpc.csv", "text\na\n")
    assert f"did you mean {tmp_path}/mrpc.csv?" in message(tmp_path / "mprc.csv")
    assert "did you mean glue/mrpc" in message("mrpc")
    with pytest.raises(UsageError, match="names no path or id"):
        corpora.load("")
    assert "glue/<task> or a Hub id" in message("no/such/folder/x.csv")
    assert "did you mean mrpc" in message("glue/mrcp")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("x.docx", b"", "extension '.docx', and what can be read is .parquet .csv"),
        ("x.txt", b"", "holds no rows"),
        ("x.csv", b"", "holds no rows"),
        ("x.csv", b"text,label\n", "holds no rows"),
        ("x.json", b"[]", "holds no rows"),
        ("x.conllu", b"\n", "holds no rows"),
        ("x.txt", b"ab\xe9c", "not UTF-8 (byte 2 is 0xe9)"),
        ("x.csv", b"text\ncaf\xe9\n", "not UTF-8 (byte 8 is 0xe9)"),
        ("x.csv", b"text,label\na,1\nb\n", "line 3 has 1 fields and the header 2"),
        ("x.csv", b'text,label\na,1\n"b,2\nc,3\n', "begins on line 3 is malformed"),
        ("x.csv", b'text,label\n"a"b,1\n', "begins on line 2 is malformed"),
        ("x.csv", b"text,text\na,b\n", "two columns named 'text'"),
        ("x.tsv", b"text\tlabel\na\t1\nb\t2\t3\n", "line 3 has 3 fields"),
        ("x.jsonl", b'{"text": "a"}\n\n{"text": \n', "line 3: not valid JSON"),
        ("x.jsonl", b'{"text": "a"}\n["b"]\n', "must hold records"),
        ("x.jsonl", b'{"text": "\\ud800"}\n', "line 1: the field 'text' holds \\ud800"),
        (
            "x.jsonl",
            b'{"text": "a"}\n{"text": {"b": 1}}\n',
            "line 2: the field 'text' holds a record",
        ),
        ("x.json", b'[\n{"text": "a"},\n{]', "line 3: not valid JSON"),
        ("x.json", b'{"text": "a"}', "must hold records"),
        ("x.parquet", b"", "not a whole Parquet file"),
        ("x.parquet", b"PAR1 and then nothing", "not a whole Parquet file"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(
    tmp_path: Path, file: str, content: bytes, said: str
) -> None:
    path = write(tmp_path / file, content)
    assert said in message(path)
    assert path in message(path)


def test_a_truncated_parquet_file_is_named(tmp_path: Path) -> None:
    whole = Path(parquet(tmp_path / "x.parquet")).read_bytes()
    path = write(tmp_path / "cut.parquet", whole[: len(whole) // 2])
    assert f"{path} is not a whole Parquet file" in message(path)


def test_a_folder_without_texts_says_what_it_holds(tmp_path: Path) -> None:
    parquet(tmp_path / "mrpc" / "validation.parquet")
    write(tmp_path / "README.md", "x")
    assert "it holds README.md, mrpc: name the folder" in message(tmp_path)


# The Hub -----------------------------------------------------------------------------------------

COMMIT = "a" * 40
CARD = """---
configs:
- {config_name: mrpc, data_files: [{split: train, path: mrpc/train-*},
                                   {split: validation, path: mrpc/validation-*}]}
---
"""


class Hub(BaseHTTPRequestHandler):
    """The part of the Hub's HTTP that loading a data set of Parquet files uses."""

    files: dict[str, bytes]

    def do_GET(self) -> None:
        """Answer a file of the repository, its revision or the tree of a folder."""
        path = self.path.split("?")[0]
        headers = {"X-Error-Code": "RepoNotFound"}
        status, body = (200, b"") if path == "/" else (404, b"{}")
        if found := re.fullmatch(r"/datasets/nyu-mll/glue/resolve/\w+/(.+)", path):
            content = self.files.get(found[1])
            headers = {"X-Error-Code": "EntryNotFound"}
            if content is not None:
                etag = hashlib.sha1(content).hexdigest()
                status, body, headers = 200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
        elif path.startswith("/api/datasets/nyu-mll/glue/revision/"):
            status, body = 200, json.dumps({"id": "nyu-mll/glue", "sha": COMMIT}).encode()
        elif found := re.fullmatch(r"/api/datasets/nyu-mll/glue/tree/\w+/?(.*)", path):
            tree = [{"type": "directory", "oid": "d", "size": 0, "path": "mrpc"}]
            if found[1]:
                tree = [
                    {"type": "file", "oid": name, "size": len(content), "path": name}
                    for name, content in self.files.items()
                    if name.startswith(found[1])
                ]
            status, body = 200, json.dumps(tree).encode()
        self.send_response(status)
        for header, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    """A Hub on this machine with two splits of one task; gives its address."""
    train = Path(parquet(tmp_path / "train.parquet", {**ROWS, "label": [1, 1]})).read_bytes()
    validation = Path(parquet(tmp_path / "validation.parquet", ROWS)).read_bytes()
    Hub.files = {
        "README.md": CARD.encode(),
        "mrpc/train-00000-of-00001.parquet": train,
        "mrpc/validation-00000-of-00001.parquet": validation,
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def elsewhere(spec: str, home: Path, split: str | None = None, **environment: str) -> str:
    """Load in a process of its own, for the Hub's libraries read the environment when imported."""
    code = (
        "import sys; from attnstore import errors; from attnstore.datasets import corpora\n"
        "assert 'datasets' not in sys.modules\n"
        f"try: d = corpora.load({spec!r}, split={split!r})\n"
        "except errors.DatasetError as error: print(error)\n"
        "else: print([d.name, d.source, d.split, d.fingerprint, *d.frame.rows()])\n"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    library = str(Path(corpora.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, "PYTHONPATH": library, "HF_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_hub_gives_what_a_local_file_gives_and_the_cache_lasts(
    hub: str, tmp_path: Path
) -> None:
    """Loaded once from the Hub, a data set is found again when the Hub cannot be reached."""
    local = corpora.load(str(tmp_path / "validation.parquet"))
    expected = str(["mrpc", "glue/mrpc", "validation", local.fingerprint, *local.frame.rows()])
    home = tmp_path / "home"
    assert elsewhere("glue/mrpc", home, HF_ENDPOINT=hub) == expected
    assert elsewhere("glue/mrpc", home, HF_ENDPOINT="http://127.0.0.1:9") == expected
    assert elsewhere("glue/mrpc", home, HF_HUB_OFFLINE="1") == expected
    train = elsewhere("nyu-mll/glue/mrpc", home, split="train", HF_ENDPOINT=hub)
    assert train.startswith("['mrpc', 'nyu-mll/glue/mrpc', 'train', ")


@pytest.mark.parametrize(
    ("spec", "split", "said"),
    [
        ("glue/mrpc", "tset", "glue/mrpc has no split 'tset'; choose one of train, validation"),
        ("nyu-mll/glue/mrp", None, "'mrp' not found. Available: ['mrpc']"),
        ("nobody/nothing", None, "'nobody/nothing' doesn't exist on the Hub or cannot be accessed"),
    ],
)
def test_what_the_hub_does_not_have_is_said(
    hub: str, tmp_path: Path, spec: str, split: str | None, said: str
) -> None:
    assert said in elsewhere(spec, tmp_path / "home", split=split, HF_ENDPOINT=hub)


def test_offline_mode_is_respected_and_named(tmp_path: Path) -> None:
    said = elsewhere("glue/mrpc", tmp_path, HF_HUB_OFFLINE="1")
    assert said == (
        "cannot reach the Hugging Face Hub because HF_HUB_OFFLINE is set, and 'glue/mrpc' is "
        "neither a local file or folder nor in the Hub's cache; give a local file, or unset "
        "HF_HUB_OFFLINE"
    )


def test_a_hub_that_never_answers_is_given_up_soon(tmp_path: Path) -> None:
    """A listener that stays silent stands for a firewall; datasets would retry for longer than
    `elsewhere` waits."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        said = elsewhere("owner/name", tmp_path, HF_ENDPOINT=address, HF_HUB_ETAG_TIMEOUT="1")
    assert said.startswith("cannot reach the Hugging Face Hub, and 'owner/name' is neither")


# Real data ---------------------------------------------------------------------------------------


def shared(path: str) -> str:
    if not (SHARED / path).exists():
        pytest.skip(f"{SHARED / path} is not on this machine")
    return str(SHARED / path)


@pytest.mark.parametrize(
    ("task", "split", "rows", "pair", "labels"),
    [
        ("mrpc", "validation", 408, "sentence2", {"0", "1"}),
        ("rte", "validation", 277, "sentence2", {"0", "1"}),
        ("sst2", "validation", 872, None, {"0", "1"}),
        ("mnli", "validation_matched", 9815, "hypothesis", {"0", "1", "2"}),
        ("stsb", "validation", 1500, "sentence2", {"3.8", "5.0", "0.0"}),
    ],
)
def test_glue_is_read_whole(
    task: str, split: str, rows: int, pair: str | None, labels: set[str]
) -> None:
    found = corpora.load(shared(f"glue/{task}"))
    assert (found.split, found.frame.height, found.empty) == (split, rows, 0)
    assert found.pair_column == pair
    assert labels <= set(found.frame["label"])


def test_conllu_surface_forms_are_the_text_of_real_treebanks(tmp_path: Path) -> None:
    """Without its `# text =` comments English EWT gives the same 2001 texts."""
    path = Path(shared("ud/en_ewt-ud-dev.conllu"))
    given_texts = corpora.load(str(path)).frame["text"]
    bare = re.sub(r"(?m)^# text = .*\n", "", path.read_text(encoding="utf-8"))
    joined = corpora.load(write(tmp_path / "bare.conllu", bare)).frame["text"]
    assert len(given_texts) == 2001
    assert joined.equals(given_texts)
