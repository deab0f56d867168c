"""Every job as a function over a path, under its verb on the command line.

    annotate("storage", "rte", "negation")
    finetune("storage", "bert-base-uncased", "rte", out="checkpoints")

A job runs in this process; `runner` names another place (`attnstore.flows.tasks`). What the store has is
not computed again. Importing this imports no job.
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
    from attnstore.capture.forecast import Forecast
    from attnstore.capture.further_maps import MapsForecast
    from attnstore.capture.ingestion import Summary as Ingested
    from attnstore.capture.recompute import Summary as Recomputed
    from attnstore.experiments.ablation.ablation_summary import Summary as Ablated
    from attnstore.experiments.ablation.pruning_summary import Summary as Pruned
    from attnstore.experiments.attribution.attribution_summary import Summary as Attributed
    from attnstore.experiments.finetuning.finetuning import Summary as Finetuned
    from attnstore.experiments.patterns.classification import Summary as Classified
    from attnstore.experiments.probing.probe_summary import Summary as Probed
    from attnstore.maintenance.compaction import Compacted
    from attnstore.paper.report import Report, Step

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


def foresee(
    path: Location, models: Several, datasets: Several, **options: Any
) -> list[Forecast | MapsForecast]:
    """Describe what `ingest` would take, for the same arguments, and write nothing."""
    extras.require("torch", "transformers")
    from attnstore.capture import ingestion

    return ingestion.foresee(path, models, datasets, **options)


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
        annotators: One or several, as `annotation.registry` lists them: spacy:MODEL, negation,
            spans:FILE, …
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


def compact(path: Location, runs: Sequence[str] | None = None, dry_run: bool = False) -> Compacted:
    """Merge the small fragments of a store, or of some of its runs; see `maintenance.compaction`."""
    from attnstore.maintenance import compaction

    return compaction.compact(path, runs, dry_run)


def recompute(
    path: Location,
    statistic: str,
    run: str | None = None,
    *,
    runner: Runner = in_process,
    progress: Progress = silent,
    finished: Finished = _ignore,
) -> list[Recomputed]:
    """Fill a statistic of `map_stats`, or the profiles of view `offsets`, where they are missing.

    They come from the stored weights. Those of float16 and compact are rounded, so values differ from those
    of capture in their last digits.

    Args:
        path: The store.
        statistic: A column of `map_stats`, or offsets.
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
    from attnstore.capture import recomputations

    return recomputations.planned(path, statistic, run)


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
    """Fine-tune a model for a task, one training per seed; see `recipes.request`."""
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
    """Score a classifier with heads and layers disabled; see `ablations.request`."""
    jobs = _ablations(path, model, dataset, **options)
    return _complete(jobs, runner, progress, finished)[0]


def _ablations(path: Location, model: str, dataset: str, **options: Any) -> list[Job[Any, Ablated]]:
    extras.require("torch", "transformers")
    from attnstore.experiments.ablation import ablations

    return [ablations.planned(path, ablations.request(model, dataset, **options))]


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
    """Find the smallest set of heads that keeps a classifier's score; see `pruning.request`."""
    jobs = _prunings(path, model, dataset, **options)
    return _complete(jobs, runner, progress, finished)[0]


def _prunings(path: Location, model: str, dataset: str, **options: Any) -> list[Job[Any, Pruned]]:
    extras.require("torch", "transformers")
    from attnstore.experiments.ablation import pruning

    return [pruning.planned(path, pruning.request(model, dataset, **options))]


def attribute(
    path: Location,
    model: str,
    dataset: str,
    *,
    runner: Runner = in_process,
    progress: Progress = silent,
    finished: Finished = _ignore,
    **options: Any,
) -> Attributed:
    """Store the importance of each token for a classifier's output; see `attribution_request.request`."""
    jobs = _attributions(path, model, dataset, **options)
    return _complete(jobs, runner, progress, finished)[0]


def _attributions(
    path: Location, model: str, dataset: str, **options: Any
) -> list[Job[Any, Attributed]]:
    extras.require("torch", "transformers", "captum")
    from attnstore.experiments.attribution import attribution_request, attributions

    asked = attribution_request.request(model, dataset, **options)
    return [attributions.planned(path, asked)]


def probe(
    path: Location,
    runs: Several,
    *,
    twins: bool = True,
    runner: Runner = in_process,
    progress: Progress = silent,
    finished: Finished = _ignore,
    **options: Any,
) -> list[Probed]:
    """Learn the heads of words from attention alone, out of sample; see `probe_request.Request`.

    Args:
        path: The store.
        runs: One or several runs of it, whose datasets have dependencies.
        twins: Probe the random-weights twins of each run, too.
        runner: Where the units are stored.
        progress: Called as they go.
        finished: Called with the summary of each run as it ends.
        options: annotation, by, pieces, specials, punctuation, folds and seed.

    Returns:
        One summary for each run and each twin.
    """
    jobs = _probes(path, runs, twins=twins, **options)
    return _complete(jobs, runner, progress, finished)


def _probes(
    path: Location, runs: Several, *, twins: bool = True, **options: Any
) -> list[Job[Any, Probed]]:
    from attnstore.experiments.probing import probes
    from attnstore.experiments.probing.probe_request import Request

    requests = [Request(run, **options) for run in _several(runs)]
    if twins:
        requests = [each for asked in requests for each in probes.with_twins(path, asked)]
    return [probes.planned(path, asked) for asked in dict.fromkeys(requests)]


def report(
    path: Location,
    out: str | Path = "output/report",
    *,
    papers: str | Sequence[str] | None = None,
    step: Step = lambda _name, work: work(),
    finished: Finished = _ignore,
) -> Report:
    """Write one HTML page with a part for each paper whose figures a store can show.

    Args:
        path: The store.
        out: Folder of the page and its figures.
        papers: Keys of the parts, such as clark2019, a list or separated by commas; None for all.
        step: Draws each figure, given its name and the work; here by default.
        finished: Called with the report.
    """
    extras.require("matplotlib")
    from attnstore.paper import report as reports

    with store.open(path) as opened:
        written = reports.write(opened, out, step, papers)
    finished(written)
    return written


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


def _check_report(
    path: Location, out: str | Path = "", papers: str | Sequence[str] | None = None
) -> None:
    extras.require("matplotlib")
    from attnstore.paper import parts

    parts.chosen(papers)
    location.find(path)


_CHECKS: dict[str, Callable[..., object]] = {
    "ingest": _check_ingest, "annotate": _annotations, "classify": _classifications,
    "recompute": _recomputations, "finetune": _check_finetune, "ablate": _ablations,
    "prune": _prunings, "attribute": _attributions, "probe": _probes,
    "report": _check_report,
}  # fmt: skip
JOBS: dict[str, Callable[..., object]] = {
    "ingest": ingest, "annotate": annotate, "classify": classify, "recompute": recompute,
    "finetune": finetune, "ablate": ablate, "prune": prune, "attribute": attribute, "probe": probe,
    "report": report,
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
