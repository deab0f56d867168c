"""Texts for an assistant: what it is told at first, documents that it can read, and prompts to begin with."""

from __future__ import annotations

from attnstore.web.site import Site

INSTRUCTIONS = """attnstore holds the attention maps of BERT-like models over datasets: for every input, layer and head one
map of L × L weights, whose rows (the tokens that attend) sum to 1. It only reads.

Begin with list_runs. Layers, heads, positions and examples are numbered from 0. For numbers prefer, in this order: a
named analysis (list_analyses, describe_analysis, run_analysis), which has intervals and the band of random weights; then
sql over map_measures, one row per map; then single weights (view attention, filtered by run, layer, head and example).
describe_head says in sentences what a head does; find looks for words, relations and thresholds; show_map, show_heads and
show_mean_maps draw. A mean without its interval, or without what random weights give, says little: quote both. High
attention alone does not show that a head matters for what the model does: the views ablations and attributions do."""

_EXPLAIN = """Explain what head {head} of layer {layer} does in run {run}.

1. describe_head, and show_mean_maps of the run to see the head among the others.
2. run_analysis typical_maps for this head, and show_map of two or three of these inputs.
3. If the dataset is annotated (list_runs), run_analysis relations and feature_attention, and keep the rows of this head.
4. Say in three sentences what it does, on how many inputs, with the interval, and what the same head does with random
weights. Say what is not known, and which command would tell."""
_COMPARE = """Compare run {run} with run {other_run}.

1. list_runs: check that both have the same dataset; if they have not, say what that means for the comparison.
2. run_analysis head_types for each: which heads do something else?
3. run_analysis drift with run {run} and base_run {other_run}: which heads moved most, beyond what the interval says?
4. show_heads of both by the same measure, and show_map of one input of the head that moved most in each.
5. Say what changed, with numbers and intervals, and what did not."""


class Texts:
    """The resources and prompts. site: the explorer's state over the store."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def views(self) -> str:
        """List the views of SQL, with what a row of each is."""
        views = self._site.store.current.views()
        return "\n".join(f"{name}: {text or ''}" for name, text in views.items())

    def view(self, view: str) -> str:
        """Describe the columns of a view."""
        columns = self._site.store.current.columns(view)
        return "\n".join(f"{name}: {text or ''}" for name, text in columns.items())

    def analyses(self) -> str:
        """List the named analyses, with their parameters."""
        listed = self._site.store.current.named_analyses.listing().values()
        return "\n".join(
            f"{a.name}({', '.join(p.shown for p in a.parameters)}): {a.title}" for a in listed
        )

    def analysis(self, name: str) -> str:
        """Return the file of an analysis: a header that says what it is, and its SQL."""
        return self._site.store.current.named_analyses.find(name).sql

    @staticmethod
    def explain_head(run: str, layer: str, head: str) -> str:
        """Explain what a head does, with numbers, intervals and maps."""
        return _EXPLAIN.format(run=run, layer=layer, head=head)

    @staticmethod
    def compare_runs(run: str, other_run: str) -> str:
        """Compare the heads of two runs: what they do, and how far they moved."""
        return _COMPARE.format(run=run, other_run=other_run)
