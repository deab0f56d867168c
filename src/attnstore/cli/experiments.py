"""The commands of experiments with classifiers: `finetune`, `ablate`, `prune` and `attribute`."""

from __future__ import annotations

from typing import Any

import click

from attnstore.cli.jobs import start
from attnstore.cli.options import flow_options, labeled_options, scored_options
from attnstore.head_sets import HEADS, LAYERS, RANDOM_SETS
from attnstore.naming import EXPLAINED, GRADIENT_X_INPUT, INITS, METHODS, PREDICTED
from attnstore.specs import parse_numbers


@click.command()
@click.option("--model", required=True, metavar="MODEL[=NAME]",
              help="Hub id (id@revision), folder or package:NAME.")  # fmt: skip
@click.option("--task", required=True, metavar="TASK",
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
@flow_options
@click.pass_obj
def finetune(store: str, /, seeds: str, **options: Any) -> None:
    """Fine-tune a model for a task with several seeds, and keep what each checkpoint scores.

    Checkpoints are ordinary Trainer folders, which `attnstore ingest` takes. What is trained and
    evaluated is not done again; an interrupted training continues from its last whole checkpoint.

    \b
    Example: attnstore finetune --model bert-base-uncased --task rte --seeds 0,1,2 --out checkpoints
    """
    start("finetune", store, seeds=parse_numbers(seeds), **options)


@click.command()
@scored_options
@click.option("--what", multiple=True, default=(HEADS, LAYERS), show_default=True, metavar="WHAT",
              help="heads (each one), layers (each one), or a set of heads as 0.3,2.11 (LAYER.HEAD "
              "from 0; 2.0-3 and 4.* too); may be repeated.")  # fmt: skip
@click.option("--importance/--no-importance", default=True, show_default=True,
              help="The gradient score of every head too.")  # fmt: skip
@click.option("--random-sets", type=int, default=RANDOM_SETS, show_default=True, metavar="N",
              help="Random sets beside each set of several heads: as many of each layer.")  # fmt: skip
@flow_options
@click.pass_obj
def ablate(store: str, /, **options: Any) -> None:
    """Score a classifier with heads and layers disabled.

    Results are stored as `ablations`, the gradient score of every head as `head_importance`; what is
    stored is not computed again.

    \b
    Example: attnstore ablate --model out/rte/checkpoint-234 --dataset glue/rte
    """
    start("ablate", store, **options)


@click.command()
@scored_options
@click.option("--loss", type=float, default=0.01, show_default=True, metavar="SHARE",
              help="How far the metric may fall below the baseline.")  # fmt: skip
@click.option("--at-once", type=int, default=4, show_default=True, metavar="N",
              help="At most so many heads go in one round; fewer is a finer search, and slower.")  # fmt: skip
@click.option("--random-sets", type=int, default=RANDOM_SETS, show_default=True, metavar="N",
              help="Random sets beside the set that is found, over the held-out inputs: as many heads "
              "of each layer; the heads of least gradient too. 0: neither.")  # fmt: skip
@flow_options
@click.pass_obj
def prune(store: str, /, **options: Any) -> None:
    """Find heads without which a classifier keeps its score, and what held-out inputs confirm.

    Half of the inputs are searched, the other half say whether the loss holds. The result is a set of heads as `attnstore ablate --what` and `attnstore ingest --disable` take it.

    \b
    Example: attnstore prune --model out/rte/checkpoint-234 --dataset glue/rte
    """
    start("prune", store, **options)


@click.command()
@labeled_options
@click.option("--method", "methods", multiple=True, type=click.Choice(METHODS),
              default=(GRADIENT_X_INPUT,), show_default=True,
              help="How a token is weighed; may be repeated.")  # fmt: skip
@click.option("--target", type=click.Choice(EXPLAINED), default=PREDICTED, show_default=True,
              help="The output that is explained: the largest, or that of the label.")  # fmt: skip
@click.option("--steps", type=int, default=50, show_default=True, metavar="N",
              help="Steps of integrated gradients; the summary says how far the sum is off.")  # fmt: skip
@flow_options
@click.pass_obj
def attribute(store: str, /, **options: Any) -> None:
    """Store how much each token matters to a classifier's output, as `token_importance`.

    An absent token is [MASK] in integrated gradients, where special tokens stay, and in leave-one-out.
    `attnstore query faithfulness` compares the attention of a run of the same checkpoint with it. What is
    stored is not computed again.

    \b
    Example: attnstore attribute --model out/rte/checkpoint-234 --dataset glue/rte --method leave_one_out
    """
    start("attribute", store, **options)
