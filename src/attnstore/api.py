"""`attnstore.open(path)`: a store to read and to work on; each job is a method under its verb.

store = attnstore.open("storage")
store.ingest("bert-base-uncased", "glue/rte", limit=100)
store.annotate("rte", "negation")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnstore import extras, store, verbs
from attnstore.map_kinds import WEIGHTS
from attnstore.storage import location
from attnstore.storage.location import Location
from attnstore.verbs import Several

if TYPE_CHECKING:
    from attnstore.annotation.annotate import Summary as Annotated
    from attnstore.apps.publishing.pages import Published
    from attnstore.capture.doctor import Check
    from attnstore.capture.ingestion import Summary as Ingested
    from attnstore.capture.recompute import Summary as Recomputed
    from attnstore.declared.outcome import Outcome
    from attnstore.declared.plan_parts import Plan
    from attnstore.display.standalone import View
    from attnstore.experiments.ablation.ablation_summary import Summary as Ablated
    from attnstore.experiments.ablation.pruning_summary import Summary as Pruned
    from attnstore.experiments.attribution.attribution_summary import Summary as Attributed
    from attnstore.experiments.finetuning.finetuning import Summary as Finetuned
    from attnstore.experiments.patterns.classification import Summary as Classified
    from attnstore.experiments.probing.probe_summary import Summary as Probed
    from attnstore.maintenance.compaction import Compacted
    from attnstore.maintenance.copying import Copied
    from attnstore.maintenance.exports import Exported
    from attnstore.maintenance.findings import Report as Findings
    from attnstore.maintenance.orphans import Orphans
    from attnstore.paper.report import Report
    from attnstore.plotting.drawings import Drawing


class Store(store.Store):
    """A store to read, and to work on: each job is a method under its name on the command line.

    Options of a job are those of the function of its name in `attnstore.verbs`.
    """

    def ingest(self, models: Several, datasets: Several, **options: Any) -> list[Ingested]:
        """Run models over datasets and keep every attention map, as `attnstore ingest`."""
        return verbs.ingest(self.backend, models, datasets, **options)

    def annotate(self, datasets: Several, annotators: Several, **options: Any) -> list[Annotated]:
        """Annotate datasets of the store, as `attnstore annotate`."""
        return verbs.annotate(self.backend, datasets, annotators, **options)

    def classify(self, runs: Several, **options: Any) -> list[Classified]:
        """Store the pattern class of every map of runs, as `attnstore classify`."""
        return verbs.classify(self.backend, runs, **options)

    def recompute(self, statistic: str, run: str | None = None, **options: Any) -> list[Recomputed]:
        """Fill a statistic of `map_stats` where it is missing, as `attnstore recompute`."""
        return verbs.recompute(self.backend, statistic, run, **options)

    def finetune(self, model: str, task: str, out: str | Path, **options: Any) -> list[Finetuned]:
        """Fine-tune a model for a task and keep its scores, as `attnstore finetune`."""
        return verbs.finetune(self.backend, model, task, out, **options)

    def ablate(self, model: str, dataset: str, **options: Any) -> Ablated:
        """Score a classifier with heads and layers disabled, as `attnstore ablate`."""
        return verbs.ablate(self.backend, model, dataset, **options)

    def prune(self, model: str, dataset: str, **options: Any) -> Pruned:
        """Find the smallest set of heads that keeps a classifier's score, as `attnstore prune`."""
        return verbs.prune(self.backend, model, dataset, **options)

    def attribute(self, model: str, dataset: str, **options: Any) -> Attributed:
        """Store the importance of each token for a classifier, as `attnstore attribute`."""
        return verbs.attribute(self.backend, model, dataset, **options)

    def probe(self, runs: Several, **options: Any) -> list[Probed]:
        """Learn the heads of words from attention alone, as `attnstore probe`."""
        return verbs.probe(self.backend, runs, **options)

    def report(
        self, out: str | Path = "output/report", papers: str | Sequence[str] | None = None
    ) -> Report:
        """Write one HTML page with a part for each paper, as `attnstore report`."""
        return verbs.report(self.backend, out, papers=papers)

    def publish(
        self,
        run: str,
        out: str | Path = "public",
        examples: Sequence[int] | int | None = None,
        analyses: Sequence[str] | None = None,
    ) -> Published:
        """Write a run as static pages, as `attnstore publish`.

        Args:
            run: The run.
            out: Folder of the pages.
            examples: Inputs, or how many to choose from short to long; six by default.
            analyses: Names of analyses; those that were asked before by default.

        Raises:
            UnknownNameError: The store does not hold the run, an example or an analysis.
            UsageError: An example is too long for a document, or an analysis has no value per head.
        """
        from attnstore.apps.publishing import choice, pages

        chosen = choice.EXAMPLES if examples is None else examples
        return pages.publish(self.backend, run, out, chosen, analyses)

    def figure(self, name: str, /, **params: Any) -> Drawing:
        """Draw a figure of the paper, as `attnstore figure`; `.figure` is matplotlib's.

        Raises:
            UnknownNameError: There is no such figure or run.
            UsageError: The figure has no such parameter.
            NothingToDraw: The store lacks what it shows; the sentence names the command for it.
        """
        extras.require("matplotlib")
        from attnstore.paper import gallery

        return gallery.draw(self, name, **params)

    def verify(self) -> Findings:
        """Compare every byte and row with what was committed, as `attnstore verify`."""
        from attnstore.maintenance.verify import verify

        return verify(self.backend)

    def gc(self, dry_run: bool = False) -> Orphans:
        """Move files that nothing refers to into a folder of the store, as `attnstore gc`."""
        from attnstore.maintenance import orphans

        return orphans.collect(self.backend, dry_run)

    def compact(self, runs: Sequence[str] | None = None, dry_run: bool = False) -> Compacted:
        """Merge small fragments, of all tables or of some runs, as `attnstore compact`."""
        return verbs.compact(self.backend, runs, dry_run)

    def copy(self, target: Location, runs: Sequence[str] | None = None) -> Copied:
        """Copy runs to another store, every byte compared, as `attnstore copy`."""
        from attnstore.maintenance import copying

        return copying.copy(self.backend, target, runs)

    def export(
        self,
        run: str,
        to: str,
        out: str | Path | None = None,
        examples: Sequence[int] | None = None,
        kind: str = WEIGHTS,
    ) -> Exported:
        """Write the maps of a run as zarr, parquet, npz or for BertViz, as `attnstore export`."""
        from attnstore.maintenance import exports

        return exports.export(self, run, to, out, examples, kind=kind)


def open(path: Location = "storage", analyses: str | Path | None = None) -> Store:
    """Open a store.

    Args:
        path: The store's folder, or the address of a bucket.
        analyses: A folder with analyses of your own; ATTNSTORE_ANALYSES otherwise, if it is set.

    Raises:
        StoreError: There is no store.
    """
    return Store(location.find(path), analyses=analyses)


def look(model: str, text: str, pair: str | None = None, **options: Any) -> View:
    """Run a model over one text or pair of texts and show its attention; see `capture.look`."""
    extras.require("torch", "transformers")
    from attnstore.capture import look as looking

    return looking.look(model, text, pair, **options)


def doctor(model: str, device: str = "auto") -> list[Check]:
    """Examine if a model's attention can be captured and trusted; see `capture.doctor.examine`."""
    extras.require("torch", "transformers")
    from attnstore.capture.doctor import examine

    return examine(model, device)


def plan(file: str | Path = "attnstore.toml") -> Plan:
    """Compare what a file declares with its store; see `declared.planning.plan`."""
    extras.require("torch", "transformers")
    from attnstore.declared import config, planning

    return planning.plan(config.read(file))


def refresh(file: str | Path = "attnstore.toml", **options: Any) -> Outcome:
    """Make a store what a file declares, nothing twice; see `declared.refresh.refresh`."""
    extras.require("torch", "transformers")
    from attnstore.declared import refresh as refreshing

    return refreshing.refresh(file, **options)
