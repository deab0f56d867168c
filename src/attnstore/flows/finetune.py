"""Fine-tune a model for a task, and keep what it scores: a Prefect flow with one task per seed.

    python -m flows.finetune --store DIR --model MODEL --task TASK --seeds 0,1,2 --out DIR

Checkpoints are ordinary Trainer folders, which `flows.ingest` takes. What is trained and evaluated
is not done again, and what was interrupted goes on from its last whole checkpoint. The same runs
without Prefect as `attnstore.experiments.finetuning.finetuning.finetune`.
"""

from __future__ import annotations

from typing import Any

import click
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.utilities.annotations import quote

from attnstore.cli.command import Command
from attnstore.cli.options import store_option
from attnstore.display.progress import bar
from attnstore.experiments.finetuning import finetuning, recipes
from attnstore.experiments.finetuning.finetuning import Summary, Training
from attnstore.experiments.finetuning.recipes import INITS
from attnstore.flows import only_sentences
from attnstore.specs import parse_numbers


@task(name="training", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def run_training(training: Training, name: str) -> Summary:
    """Train and evaluate one seed."""
    with bar(name) as progress:
        return training.run(progress)


@flow(name="finetune", persist_result=False)
def finetune(
    store: str, model: str, task: str, out: str, options: dict[str, Any] | None = None
) -> list[Summary]:
    """Fine-tune with every seed, one after the other; options are those of `recipes.request`."""
    asked = recipes.request(model, task, **(options or {}))
    found = finetuning.trainings(store, asked, out)
    return [run_training(quote(training), training.name) for training in found]


@click.command(cls=Command)
@store_option
@click.option("--model", required=True, metavar="MODEL[=NAME]",
              help="Hub id (id@revision), folder or package:NAME.")  # fmt: skip
@click.option("--task", "task_", required=True, metavar="TASK",
              help="mrpc, stsb, sst2, qqp, rte, qnli, mnli, or a file or folder with labels.")  # fmt: skip
@click.option("--data", metavar="FOLDER",
              help="Where GLUE lies as <task>/train.parquet …  [default: the Hub]")  # fmt: skip
@click.option("--init", type=click.Choice(INITS), default=INITS[0], show_default=True,
              help="Begin with the model's weights, with all of them drawn from the normal "
              "distribution of its configuration, or only evaluate an untrained head.")  # fmt: skip
@click.option("--seeds", default="0", show_default=True, metavar="0,1,2",
              help="One training for each.")  # fmt: skip
@click.option("--epochs", type=int, default=3, show_default=True, help="Passes over the examples.")
@click.option("--batch-size", type=int, default=32, show_default=True, help="Inputs of a step.")
@click.option("--learning-rate", type=float, default=2e-5, show_default=True,
              help="At the first step; it falls linearly to 0.")  # fmt: skip
@click.option("--checkpoints-per-epoch", type=int, metavar="N",
              help="Keep and evaluate N checkpoints of each epoch.  [default: the last one]")  # fmt: skip
@click.option("--limit", type=int, metavar="N", help="A random sample of N training examples.")
@click.option("--sample-seed", type=int, default=0, show_default=True, help="Seed of the sample.")
@click.option("--max-length", type=int, default=128, show_default=True, metavar="TOKENS",
              help="Longer inputs are truncated.")  # fmt: skip
@click.option("--bf16", is_flag=True,
              help="Multiply matrices in bfloat16, about twice as fast where the processor knows it; "
              "weights and evaluation stay float32.")  # fmt: skip
@click.option("--device", type=click.Choice(("auto", "cpu", "cuda")), default="auto",
              show_default=True, help="Where it is trained.")  # fmt: skip
@click.option("--text", metavar="COLUMN", help="Column of the text, where it has another name.")
@click.option("--pair", metavar="COLUMN", help="Column of the second text.")
@click.option("--label", metavar="COLUMN", help="Column of the label.")
@click.option("--out", required=True, metavar="DIR", help="Folder of the checkpoints.")
def main(store: str, model: str, task_: str, seeds: str, out: str, **options: Any) -> None:
    """Fine-tune a model for a task with several seeds, as a Prefect flow.

    \b
    Example: python -m flows.finetune --model bert-base-uncased --task rte --seeds 0,1,2 --out checkpoints
    """
    options["seeds"] = parse_numbers(seeds)
    asked = recipes.request(model, task_, **options)  # a mistake need not wait for Prefect
    finetuning.check(asked, out)
    with only_sentences():
        summaries = finetune(store, model, task_, out, options)
    for found in summaries:
        click.echo(_told(found))


def _told(found: Summary) -> str:
    scores = ", ".join(
        f"{metric} {'undefined' if value is None else f'{value:.3f}'} on {dataset}"
        for dataset, metric, value in found.scores
    )
    where = "" if found.folder is None else f"; {found.folder}"
    return (
        f"{found.training}: {scores} ({found.steps} steps and {found.evaluated} evaluations now, "
        f"{found.seconds:.1f} s){where}"
    )


if __name__ == "__main__":
    main()
