"""What the store does not say about a head, each with the one command that brings it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from attnstore.web import head_relations
from attnstore.web.run_records import Row, training_of
from attnstore.web.site import Site


@dataclass(frozen=True)
class Lacking:
    """Something that the store does not say, and the command that brings it."""

    what: str
    command: str


def about_heads(site: Site, run: Row, effects: bool) -> list[Lacking]:
    """Return what is missing about the heads of a run.

    Args:
        site: The explorer.
        run: The run.
        effects: True if the store says what disabling its heads does.
    """
    made = site.store.ask(
        "SELECT m.source AS model_source, m.random_seed, d.source AS dataset_source, d.split FROM models m, datasets d "
        "WHERE m.model = $model AND d.dataset = $dataset",
        model=run["model"], dataset=run["dataset"],
    ).row(0, named=True)  # fmt: skip
    dataset = _named("--dataset", made["dataset_source"], run["dataset"]) + _split(made["split"])
    model = _named("--model", made["model_source"], run["model"])
    found = []
    if made["random_seed"] is None:
        if site.store.ask("FROM random_twins WHERE run = $run LIMIT 1", run=run["run"]).is_empty():
            twins = (
                f"attnstore ingest{model}{dataset} --random-weights --seed 0,1,2{_settings(run)}"
            )
            found.append(Lacking("What the same head does with random weights", twins))
        if len(training_of(site, run)) < 2:
            folder = (
                made["model_source"].rpartition("/")[0] if run["step"] is not None else "TRAINING"
            )
            checkpoints = f"attnstore ingest --model {shlex.quote(f'{folder}/checkpoint-STEP')}{dataset}{_settings(run)}"
            found.append(Lacking("Since when in the training", checkpoints))
        if not effects:
            ablate = f"attnstore ablate{model}{dataset}"
            found.append(Lacking("What disabling it does, of a classifier", ablate))
    if site.store.ask("FROM classifications WHERE run = $run LIMIT 1", run=run["run"]).is_empty():
        found.append(Lacking("The pattern classes of its maps", f"attnstore classify --run {shlex.quote(run['run'])}"))  # fmt: skip
    if "dep" not in head_relations.sources(site, run):
        annotate = f"attnstore annotate --dataset {shlex.quote(run['dataset'])} --with spacy:en_core_web_sm"
        found.append(Lacking("Relations between words that it follows", annotate))
    return found


def _named(option: str, source: str, name: str) -> str:
    return f" {option} {shlex.quote(source if source == name else f'{source}={name}')}"


def _split(split: str | None) -> str:
    return f" --split {shlex.quote(split)}" if split not in (None, "validation") else ""


def _settings(run: Row) -> str:
    """Return the options that make another run alike, where they are not the defaults."""
    options = {
        "max-length": (run["max_length"], 128), "pad-to": (run["pad_to"], None), "precision": (run["precision"], "float16"),
        "limit": (run["sample"], None), "sample-seed": (run["seed"], 0), "disable": (run["disabled"], None),
        "disable-value": (run["disabled_value"], "uniform"),
    }  # fmt: skip
    given = {
        name: value for name, (value, default) in options.items() if value not in (None, default)
    }
    return "".join(f" --{name} {shlex.quote(str(value))}" for name, value in given.items())
