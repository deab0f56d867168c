"""Generate docs/sql.md from the comments in `sql/` and the engine's catalog.

python -m attnstore.apps.sql_reference [FILE]
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click

from attnstore import store
from attnstore.query import analyses
from attnstore.query.analyses import Analysis
from attnstore.resources import sql_files
from attnstore.storage import location

FILE = Path("docs/sql.md")

_FIRST = (
    "runs", "models", "datasets", "examples", "inputs", "tokens", "map_stats", "map_measures", "offsets",
    "maps", "attention", "received", "blocks", "array_blocks", "ingests",
)  # fmt: skip
"""Views to list first, in reading order; the others follow by name."""

_INTRODUCTION = """\
# SQL reference

Written by `python -m attnstore.apps.sql_reference` from the comments in `sql/`; a test compares the two.

## How to ask

`attnstore sql "…"` on the command line, `store.sql("…", name=value)` in Python: DuckDB's SQL over the
views below. A query reads; it cannot write, and it sees no other file.

**Everything counts from 0**: layers, heads, positions, examples (row numbers in the source split).
Papers count layers and heads from 1. Only DuckDB's lists count from 1, so in `maps` the weight from
position i to position j is `weights[i * length + j + 1]`.

**Take the smallest view that answers.** `map_stats` has ten measures of every map and reads no
weights at all:

```sql
SELECT layer, head, avg(entropy) AS entropy, count(*) AS n
FROM map_stats
WHERE run = 'minilm/sample'
GROUP BY layer, head
ORDER BY entropy
LIMIT 3
```

`received` has one number per token and head instead of one per pair of tokens:

```sql
SELECT r.layer, t.kind, avg(r.weight) AS weight
FROM received r
JOIN tokens t USING (run, example, position)
WHERE run = 'minilm/sample'
GROUP BY ALL
ORDER BY ALL
```

`attention` has every weight with its two tokens. It streams: any number of inputs of any length, in
the memory of a few rows of maps:

```sql
SELECT to_token, weight
FROM attention
WHERE run = 'minilm/sample' AND example = 0 AND layer = 1 AND head = 3 AND from_token = '[CLS]'
ORDER BY weight DESC
LIMIT 5
```

`maps` has a whole map as a list, for a few thousand maps at a time, and DuckDB's list functions work
on it (`list_sum`, `list_max`, `list_dot_product`, `list_cosine_similarity`, …):

```sql
SELECT a.head, b.head AS other, list_cosine_similarity(a.weights, b.weights) AS cosine
FROM maps a
JOIN maps b USING (run, example, layer)
WHERE run = 'minilm/sample' AND example = 0 AND layer = 0 AND a.head < b.head
ORDER BY cosine DESC
```

**Join first, read last.** Conditions on `run`, `example`, `layer` and `head`, and joins with
`tokens`, `examples` or `map_stats`, are settled in the index; only the maps that survive are read
from the arrays. A condition on `from_pos` spares the other rows of a map; one on `to_pos` or on
`weight` is applied to what was read. Name the run: without it, a query goes over every run.

**A named analysis is a table**, so it can be sorted, joined and cut down; its parameters go by name:

```sql
SELECT layer, head, type, e.mean AS entropy
FROM head_types(run := 'minilm/sample')
JOIN head_entropy(run := 'minilm/sample') e USING (layer, head)
ORDER BY entropy
LIMIT 10
```

**Random weights beside a result.** `attnstore ingest --random-weights --seed 0,1,2` with the model and
dataset of a run captures its twins: the same configuration, tokenizer and inputs, with weights as
the architecture initializes them. Analyses with a band then have `random_low` and `random_high`, the lowest
and highest value over the twins, NULL without one. View `random_twins` names them:

```sql
SELECT layer, head, mean, random_low, random_high
FROM head_entropy(run := 'minilm/sample')
ORDER BY mean
LIMIT 3
```

**Which run, and what part of it.** Where an analysis picks a run to compare with, where two runs share a part only,
and where a run holds some layers or heads only, a sentence says so: `attnstore query` writes it to stderr,
`store.notes(name, run=…)` returns it. The views `base_runs` and `run_pairs` have the same sentences as `note`.

**A mean over inputs wants its n and its interval**: `count(*)` and `mean_interval` over one value per
input, as the analyses below do; `sources` says which inputs are one draw because they share a text:

```sql
SELECT layer, head, count(*) AS n, unnest(mean_interval(entropy, source, 0, NULL))
FROM map_stats
JOIN sources USING (run, example)
WHERE run = 'minilm/sample'
GROUP BY layer, head
ORDER BY layer, head
LIMIT 3
```
"""


def generate() -> str:
    """Return the whole page as Markdown."""
    return "\n".join([_INTRODUCTION, *_views(), *_functions(), *_analyses(), *_checks()])


def _views() -> Iterator[str]:
    """List every view of an empty store, with its columns."""
    with tempfile.TemporaryDirectory() as folder, store.Store(location.create(folder)) as empty:
        about = empty.views()
        columns = empty.sql(
            "SELECT table_name, column_name, any_value(data_type), max(comment) "
            "FROM duckdb_columns() WHERE schema_name = 'main' AND NOT internal "
            "GROUP BY table_name, column_name ORDER BY min(column_index)"
        ).rows()
    yield "## Views\n"
    for view in sorted(about, key=lambda v: (_FIRST.index(v) if v in _FIRST else len(_FIRST), v)):
        yield f"### {view}\n\n{about[view]}\n"
        yield _table(("column", "type", "what"), [row[1:] for row in columns if row[0] == view])


def _functions() -> Iterator[str]:
    """Quote the headers of the functions in `sql/schema/session`."""
    files = sql_files("schema/session")
    yield (
        "## Functions over the weights\n\nThe views call them; "
        "`map_places` has their first arguments for every map.\n"
    )
    yield _described(files["1-weights"])
    yield (
        "## Measures without length\n\nEntropy and mean distance grow with the length of the input; `map_measures` has these "
        "beside them. [statistics.md](statistics.md#measures-and-length) has how far each follows the length.\n"
    )
    yield _described(files["2-measures"])
    yield (
        "## Functions over words\n\nThe attention to a word is the sum over its pieces, from a word their mean. "
        "`words`: `BIGINT[]` with the word of each token, from 0, -1 for tokens to leave out.\n"
    )
    yield _described(files["6-words"])
    yield (
        "## Functions over groups of tokens\n\nOver lists such as those of `attention_at`, for mentions and candidates of "
        "several tokens. Groups count from 0 in each list.\n"
    )
    yield _described(files["7-coreference"])
    yield (
        "## Functions over pairs\n\nPairs of tokens, and pairs of spans of words; `words` as above.\n"
    )
    yield _described(files["7-relations"])
    yield (
        "## Functions over some tokens\n\n`rows`, `columns`, `tokens`: `TINYINT[]`, 1 for a token that counts and 0 "
        "for one that does not.\n"
    )
    yield _described(files["7-positions"])
    yield (
        "## Functions over pairs of heads\n\nHow far heads are from each other, and where that places them; "
        "[bertology.md](bertology.md#heads-that-are-alike) has the analyses.\n"
    )
    yield _described(files["7-alike"])
    yield (
        "## Intervals and tests\n\nAggregates over one value per input; "
        "[statistics.md](statistics.md) says how they are computed.\n"
    )
    yield _described(files["4-uncertainty"])


def _described(file: Path) -> str:
    """Quote the functions that the header of a file describes: a call, and indented what it gives."""
    header = file.read_text("utf-8").split("\nCREATE", 1)[0].splitlines()
    lines = [line.removeprefix("-- ") for line in header if re.match(r"--     |-- \w+\(", line)]
    return "\n".join(["```text", *lines, "```\n"])


def _analyses() -> Iterator[str]:
    yield (
        "## Analyses\n\nEach is a file of `sql/analysis`: `attnstore query NAME --param run=…`, or "
        "`store.query(NAME, run=…)`.\n"
    )
    for analysis in analyses.listing().values():
        yield from _analysis(analysis)


def _analysis(analysis: Analysis) -> Iterator[str]:
    reads = ", ".join(f"`{view}`" for view in analysis.reads)
    yield f"### {analysis.name}\n\n{analysis.title}. Source: {analysis.source}. Reads {reads}.\n"
    shown = (p.name if p.required else f"{p.name} := {p.default_sql}" for p in analysis.parameters)
    yield f"In SQL: `FROM {analysis.name}({', '.join(shown)})`.\n"
    yield _table(
        ("parameter", "type", "default", "what"),
        [(p.name, p.type, p.default_text or "required", p.text) for p in analysis.parameters],
    )
    yield _table(
        ("column", "type", "what", "unit"),
        [(c.name, c.type, c.text, c.unit) for c in analysis.columns],
    )


def _checks() -> Iterator[str]:
    yield "## Checks\n\n`attnstore verify` runs each file of `sql/check`; a sound store gives no rows.\n"
    titles = {n: p.read_text("utf-8").splitlines()[0] for n, p in sql_files("check").items()}
    rows = [(name, line.removeprefix("-- title: ")) for name, line in titles.items()]
    yield _table(("check", "what holds"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table; names and types are set as code."""
    code = {"column", "parameter", "type", "check"}
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        cells = [str(cell).replace("|", "\\|") for cell in row]
        marked = [f"`{c}`" if h in code and c else c for h, c in zip(head, cells, strict=True)]
        lines.append(f"| {' | '.join(marked)} |")
    return "\n".join(lines) + "\n"


@click.command()
@click.argument("file", default=FILE, type=click.Path(dir_okay=False, path_type=Path))
def main(file: Path) -> None:
    """Write the SQL reference to FILE, docs/sql.md by default.

    \b
    Example: python -m attnstore.apps.sql_reference
    """
    file.write_text(generate(), "utf-8")


if __name__ == "__main__":
    main(prog_name="python -m attnstore.apps.sql_reference")
