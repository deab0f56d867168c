"""The commands of jobs over a store: `annotate`, `classify`, `probe`, `recompute` and `report`; and how each job starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from rich.console import Console

from attnstore import offsets, verbs
from attnstore.annotation import registry
from attnstore.cli.options import flow_options
from attnstore.display.progress import Progress, show
from attnstore.statistics import NAMES


def start(verb: str, store: str, prefect: bool, runner: str | None, **options: Any) -> None:
    """Run a job here, or as a Prefect flow, and print its summaries as they end.

    Args:
        verb: Name of the job, as in `verbs.JOBS`.
        store: The store.
        prefect: Run it as a flow.
        runner: Workers for its units, as in dask:ADDRESS; they need a flow.
        options: Of the job.
    """
    if prefect or runner is not None:
        from attnstore.flows import jobs as flows  # Prefect takes seconds to import

        flows.start(verb, store, options, runner)
        return
    with Progress() as progress:
        verbs.JOBS[verb](store, **options, progress=progress, finished=show)


class _AnnotatorOption(click.Option):
    """An option whose help lists every annotator, which takes a tenth of a second to find."""

    def get_help_record(self, context: click.Context) -> tuple[str, str] | None:
        self.help = (
            f"One of {registry.forms()}, or an annotator of an installed package; may be repeated."
        )
        return super().get_help_record(context)


@click.command()
@click.option("--dataset", "datasets", multiple=True, required=True, metavar="NAME",
              help="A dataset of the store; may be repeated.")  # fmt: skip
@click.option("--with", "annotators", cls=_AnnotatorOption, multiple=True, required=True,
              metavar="ANNOTATOR")  # fmt: skip
@click.option("--as-published", is_flag=True,
              help="FrameNet's links by the rule of the authors' notebook.")  # fmt: skip
@flow_options
@click.pass_obj
def annotate(store: str, /, **options: Any) -> None:
    """Annotate datasets: parts of speech, dependencies, frames, negation, coreference.

    A dataset is named as in the store (`attnstore sql 'FROM datasets'`). An annotation that the store
    has is not made again.

    \b
    Example: attnstore annotate --dataset sample --with spacy:en_core_web_sm --with negation
    """
    start("annotate", store, **options)


@click.command()
@click.option("--run", "runs", multiple=True, required=True, metavar="RUN",
              help="A run of the store; may be repeated.")  # fmt: skip
@click.option("--network", metavar="FILE",
              help="A network of `python -m attnstore.apps.pattern_training.training`.  [default: the package's]")  # fmt: skip
@flow_options
@click.pass_obj
def classify(store: str, /, **options: Any) -> None:
    """Store the pattern class of every map of runs.

    Blocks that are classified are not classified again.

    \b
    Example: attnstore classify --run minilm/sample
    """
    start("classify", store, **options)


@click.command()
@click.option("--run", "runs", multiple=True, required=True, metavar="RUN",
              help="A run of the store whose dataset has dependencies; may be repeated.")  # fmt: skip
@click.option("--by", type=click.Choice(("weight", "norm")), default="weight", show_default=True,
              help="Attention weights, or what they move (the weight times the length of the value).")  # fmt: skip
@click.option("--annotation", metavar="SOURCE",
              help="Source of the dependencies, as in view links.  [default: the dataset's one]")  # fmt: skip
@click.option("--pieces", type=click.Choice(("mean", "first")), default="mean", show_default=True,
              help="Pieces that a split word attends from.")  # fmt: skip
@click.option("--specials", type=click.Choice(("drop", "renormalise")), default="drop", show_default=True,
              help="Special tokens are no words; with renormalise each row over words is divided by its sum.")  # fmt: skip
@click.option("--punctuation", type=click.Choice(("unscored", "drop", "keep")), default="unscored",
              show_default=True, help="Punctuation can be a head and is not scored, is left out, or is scored.")  # fmt: skip
@click.option("--folds", type=int, default=5, show_default=True,
              help="Parts of the source texts; each is scored by what is learned from the others.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the split.")
@click.option("--twins/--no-twins", default=True, show_default=True,
              help="Probe the run's random-weights twins, too.")  # fmt: skip
@flow_options
@click.pass_obj
def probe(store: str, /, **options: Any) -> None:
    """Learn the heads of words from attention alone (Clark et al. 2019, section 5).

    One weight per head and direction, with and without distances, beside baselines; every link is scored
    out of sample. `attnstore query attention_probe` compares them. It reads the store alone, and what is
    stored is not computed again.

    \b
    Example: attnstore probe --run minilm/ewt
    """
    start("probe", store, **options)


@click.command()
@click.argument("statistic", type=click.Choice((*NAMES, offsets.TABLE)), metavar="STATISTIC")
@click.argument("run", required=False)
@flow_options
@click.pass_obj
def recompute(store: str, /, **options: Any) -> None:
    """Fill a statistic of map_stats, or view offsets, where it is missing, from the stored weights.

    Runs that were captured before the statistic was declared get it without their model; without
    RUN, every run. Stopped, it continues where it was.

    \b
    Example: attnstore recompute entropy minilm/sample
             attnstore recompute offsets
    """
    start("recompute", store, **options)


@click.command()
@click.option("--out", default="output/report", show_default=True, metavar="DIR",
              help="Folder of the page and its figures.")  # fmt: skip
@click.option("--papers", metavar="KEY,KEY",
              help="Parts of the page, such as clark2019,kovaleva2019; all by default.")  # fmt: skip
@flow_options
@click.pass_obj
def report(store: str, /, prefect: bool, runner: str | None, out: str, papers: str | None) -> None:
    """Write one HTML page with a part for each paper whose figures the store can show.

    A figure whose inputs the store lacks is left out, with the command that supplies them.

    \b
    Example: attnstore report --papers clark2019,kovaleva2019 --out output/report
    """
    if prefect or runner is not None:
        start("report", store, prefect, runner, out=out, papers=papers)
        return
    with Console(stderr=True).status("drawing") as status:

        def draw(name: str, work: Callable[[], object]) -> object:
            status.update(f"drawing {name}")
            return work()

        written = verbs.report(store, out, papers=papers, step=draw)
    show(written)
