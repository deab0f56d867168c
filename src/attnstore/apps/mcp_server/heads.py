"""The tool that says what a head does, in sentences from the store, with its measures."""

from __future__ import annotations

from typing import Annotated

import polars as pl
from pydantic import Field

from attnstore.apps.mcp_server.results import Head, Measure, Named, Sentence
from attnstore.web import head_sentences, lacking, measures
from attnstore.web.measures import NAMES, UNITS, finite
from attnstore.web.run_records import record_of, require_head
from attnstore.web.site import Site

RunName = Annotated[str, Field(description="Name of the run, model/dataset")]
LayerNumber = Annotated[int, Field(description="Layer, from 0")]


class HeadTools:
    """The tools. site: the explorer's state over the store."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def describe_head(
        self,
        run: RunName,
        layer: LayerNumber,
        head: Annotated[int, Field(description="Head, from 0")],
    ) -> Head:
        """Describe what a head does, how surely, since when in the training, and what disabling it changes.

        Each sentence comes from the store's numbers, beside those of the same head with random weights where the
        store has such twins; quote the interval and n with a number. `lacking` says what the store cannot tell.
        """
        site = self._site
        record = record_of(site, run)
        require_head(record, layer, head)
        band = measures.of_random_weights(site.store, run, (layer, head))
        sentences = [
            Sentence(text=f"{s.lead} {s.text}".strip(), explorer=s.address)
            for s in head_sentences.of_head(site, record, layer, head, band)
        ]
        effects = bool(head_sentences.disabled(site, record, layer, head))
        missing = [
            Named(name=one.what, meaning=one.command)
            for one in lacking.about_heads(site, record, effects)
        ]
        return Head(
            run=run, layer=layer, head=head, sentences=sentences,
            measures=self._measures(run, layer, head, band), lacking=missing,
        )  # fmt: skip

    def _measures(self, run: str, layer: int, head: int, band: pl.DataFrame) -> list[Measure]:
        store = self._site.store
        of_head = measures.statistics(store, run, (layer, head))
        rows = of_head.join(band, on=["layer", "head", "measure"], how="left").to_dicts()
        by_name = {row["measure"]: row for row in rows}
        comments = store.current.columns(measures.MEASURED)
        return [
            Measure(
                name=name, meaning=comments.get(name) or "", unit=UNITS[name], n=by_name[name]["n"],
                **{c: finite(by_name[name][c]) for c in ("mean", "low", "high", "random_low", "random_high")},
            )
            for name in NAMES
            if name in by_name
        ]  # fmt: skip
