"""Every verb in Python under its name on the command line: as a method of a store, or over a path.

    store = attnstore.open("storage")
    store.ingest("bert-base-uncased", "glue/rte", limit=100)
    store.annotate("rte", "negation")
    attnstore.finetune("storage", "bert-base-uncased", "rte", out="checkpoints")

Each job runs in this process; `runner` names another place (`attnstore.flows.tasks`). What the store
has is not computed again. Reading imports nothing of the jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from attnstore import extras, store
from attnstore.job import Job, Progress, Runner, Summary, in_process, silent
from attnstore.job import run as complete
from attnstore.storage import location
from attnstore.storage.location import Location

if TYPE_CHECKING:
    from attnstore.annotation.annotate import Summary as Annotated
    from attnstore.capture.doctor import Check
    from attnstore.capture.forecast import Forecast
    from attnstore.capture.ingestion import Summary as Ingested
    from attnstore.capture.recompute import Summary as Recomputed
    from attnstore.declared.outcome import Outcome
    from attnstore.declared.plan_parts import Plan
    from attnstore.display.standalone import View
    from attnstore.experiments.ablation.ablations import Summary as Ablated
    from attnstore.experiments.ablation.pruning import Summary as Pruned
    from attnstore.experiments.finetuning.finetuning import Summary as Finetuned
    from attnstore.experiments.patterns.classification import Summary as Classified
    from attnstore.maintenance.copying import Copied
    from attnstore.maintenance.exports import Exported
    from attnstore.maintenance.findings import Report as Findings
    from attnstore.maintenance.orphans import Orphans
    from attnstore.paper.report import Report, Step
    from attnstore.plotting.drawings import Drawing

Several = str | Sequence[str]
Finished = Callable[[Summary], None]
_S = TypeVar("_S", bound=Summary)


def _ignore(_summary: Summary) -> None:
    """Do nothing with a summary."""


def ingest(path: Location, models: Several, datasets: Several, **options: Any) -> list[Ingested]:
    """Run models over datasets and keep every attention map; see `capture.ingestion.ingest`."""
    extras.require("torch", "transformers")
    from attnstore.capture import ingestion

    return ingestion.ingest(path, models, datasets, **options)


def foresee(path: Location, models: Several, datasets: Several, **options: Any) -> list[Forecast]:
    """Describe what `ingest` would take, for the same arguments, and write nothing."""
    extras.require("torch", "transformers")
    from attnstore.capture import ingestion

    return ingestion.foresee(path, models, datasets, **options)


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


def annotate(
    path: Location,
    datasets: Several,
    annotators: Several,
    *,
    as_published: bool = False,
    runner: Runner = in_process,
    progress: Progress = silent,
    finished: Finished = _ignore,
) -> list[Annotated]:
    """Annotate datasets of a store: parts of speech, dependencies, frames, negation, coreference.

    Args:
        path: The store.
        datasets: One or several, by the names that they have in the store.
        annotators: One or several: spacy:MODEL, conllu, conllu:FILE, gap, gap:FILE,
            framenet:FOLDER, negation.
        as_published: FrameNet's links by the rule of the authors' notebook.
        runner: Where the units are stored.
        progress: Called as they go.
        finished: Called with the summary of each annotation as it ends.

    Returns:
        One summary for each dataset and annotator.
    """
    annotations = _annotations(path, datasets, annotators, as_published)
    return _complete(annotations, runner, progress, finished)


def _annotations(
    path: Location, datasets: Several, annotators: Several, as_published: bool = False
) -> list[Job[Any, Annotated]]:
    from attnstore.annotation import annotate as annotation

    pairs = product(_several(datasets), _several(annotators))
    return [annotation.request(path, dataset, with_, as_published) for dataset, with_ in pairs]


def classify(
    path: Location,
    runs: Several,
    *,
    network: str | Path | None = None,
    runner: Runner = in_process,
    progress: Progress = silent,
    finished: Finished = _ignore,
) -> list[Classified]:
    """Store the pattern class of every map of runs.

    Args:
        path: The store.
        runs: One or several runs of it.
        network: A file of the training of the pattern network; by default the package's.
        runner: Where the units are stored.
        progress: Called as they go.
        finished: Called with the summary of each run as it ends.

    Returns:
        One summary for each run.
    """
    return _complete(_classifications(path, runs, network), runner, progress, finished)


def _classifications(
    path: Location, runs: Several, network: str | Path | None = None
) -> list[Job[Any, Classified]]:
    extras.require("torch")
    from attnstore.experiments.patterns import classification

    return [classification.planned(path, run, network) for run in _several(runs)]


def recompute(
    path: Location,
    statistic: str,
    run: str | None = None,
    *,
    runner: Runner = in_process,
    progress: Progress = silent,
    finished: Finished = _ignore,
) -> list[Recomputed]:
    """Fill a statistic of `map_stats` where it is missing, from the stored weights.

    Weights of float16 and compact are rounded, so values differ from those of capture in their last
    digits.

    Args:
        path: The store.
        statistic: A column of `map_stats`.
        run: One run of it, or None for every run.
        runner: Where the units are stored.
        progress: Called as they go.
        finished: Called with the summary of each run as it ends.

    Returns:
        One summary for each run.
    """
    return _complete(_recomputations(path, statistic, run), runner, progress, finished)


def _recomputations(
    path: Location, statistic: str, run: str | None = None
) -> Sequence[Job[Any, Recomputed]]:
    extras.require("torch")
    from attnstore.capture import recompute as recomputing

    return recomputing.planned(path, statistic, run)


def finetune(
    path: Location,
    model: str,
    task: str,
    out: str | Path,
    *,
    runner: Runner = in_process,
    progress: Progress = silent,
    finished: Finished = _ignore,
    **options: Any,
) -> list[Finetuned]:
    """Fine-tune a model for a task, one training per seed; see `finetuning.finetune`."""
    extras.require("torch", "transformers")
    from attnstore.experiments.finetuning import finetuning, recipes

    trainings = finetuning.trainings(path, recipes.request(model, task, **options), out)
    return _complete(trainings, runner, progress, finished)


def ablate(
    path: Location,
    model: str,
    dataset: str,
    *,
    runner: Runner = in_process,
    progress: Progress = silent,
    finished: Finished = _ignore,
    **options: Any,
) -> Ablated:
    """Score a classifier with heads and layers disabled; see `ablations.ablate`."""
    extras.require("torch", "transformers")
    from attnstore.experiments.ablation import ablations

    ablation = ablations.planned(path, ablations.request(model, dataset, **options))
    return _complete([ablation], runner, progress, finished)[0]


def prune(
    path: Location,
    model: str,
    dataset: str,
    *,
    runner: Runner = in_process,
    progress: Progress = silent,
    finished: Finished = _ignore,
    **options: Any,
) -> Pruned:
    """Find the smallest set of heads that keeps a classifier's score; see `pruning.prune`."""
    extras.require("torch", "transformers")
    from attnstore.experiments.ablation import pruning

    search = pruning.planned(path, pruning.request(model, dataset, **options))
    return _complete([search], runner, progress, finished)[0]


def report(
    path: Location,
    out: str | Path = "output/report",
    *,
    step: Step = lambda _name, work: work(),
    finished: Finished = _ignore,
) -> Report:
    """Write one HTML page with every figure of the paper that a store can show.

    Args:
        path: The store.
        out: Folder of the page and its figures.
        step: Draws each figure, given its name and the work; here by default.
        finished: Called with the report.
    """
    extras.require("matplotlib")
    from attnstore.paper import report as reports

    with store.open(path) as opened:
        written = reports.write(opened, out, step)
    finished(written)
    return written


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


def _check_ingest(_path: Location, models: Several, datasets: Several, **options: Any) -> None:
    extras.require("torch", "transformers")
    from attnstore.capture import requests

    requests.find(models, datasets, **options)


def _check_finetune(
    _path: Location, model: str, task: str, out: str | Path, **options: Any
) -> None:
    extras.require("torch", "transformers")
    from attnstore.experiments.finetuning import finetuning, recipes

    finetuning.check(recipes.request(model, task, **options), out)


def _check_ablate(_path: Location, model: str, dataset: str, **options: Any) -> None:
    extras.require("torch", "transformers")
    from attnstore.experiments.ablation import ablations

    ablations.request(model, dataset, **options)


def _check_prune(_path: Location, model: str, dataset: str, **options: Any) -> None:
    extras.require("torch", "transformers")
    from attnstore.experiments.ablation import pruning

    pruning.request(model, dataset, **options)


def _check_report(path: Location, out: str | Path = "") -> None:
    extras.require("matplotlib")
    location.find(path)


_CHECKS: dict[str, Callable[..., object]] = {
    "ingest": _check_ingest, "annotate": _annotations, "classify": _classifications,
    "recompute": _recomputations,
    "finetune": _check_finetune, "ablate": _check_ablate, "prune": _check_prune,
    "report": _check_report,
}  # fmt: skip
JOBS: dict[str, Callable[..., object]] = {
    "ingest": ingest, "annotate": annotate, "classify": classify,
    "recompute": recompute, "finetune": finetune,
    "ablate": ablate, "prune": prune, "report": report,
}  # fmt: skip
"""The functions of the jobs by their verbs."""


def check(verb: str, path: Location, **options: Any) -> None:
    """Raise what a job refuses before it begins; nothing is written, no weights are loaded."""
    _CHECKS[verb](path, **options)


def _several(names: Several) -> Iterable[str]:
    return [names] if isinstance(names, str) else names


def _complete(
    jobs: Sequence[Job[Any, _S]], runner: Runner, progress: Progress, finished: Finished
) -> list[_S]:
    """Run jobs one after the other."""
    summaries = []
    for job in jobs:
        summaries.append(complete(job, runner, progress))
        finished(summaries[-1])
    return summaries


class Store(store.Store):
    """A store to read, and to work on: each job is a method under its name on the command line.

    Options of a job are those of the function of its name in this module. The store is brought up
    to date by each job; frames that were read before stay as they are.
    """

    def ingest(self, models: Several, datasets: Several, **options: Any) -> list[Ingested]:
        """Run models over datasets and keep every attention map, as `attnstore ingest`."""
        return ingest(self.name, models, datasets, **options)

    def annotate(self, datasets: Several, annotators: Several, **options: Any) -> list[Annotated]:
        """Annotate datasets of the store, as `attnstore annotate`."""
        return annotate(self.name, datasets, annotators, **options)

    def classify(self, runs: Several, **options: Any) -> list[Classified]:
        """Store the pattern class of every map of runs, as `attnstore classify`."""
        return classify(self.name, runs, **options)

    def recompute(self, statistic: str, run: str | None = None, **options: Any) -> list[Recomputed]:
        """Fill a statistic of `map_stats` where it is missing, as `attnstore recompute`."""
        return recompute(self.name, statistic, run, **options)

    def finetune(self, model: str, task: str, out: str | Path, **options: Any) -> list[Finetuned]:
        """Fine-tune a model for a task and keep its scores, as `attnstore finetune`."""
        return finetune(self.name, model, task, out, **options)

    def ablate(self, model: str, dataset: str, **options: Any) -> Ablated:
        """Score a classifier with heads and layers disabled, as `attnstore ablate`."""
        return ablate(self.name, model, dataset, **options)

    def prune(self, model: str, dataset: str, **options: Any) -> Pruned:
        """Find the smallest set of heads that keeps a classifier's score, as `attnstore prune`."""
        return prune(self.name, model, dataset, **options)

    def report(self, out: str | Path = "output/report") -> Report:
        """Write one HTML page with every figure that the store can show, as `attnstore report`."""
        return report(self.name, out)

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

        return verify(self.name)

    def gc(self, dry_run: bool = False) -> Orphans:
        """Move files that nothing refers to into a folder of the store, as `attnstore gc`."""
        from attnstore.maintenance import orphans

        return orphans.collect(self.name, dry_run)

    def copy(self, target: Location, runs: Sequence[str] | None = None) -> Copied:
        """Copy runs to another store, every byte compared, as `attnstore copy`."""
        from attnstore.maintenance import copying

        return copying.copy(self.name, str(target), runs)

    def export(
        self,
        run: str,
        to: str,
        out: str | Path | None = None,
        examples: Sequence[int] | None = None,
    ) -> Exported:
        """Write the maps of a run as zarr, parquet, npz or for BertViz, as `attnstore export`."""
        from attnstore.maintenance import exports

        return exports.export(self, run, to, out, examples)


def open(path: Location = "storage", analyses: str | Path | None = None) -> Store:
    """Open a store.

    Args:
        path: The store's folder, or the address of a bucket.
        analyses: A folder with analyses of your own; ATTNSTORE_ANALYSES otherwise, if it is set.

    Raises:
        StoreError: There is no store.
    """
    return Store(location.find(path), analyses=analyses)
