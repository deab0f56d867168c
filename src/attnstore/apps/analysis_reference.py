"""Generate docs/analyses.md: for each analysis its question, source, needs and a few rows, by paper.

python -m attnstore.apps.analysis_reference [FILE] [--examples STORE …]

All but the rows comes from the headers in `sql/analysis`. The rows lie in docs/analyses.json, which
`--examples` completes: where rows are missing, or the command changed, it runs the one that the header's
`-- example:` line gives, on the first store that has rows for it.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import polars as pl
from click.testing import CliRunner

from attnstore.cli.main import main as command_line
from attnstore.formatting import cell
from attnstore.paper import parts, published
from attnstore.query import analyses
from attnstore.query.analyses import Analysis

FILE, ROWS = Path("docs/analyses.md"), Path("docs/analyses.json")
_TOP = 3
_MOST = 9  # columns of an example
_BESIDE = re.compile(r"interval|p|.*_low|.*_high|of_heads")
"""Columns that an example leaves out first: ends of intervals beside those of the mean, tests."""

_INTRODUCTION = """\
# Analyses

Written by `python -m attnstore.apps.analysis_reference` from the headers of `sql/analysis`; a test compares the two.
Each is a command (`attnstore query NAME --run RUN`), a method (`store.query("NAME", run=RUN)`) and a table in SQL
(`FROM NAME(run := RUN)`). [sql.md](sql.md) has every parameter and column, [statistics.md](statistics.md) says how
intervals and tests are made, [bertology.md](bertology.md) what was measured.

Examples are the first rows of the command above them, MiniLM over real texts; some columns are left out.
"""

_NEEDS = {
    r"\b(links|link_tokens|spans|span_tokens|dependency_\w+|token_features\w*|coreference_\w+|\w+_pairs\(|probe_links)\b":
        "annotations (`attnstore annotate`)",
    r"\b(attention_value_norms|value_norms)\b": "value norms, which every ingestion stores where the model gives them",
    r"\bmixing\b": "mixing ratios, which every ingestion of a post-LN encoder stores",
    r"\bpatterns\b": "pattern classes (`attnstore classify`)",
    r"\b(ablations|head_importance)\b": "scores without heads (`attnstore ablate`)",
    r"\bprunings\b": "a search for heads that can go (`attnstore prune`)",
    r"\battributions\b": "the importance of tokens (`attnstore attribute`)",
    r"\bevaluations\b": "scores of trainings (`attnstore finetune`)",
    r"\bnorm_outliers\b": "the layer norms of a model, which every ingestion stores",
    r"\b(run_pairs|base_runs)\b": "a run of the pre-trained model over the same dataset",
    r"\bprobe_links\b": "a probe (`attnstore probe`)",
    r"m\.n_layers AND r\.n_heads = m\.n_heads": "all layers and heads of a model",
}  # fmt: skip
"""By what an analysis's SQL reads, what it needs beside a run."""


def generate() -> str:
    """Return the whole page as Markdown."""
    rows = json.loads(ROWS.read_text("utf-8"))
    by_source: dict[str, list[Analysis]] = {}
    order = {published.papers()[key].short: place for place, key in enumerate(parts.PARTS)}
    listed = analyses.listing().values()
    for analysis in sorted(listed, key=lambda a: (order.get(_paper(a), len(order)), _paper(a))):
        by_source.setdefault(_paper(analysis), []).append(analysis)
    titles = {paper.short: paper.title for paper in published.papers().values()}
    lines = [_INTRODUCTION, *_overview(by_source)]
    for source, members in by_source.items():
        title = f": {titles[source]}" if source in titles else ""
        lines.append(f"## {source}{title}\n")
        for analysis in members:
            lines += _described(analysis, rows.get(analysis.name))
    return "\n".join(lines)


def _paper(analysis: Analysis) -> str:
    """Return the first paper that an analysis names as its source, else this project."""
    named = re.match(r"[A-Z][\w'’-]+(?: et al\.| and [A-Z][\w'’-]+)? \d{4}", analysis.source)
    return named.group() if named else "This project"


def _overview(by_source: dict[str, list[Analysis]]) -> Iterator[str]:
    """Yield one table of all questions."""
    yield "| question | analysis | source |\n|---|---|---|"
    for source, members in by_source.items():
        for analysis in members:
            yield f"| {_question(analysis)} | [{analysis.name}](#{analysis.name}) | {source} |"
    yield ""


def _question(analysis: Analysis) -> str:
    return analysis.question or f"{analysis.title}."


def _described(analysis: Analysis, example: dict[str, list[str]] | None) -> Iterator[str]:
    """Yield the section of one analysis."""
    yield f"### {analysis.name}\n\n{_question(analysis)}\n"
    yield f"- {analysis.title}.\n- Source: {analysis.source}."
    yield f"- Needs: {needs(analysis)}.\n"
    if example:
        yield f"```sh norun\n{' '.join(example['command'])}\n```\n"
        yield f"| {' | '.join(example['columns'])} |\n|{'---|' * len(example['columns'])}"
        for row in example["rows"]:
            yield f"| {' | '.join(text.replace('|', chr(92) + '|') for text in row)} |"
        yield ""


def needs(analysis: Analysis) -> str:
    """Return what an analysis needs, in words: what its header says, or its SQL reads."""
    if analysis.needs:
        return analysis.needs
    taken = {p.name for p in analysis.parameters}
    first = ["a run"] if "run" in taken else ["a model"] if "model" in taken else []
    sql = re.sub(r"(?m)^-- (?!reads).*$", "", analysis.sql)
    what = [text for pattern, text in _NEEDS.items() if re.search(pattern, sql)]
    norms = any("value norms" in text for text in what)
    by_norm = "; value norms for `by=norm`" if "by" in taken and not norms else ""
    return f"{', '.join([*first, *what])}{by_norm}" or "what jobs recorded about themselves"


def examples(stores: Sequence[str]) -> dict[str, dict[str, list[object]]]:
    """Keep the rows of unchanged examples, and run the others on the first store that has rows for them."""
    before = json.loads(ROWS.read_text("utf-8")) if ROWS.exists() else {}
    made = {}
    for analysis in analyses.listing().values():
        if not analysis.example and any(p.required for p in analysis.parameters):
            continue
        options = shlex.split(analysis.example or "--top 3")
        if before.get(analysis.name, {}).get("command") == _command(analysis, options):
            made[analysis.name] = before[analysis.name]
            continue
        for store in stores:
            result = CliRunner().invoke(
                command_line,
                ["--store", store, "query", analysis.name, *options, "--format", "json"],
            )
            rows = json.loads(result.stdout) if result.exit_code == 0 else []
            if rows:
                made[analysis.name] = _cut(analysis, rows, options)
                break
    return made


def _cut(
    analysis: Analysis, rows: list[dict[str, object]], options: list[str]
) -> dict[str, list[object]]:
    """Keep the columns and rows that fit a page, as text."""
    frame = pl.DataFrame(rows, infer_schema_length=None)
    names = [name for name in frame.columns if frame[name].null_count() < len(frame)]
    kept = [n for n in names if not _BESIDE.fullmatch(n)][:_MOST]
    shown = frame.select(kept).head(max(_TOP, len(rows) if "--top" in options else 12))
    return {
        "command": _command(analysis, options), "columns": [*kept],
        "rows": [[cell(value, 3) for value in row] for row in shown.iter_rows()],
    }  # fmt: skip


def _command(analysis: Analysis, options: Sequence[str]) -> list[object]:
    """Return the words of an example's command."""
    return ["attnstore query", analysis.name, *map(shlex.quote, options)]


@click.command()
@click.argument("file", default=FILE, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--examples",
    "stores",
    multiple=True,
    metavar="STORE",
    help="Complete the rows of the examples from these stores.",
)
def main(file: Path, stores: tuple[str, ...]) -> None:
    """Write the reference of the analyses to FILE, docs/analyses.md by default.

    \b
    Example: python -m attnstore.apps.analysis_reference --examples output/store
    """
    if stores:
        text = json.dumps(examples(stores), ensure_ascii=False, indent=1)
        ROWS.write_text(text + "\n", "utf-8")
    file.write_text(generate(), "utf-8")


if __name__ == "__main__":
    main(prog_name="python -m attnstore.apps.analysis_reference")
