"""The figure of the study: per treebank the best head along dependencies and the best tree, beside what is no attention."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from matplotlib import pyplot as plt

from attnstore.plotting import panels

_RELATIONS = ("all", "nsubj", "obj", "obl", "nmod", "case", "advmod", "amod", "det", "aux")
_MARKS = (("held_out", "best head, held out", "o", "#1f4e79"), ("baseline", "best fixed offset", "|", "#000000"),
          ("random_high", "best head of random weights", "x", "#b0602f"))  # fmt: skip


def draw(rows: pl.DataFrame, file: Path) -> None:
    """Write the figure.

    Args:
        rows: Rows of `language_summary` of several runs.
        file: A PNG.
    """
    runs = rows["run"].unique(maintain_order=True).to_list()
    figure, axes = plt.subplots(
        1, len(runs), figsize=(2.9 * len(runs) + 0.6, 4.0), sharey=True, sharex=True, squeeze=False, layout="constrained"
    )  # fmt: skip
    for run, place in zip(runs, axes[0], strict=True):
        _panel(place, rows.filter(run=run))
    axes[0][0].set_yticks(range(len(_RELATIONS) + 1), [*_RELATIONS, "tree and chain"])
    axes[0][0].invert_yaxis()
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(file, dpi=150)
    plt.close(figure)


def _panel(axes: plt.Axes, rows: pl.DataFrame) -> None:
    first = rows.row(0, named=True)
    order = {"none": "no dominant order", None: ""}.get(first["word_order"], first["word_order"])
    axes.set_title(
        f"{first['dataset'].split('-')[0]} ({order}), {first['sentences']} sentences", fontsize=9
    )
    for column, label, mark, color in _MARKS:
        values = [_value(rows, relation, column) for relation in _RELATIONS]
        tree = rows.filter(part="trees", measure="uuas")
        # The chain of all words stands for the offset there.
        name = "mean" if column == "held_out" else column
        values.append(tree[name].item() if len(tree) else None)
        shown = [(v, n) for n, v in enumerate(values) if v is not None]
        if shown:
            axes.scatter(
                *zip(*shown, strict=True), marker=mark, s=36, color=color, label=label, zorder=3
            )
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75], ["0", "", "0.5", ""])
    axes.set_xlabel("share of links", fontsize=8)
    axes.axhline(len(_RELATIONS) - 0.5, color="#cccccc", linewidth=0.8)
    axes.grid(axis="x", color="#eeeeee")
    panels.plain(axes)


def _value(rows: pl.DataFrame, relation: str, column: str) -> float | None:
    """The better direction of a relation, by its held-out accuracy; of the other columns its own value."""
    own = rows.filter(part="dependencies", measure=relation).drop_nulls("held_out")
    value = own.sort("held_out", descending=True)[column].first() if len(own) else None
    return None if value is None else float(value)
