"""The steps that fill the store of the study: trainings, runs, annotations, twins, disabled heads.

Each step is a verb of the library, which does nothing where the store has what it makes; so a stopped study continues.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import attnstore
from studies.minilm import grid
from studies.minilm.grid import Size, Sources

_RATE = 5e-5
"""Learning rate: the highest that BERT's authors tried for GLUE, as the model is small; Kovaleva et al. take 2e-5."""
_STEP_OF_FILES = {"ewt": ("ud", "en_ewt-ud-dev.conllu"), "gap": ("gap", "gap-development.tsv")}


@dataclass(frozen=True)
class Step:
    """A step of the study.

    Attributes:
        part: What it belongs to, as the page lists times: training, runs, twins …
        name: Its own name.
        work: Does it.
    """

    part: str
    name: str
    work: Callable[[], object]


@dataclass(frozen=True)
class Place:
    """Where the study lies.

    Attributes:
        out: Folder of everything that is written.
    """

    out: Path

    @property
    def store(self) -> Path:
        """The store."""
        return self.out / "store"

    @property
    def times(self) -> Path:
        """Folder of what each step took, a file a step."""
        return self.out / "times"

    def checkpoints(self, task: str, init: str = "pretrained", seed: int = 0) -> list[Path]:
        """Return the checkpoints of a training, in the order of their steps."""
        folder = self.out / "checkpoints" / f"{grid.MODEL}-{task}-{init}-{seed}"
        return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))


def fill(
    place: Place,
    sources: Sources,
    size: Size,
    tasks: tuple[str, ...],
    parts: Sequence[str] = (),
) -> None:
    """Do every step, and keep what each took.

    Args:
        place: Where the study lies.
        sources: Where the data lies.
        size: How much of everything.
        tasks: Tasks of GLUE.
        parts: Only the steps of these parts; none for all.
    """
    for step in steps(place, sources, size, tasks):
        if not parts or step.part in parts:
            print(f"{step.part}: {step.name}", flush=True)
            _timed(place.times, step)


def steps(place: Place, sources: Sources, size: Size, tasks: tuple[str, ...]) -> Iterator[Step]:
    """Yield the steps in order; a later one may need files of an earlier one."""
    yield from _runs(place, sources, size, tasks)
    yield from _annotations(place, sources, tasks)
    yield from _twins(place, sources, size)
    yield from _further(place, sources)
    if sources.glue:
        yield from _trainings(place, sources.glue, size, tasks)
        yield from _trained_runs(place, sources.glue, size, tasks)
        yield from _classifiers(place, sources.glue, size, tasks)
    yield Step("classes", "patterns", lambda: _classify(place))


def _datasets(sources: Sources, tasks: tuple[str, ...]) -> dict[str, str]:
    """Return the sources of the runs by the name of their dataset."""
    found = {}
    for name, (source, file) in _STEP_OF_FILES.items():
        if folder := getattr(sources, source):
            found[name] = f"{folder / file}={name}"
    if sources.framenet:
        found["frames"] = f"framenet:{sources.framenet}=frames"
    found["agreement"] = "agreement"
    if sources.glue:
        found |= {task: f"{sources.glue / task}={task}" for task in tasks}
    return found


def _ingest(place: Place, size: Size, model: str, name: str, spec: str, **options: object) -> None:
    column = {"text": "Text"} if name == "gap" else {}
    attnstore.ingest(place.store, model, spec, limit=size.of_run(name), **column, **options)


def _runs(place: Place, sources: Sources, size: Size, tasks: tuple[str, ...]) -> Iterator[Step]:
    for name, spec in _datasets(sources, tasks).items():
        yield Step(
            "runs", name, lambda name=name, spec=spec: _ingest(place, size, grid.SPEC, name, spec)
        )


def _annotations(place: Place, sources: Sources, tasks: tuple[str, ...]) -> Iterator[Step]:
    names = _datasets(sources, tasks)
    how = {"ewt": "conllu", "gap": "gap", "agreement": "agreement"}
    if sources.framenet:
        how["frames"] = f"framenet:{sources.framenet}"
    pairs = [(name, annotator) for name, annotator in how.items() if name in names]
    if sources.spacy:
        pairs += [(task, f"spacy:{sources.spacy}") for task in tasks if task in names]
    pairs += [(task, "negation") for task in tasks if task in names]
    for name, annotator in pairs:
        yield Step(
            "annotations",
            f"{name} with {annotator.partition(':')[0]}",
            lambda name=name, annotator=annotator: attnstore.annotate(place.store, name, annotator),
        )


def _twins(place: Place, sources: Sources, size: Size) -> Iterator[Step]:
    """Random weights over the corpora and MRPC; of GAP, whose maps are many, one twin."""
    for name, spec in _datasets(sources, ("mrpc",)).items():
        seeds = range(1 if name == "gap" else size.twins)
        yield Step(
            "twins",
            name,
            lambda name=name, spec=spec, seeds=seeds: _ingest(
                place, size, grid.SPEC, name, spec, random_weights=True, seeds=seeds
            ),
        )


def _further(place: Place, sources: Sources) -> Iterator[Step]:
    if sources.ud:
        for by in ("weight", "norm"):
            yield Step(
                "probe", by, lambda by=by: attnstore.probe(place.store, grid.run("ewt"), by=by)
            )


def _trainings(place: Place, glue: Path, size: Size, tasks: tuple[str, ...]) -> Iterator[Step]:
    for row in grid.trainings(size, tasks):
        for seed in row.seeds:
            yield Step(
                "trainings",
                f"{row.task} {row.init} {seed}",
                lambda row=row, seed=seed: attnstore.finetune(
                    place.store, grid.SPEC, row.task, place.out / "checkpoints", data=str(glue), init=row.init, seeds=(seed,),
                    learning_rate=_RATE, bf16=True, epochs=size.epochs, checkpoints_per_epoch=row.per_epoch,
                    limit=None if row.init == "none" else size.trained_on(row.task),
                ),
            )  # fmt: skip


def _trained_runs(place: Place, glue: Path, size: Size, tasks: tuple[str, ...]) -> Iterator[Step]:
    for task in tasks:
        yield Step(
            "runs of checkpoints",
            task,
            lambda task=task: attnstore.ingest(
                place.store,
                [str(path) for path in place.checkpoints(task)],
                f"{glue / task}={task}",
                limit=size.of_run(task),
            ),
        )


def _classifiers(place: Place, glue: Path, size: Size, tasks: tuple[str, ...]) -> Iterator[Step]:
    for task in tasks:
        dataset = f"{glue / task}={task}"

        def last(task: str = task) -> str:
            return str(place.checkpoints(task)[-1])

        yield Step(
            "disabled heads",
            task,
            lambda last=last, dataset=dataset: attnstore.ablate(
                place.store, last(), dataset, limit=size.ablated
            ),
        )
        if task == "stsb":  # a score of similarity has no class to explain
            continue
        yield Step(
            "importance of tokens",
            task,
            lambda last=last, dataset=dataset, task=task: attnstore.attribute(
                place.store, last(), dataset, limit=size.of_run(task) or 1000
            ),
        )
    if "mrpc" in tasks:
        yield Step(
            "search for heads that can go",
            "mrpc",
            lambda: attnstore.prune(
                place.store,
                str(place.checkpoints("mrpc")[-1]),
                f"{glue / 'mrpc'}=mrpc",
                limit=size.pruned,
                at_once=size.at_once,
            ),
        )


def _classify(place: Place) -> None:
    with attnstore.open(place.store) as store:
        runs = store.sql("SELECT run FROM runs WHERE dataset = 'mrpc' ORDER BY run")["run"]
    attnstore.classify(place.store, runs.to_list())


def _timed(folder: Path, step: Step) -> None:
    """Do a step; keep its seconds, wall and processor, with those of earlier calls that were stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{step.part}: {step.name}.json"
    before = json.loads(file.read_text("utf-8")) if file.exists() else {}
    wall, processor, complete = time.monotonic(), _processor(), False
    try:
        step.work()
        complete = True
    finally:
        if not before.get(
            "complete"
        ):  # asked again, a step that is done takes no time worth a note
            record = {
                "part": step.part,
                "name": step.name,
                "wall": round(before.get("wall", 0.0) + time.monotonic() - wall, 1),
                "processor": round(before.get("processor", 0.0) + _processor() - processor, 1),
                "complete": complete,
                "date": time.strftime("%Y-%m-%d"),
            }
            file.write_text(json.dumps(record) + "\n", "utf-8")


def _processor() -> float:
    """Return the processor seconds of this process and of those that it waited for."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
