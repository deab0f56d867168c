"""The options that commands share: of an ingestion, of scoring with heads disabled, of a question."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from attnstore import map_kinds
from attnstore.errors import UsageError
from attnstore.head_sets import UNIFORM, VALUES
from attnstore.query import process_memory
from attnstore.specs import parse_numbers
from attnstore.storage.precision import PRECISIONS

Command = Callable[..., Any]


def _numbers(
    _context: click.Context, _option: click.Parameter, text: str | None
) -> tuple[int, ...] | None:
    try:
        return None if text is None else parse_numbers(text)
    except UsageError as error:
        raise click.BadParameter(str(error)) from error


store_option = click.option("--store", envvar="ATTNSTORE_STORE", default="storage",
                            show_default=True, metavar="DIR",
                            help="The store; also from ATTNSTORE_STORE.")  # fmt: skip


def store_after_the_verb(command: click.Command) -> click.Command:
    """Let a command take --store too, as in `attnstore runs --store DIR`.

    Raises:
        UsageError: --store names one store before the verb and another one after it.
    """
    option = click.Option(
        ["--store"], metavar="DIR", expose_value=False, callback=_choose_store,
        help="The store, here or before the verb.",
    )  # fmt: skip
    command.params.append(option)
    return command


def _choose_store(context: click.Context, _option: click.Parameter, store: str | None) -> None:
    """Make `store` the object of the context, unless it is None."""
    if store is None or store == context.obj:
        return
    above = context.parent
    if above and above.get_parameter_source("store") == click.core.ParameterSource.COMMANDLINE:
        raise UsageError(
            f"--store is {context.obj} before {context.info_name} and {store} after it; give it once."
        )
    context.obj = store


_PRECISIONS = "; ".join(f"{p.name}, {p.text}" for p in PRECISIONS.values())
_MAX_LENGTH = click.option("--max-length", type=int, default=128, show_default=True,
                           metavar="TOKENS", help="Longer inputs are truncated, and counted.")  # fmt: skip
_SPLIT = click.option("--split", metavar="SPLIT",
                      help="Split of the source.  [default: validation]")  # fmt: skip
_SEED = click.option("--seed", type=int, default=0, show_default=True, help="Seed of the sample.")
_DEVICE = click.option("--device", type=click.Choice(("auto", "cpu", "cuda")), default="auto",
                       show_default=True, help="Where the forward passes run.")  # fmt: skip
_VALUE = click.option("--value", type=click.Choice(VALUES), default=UNIFORM, show_default=True,
                      help="uniform: 1/L to every real token; zero: no output.")  # fmt: skip
_COLUMNS = (
    click.option("--text", metavar="COLUMN", help="Column of the text, where it has another name."),
    click.option("--pair", metavar="COLUMN", help="Column of the second text."),
    click.option("--label", metavar="COLUMN", help="Column of the label."),
)

_OPTIONS = (
    click.option("--model", "models", multiple=True, required=True, metavar="MODEL[=NAME]",
                 help="Hub id (id@revision), folder or package:NAME; several times for several."),
    click.option("--dataset", "datasets", multiple=True, required=True, metavar="DATASET[=NAME]",
                 help="glue/<task>, a file, a folder, a Hub id, sample or agreement; may be repeated."),
    click.option("--base", metavar="NAME",
                 help="Model of the store that these were trained from, for drift."),
    _SPLIT,
    click.option("--limit", type=int, metavar="N", help="A random sample of N examples."),
    click.option("--random-weights", is_flag=True,
                 help="The model's random-weights twins instead: its configuration, tokenizer and "
                 "inputs, weights as its architecture initializes them."),
    click.option("--seed", "seeds", callback=_numbers, metavar="0,1,2",
                 help="With --random-weights: seeds of the weights, one twin for each. Else: seed of "
                 "the sample.  [default: 0]"),
    click.option("--sample-seed", type=int, metavar="N",
                 help="Seed of the sample, for a twin that of the run that it stands beside.  "
                 "[default: 0]"),
    _MAX_LENGTH,
    click.option("--pad-to", type=int, metavar="TOKENS",
                 help="Pad every input to that length, to compare with padded results."),
    click.option("--precision", type=click.Choice(tuple(PRECISIONS)), default="float16",
                 show_default=True, help=f"How weights are stored: {_PRECISIONS}."),
    _DEVICE,
    click.option("--layers", callback=_numbers, metavar="0,2-5",
                 help="Layers to keep, from 0.  [default: all]"),
    click.option("--heads", callback=_numbers, metavar="0,2-5",
                 help="Heads of each layer to keep, from 0.  [default: all]"),
    click.option("--disable", metavar="0.3,2.11",
                 help="Heads (LAYER.HEAD, from 0; 4.* for a layer) to disable in the model."),
    click.option("--disable-value", type=click.Choice(VALUES), default=UNIFORM, show_default=True,
                 help="uniform: 1/L to every real token; zero: no output."),
    click.option("--update", is_flag=True,
                 help="Add what runs of an earlier capture lack (value norms, mixing ratios), and the names of "
                 "their dataset's classes; their maps stay as they are."),
    click.option("--maps", default=map_kinds.WEIGHTS, show_default=True, metavar="KIND,…",
                 help="Kinds of maps to store, beside the weights: value_zeroing; of a classifier "
                 "gradient_attention (of the predicted label) and gradient_attention_gold, each also "
                 "integrated over K steps, as gradient_attention_20."),
    *_COLUMNS,
    click.option("--language", metavar="CODE",
                 help="ISO 639 code of the texts' language, as ja.  [default: what the name of a treebank's "
                 "file says]"),
)  # fmt: skip

_LABELED = (
    click.option("--model", required=True, metavar="CHECKPOINT[=NAME]",
                 help="A checkpoint with a task's head: a folder, Hub id or package:NAME."),
    click.option("--dataset", required=True, metavar="DATASET[=NAME]",
                 help="A labelled dataset: glue/<task>, a file, a folder or a Hub id."),
    _SPLIT,
    click.option("--limit", type=int, default=1000, show_default=True, metavar="N",
                 help="At most N examples, a random sample of more."),
    _SEED,
    _MAX_LENGTH,
    _DEVICE,
)  # fmt: skip
_SCORED = (
    _VALUE,
    click.option("--tokens", type=int, metavar="N",
                 help="Tokens in one forward pass, all settings counted.  [default: 4096 on a CPU]"),
    click.option("--memory", type=int, default=1024, show_default=True, metavar="MIB",
                 help="For hidden states that are kept; without room they are computed again."),
)  # fmt: skip


def labeled_options(command: Command) -> Command:
    """Give a click command the options of a classifier and its labeled dataset."""
    for option in reversed((*_LABELED, *_COLUMNS)):
        command = option(command)
    return command


def scored_options(command: Command) -> Command:
    """Give a click command the options of scoring a classifier with heads disabled."""
    for option in reversed((*_LABELED, *_SCORED, *_COLUMNS)):
        command = option(command)
    return command


_DRY_RUN = click.option("--dry-run", is_flag=True,
                        help="Only say what it would take: tokens, bytes and free disk.")  # fmt: skip


def ingest_options(command: Command) -> Command:
    """Give a click command the options of an ingestion, named as the arguments of `ingest`."""
    for option in (_DRY_RUN, *reversed(_OPTIONS)):
        command = option(command)
    return command


def with_seeds(
    random_weights: bool, seeds: tuple[int, ...] | None, sample_seed: int | None
) -> dict[str, Any]:
    """Return --random-weights, --seed and --sample-seed as the arguments of `ingest`.

    Raises:
        UsageError: Several seeds for one sample.
    """
    if random_weights:
        return {"random_weights": True, "seeds": seeds or (0,), "seed": sample_seed or 0}
    if seeds is not None and (len(seeds) > 1 or sample_seed is not None):
        raise UsageError(
            "Without --random-weights, --seed is the seed of the sample; give one, and no --sample-seed."
        )
    return {"seed": seeds[0] if seeds else sample_seed or 0}


_FLOW = (
    click.option("--prefect", is_flag=True, help="Run as a Prefect flow, each unit a task."),
    click.option("--runner", metavar="dask[:ADDRESS]",
                 help="A flow whose units go to workers: dask or ray (on this machine), or at an "
                 "address."),
)  # fmt: skip


def flow_options(command: Command) -> Command:
    """Give a click command the options that run a job as a Prefect flow."""
    for option in reversed(_FLOW):
        command = option(command)
    return command


def parameters(
    _context: click.Context, _option: click.Parameter, pairs: tuple[str, ...]
) -> dict[str, str]:
    """Split each `--param K=V`; `query.parameters` reads the texts."""
    texts: dict[str, str] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"--param {pair} names no value; write --param name=value.")
        if name in texts:
            raise UsageError(f"--param {name} is given twice; give it once.")
        texts[name] = as_utf8(text)
    return texts


def as_utf8(text: str) -> str:
    """Read an argument as UTF-8 if the locale decoded its bytes otherwise."""
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeError:
        return text


analyses_option = click.option("--analyses", metavar="DIR",
                               help="A folder of your own analyses; also from ATTNSTORE_ANALYSES.")  # fmt: skip
param_option = click.option("--param", "params", multiple=True, callback=parameters, metavar="K=V",
                            help="Value of $K in the SQL; several times for several.")  # fmt: skip
memory_option = click.option("--memory", type=click.IntRange(64), default=process_memory.MEMORY >> 20,
                            show_default=True, metavar="MIB", help="Memory that the question may take.")  # fmt: skip
