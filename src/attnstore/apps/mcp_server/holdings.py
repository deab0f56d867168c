"""Tools about what a store holds: runs, views with their columns, analyses with their parameters."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from attnstore import map_kinds
from attnstore.apps.mcp_server.results import (
    AnalysisText,
    Column,
    Findable,
    Named,
    ParameterText,
    Run,
    StoreContents,
    View,
)
from attnstore.web import find_names, find_page, find_question
from attnstore.web.site import Site

_RUNS = f"""
SELECT r.run, r.model, r.dataset, r.stored, r.planned, r.layers, r.heads, r.precision, r.n_weights,
       (SELECT max(length) FROM inputs i WHERE i.run = r.run) AS longest, m.base, m.step,
       m.random_seed IS NOT NULL AS is_random,
       (SELECT list(kind ORDER BY kind) FROM map_kinds k WHERE k.run = r.run AND kind <> '{map_kinds.WEIGHTS}') AS kinds,
       (SELECT list(DISTINCT source ORDER BY source) FROM spans s WHERE s.dataset = r.dataset) AS annotated,
       r.run IN (SELECT run FROM classifications) AS classified,
       (r.model, r.dataset) IN (SELECT (model, dataset) FROM ablations) AS ablated,
       (SELECT list(twin_run ORDER BY seed) FROM random_twins t WHERE t.run = r.run) AS twins
FROM runs r LEFT JOIN models m USING (model) ORDER BY r.run"""
_GRAMMAR = (find_question.__doc__ or "").partition("\n\n")[2].partition("\n\nReading")[0]


class Holdings:
    """The tools. site: the explorer's state over the store."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def list_runs(self) -> StoreContents:
        """List the runs of the store: the model, the dataset, and what is known about each.

        A run is a BERT-like model over a dataset; the attention map of every head for every input is
        stored. Begin here: other tools take the name of a run, model/dataset. Layers and heads are
        numbered from 0.
        """
        rows = self._site.store.ask(_RUNS).to_dicts()
        runs = [
            Run(
                run=row["run"], model=row["model"], dataset=row["dataset"], inputs=row["stored"],
                planned_inputs=row["planned"], layers=row["layers"], heads=row["heads"], precision=row["precision"],
                longest_input=row["longest"], trained_from=row["base"], step=row["step"], kinds=row["kinds"] or [],
                annotated_by=row["annotated"] or [], classified=row["classified"] or False,
                disabled_heads=row["ablated"] or False, random_twins=row["twins"] or [], is_random=row["is_random"],
            )
            for row in rows
        ]  # fmt: skip
        behind = self._site.store.behind
        return StoreContents(
            store=self._site.store.backend.name, runs=runs,
            weights=sum(row["n_weights"] or 0 for row in rows), notes=[behind] if behind else [],
        )  # fmt: skip

    def list_views(self) -> list[Named]:
        """List the views that `sql` can ask, each with what one row of it is."""
        views = self._site.store.current.views()
        return [Named(name=name, meaning=text or "") for name, text in views.items()]

    def describe_view(
        self, view: Annotated[str, Field(description="Name of the view, such as map_stats")]
    ) -> View:
        """Describe a view of `sql`: its columns, with type, meaning and unit. Ask this before writing SQL."""
        store = self._site.store.current
        comments = store.columns(view)
        types = store.cached(
            "SELECT column_name, any_value(data_type) FROM duckdb_columns() "
            "WHERE table_name = $view AND schema_name = 'main' AND NOT internal GROUP BY column_name",
            view=view,
        )
        kinds = dict(types.iter_rows())
        columns = [
            Column(name=name, type=kinds[name], meaning=text or "")
            for name, text in comments.items()
        ]
        return View(view=view, row=store.views()[view] or "", columns=columns)

    def list_analyses(self) -> list[Named]:
        """List the named analyses: questions of papers about attention, which `run_analysis` answers."""
        analyses = self._site.store.current.named_analyses.listing().values()
        return [Named(name=a.name, meaning=a.title) for a in analyses]

    def describe_analysis(
        self, name: Annotated[str, Field(description="Name of the analysis, such as head_types")]
    ) -> AnalysisText:
        """Describe a named analysis: its parameters, the columns of its result with units, its source and SQL."""
        found = self._site.store.current.named_analyses.find(name)
        parameters = [
            ParameterText(
                name=p.name, type=p.type, meaning=p.text,
                default=None if p.required else p.default_text,
            )
            for p in found.parameters
        ]  # fmt: skip
        return AnalysisText(
            name=found.name, title=found.title, source=found.source, parameters=parameters,
            columns=[Column(name=c.name, type=c.type, meaning=meaning(c.text, c.unit)) for c in found.columns],
            reads=list(found.reads), sql=found.sql,
        )  # fmt: skip

    def list_findable(self) -> Findable:
        """Say what `find` can be asked here: its grammar, and the relations, features and labels of the store."""
        names = find_names.of(self._site.store)
        listed = find_page.listed(names)
        return Findable(
            grammar=_GRAMMAR, relations=listed["Relations"], features=listed["Features"],
            labels=listed["Labels of words"], questions=find_page.examples(names),
        )  # fmt: skip


def meaning(text: str, unit: str) -> str:
    """Return the text about a column with its unit, unless that stands there already."""
    return f"{text} ({unit})" if unit and unit not in text else text
