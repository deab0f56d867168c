"""Names of a dataset's classes, and which output of a model's head each label belongs to.

GLUE says entailment, neutral, contradiction; many public heads for MNLI answer in another order. A
number of a label means a place in the dataset's own list of names, never a place in the head.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from attnstore.errors import ModelError

_NLI = ("entailment", "neutral", "contradiction")
GLUE: dict[str, tuple[str, ...]] = {
    "ax": _NLI,
    "cola": ("unacceptable", "acceptable"),
    "mnli": _NLI,
    "mrpc": ("not_equivalent", "equivalent"),
    "qnli": ("entailment", "not_entailment"),
    "qqp": ("not_duplicate", "duplicate"),
    "rte": ("entailment", "not_entailment"),
    "sst2": ("negative", "positive"),
    "wnli": ("not_entailment", "entailment"),
}
"""By task with classes, their names in the order of GLUE's numbers (as `ClassLabel` on the Hub)."""

Names = dict[str, tuple[str, ...]]
"""By column, the names of its classes in the order of their numbers."""

_NO_NAME = re.compile(r"label_\d+", re.IGNORECASE)
_SHOWN = 6


def of_features(features: Mapping[str, Any]) -> Names:
    """Return names of the classes in `datasets` features, given as objects or as their JSON."""
    classes = {}
    for column, feature in features.items():
        names = feature.get("names") if isinstance(feature, dict) else getattr(feature, "names", ())
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            classes[column] = tuple(names)
    return classes


def of_file(path: Path) -> Names:
    """Return names of the classes that the metadata of a Parquet file keeps; empty where it keeps none."""
    try:
        metadata = (pq.read_schema(path).metadata or {}).get(b"huggingface", b"{}")
        features = json.loads(metadata)["info"]["features"]
    except (OSError, pa.ArrowException, ValueError, RecursionError, LookupError, TypeError):
        return {}
    return of_features(features) if isinstance(features, dict) else {}


def of_place(path: Path, split: str | None) -> Names:
    """Return names of the classes of a Parquet file, or of a split of a folder of Parquet files."""
    files = [path] if path.is_file() else sorted([*path.glob("*"), *path.glob("data/*")])
    for file in files:
        of_split = path == file or re.sub(r"-\d{5}-of-\d{5}$", "", file.stem) == split
        if of_split and file.suffix.lower() == ".parquet":
            return of_file(file)
    return {}


def numbers(names: Sequence[str] | None, classes: Sequence[str]) -> dict[str, int]:
    """Return the place in `classes` of each label that a dataset may write: a name, or a number of `names`."""
    places = {name: number for number, name in enumerate(classes)}
    folded = {_fold(name): number for number, name in enumerate(classes)}
    return places | {
        str(number): folded[_fold(name)]
        for number, name in enumerate(names or ())
        if _fold(name) in folded and str(number) not in places
    }


def has_names(outputs: Sequence[str]) -> bool:
    """Check whether the outputs of a head are called by more than their numbers (`LABEL_0`)."""
    return bool(outputs) and not all(_NO_NAME.fullmatch(name) for name in outputs)


def order(names: Sequence[str], outputs: Sequence[str]) -> tuple[int, ...] | None:
    """Return the place in `names` of each output of a head; None unless both name the same classes."""
    places = {_fold(name): number for number, name in enumerate(names)}
    numbers = [places.get(_fold(name), -1) for name in outputs]
    return tuple(numbers) if sorted(numbers) == list(range(len(names))) else None


def match(
    labels: Collection[str],
    names: Sequence[str] | None,
    outputs: Sequence[str],
    source: str,
    model: str,
) -> dict[str, int]:
    """Return the output of the head that each label of a dataset belongs to.

    Args:
        labels: what stands in the column, each once: names, or numbers of `names`.
        names: names of the classes in the order of the dataset's numbers; None where unknown.
        outputs: what the head calls its outputs, in their order (`id2label`).
        source, model: of the dataset and of the head, for the error.

    Raises:
        ModelError: names of both sides do not match, or which is which cannot be known.
    """
    known = sorted(labels, key=lambda label: (len(label), label))
    if not has_names(outputs):
        return _by_number(known, names, outputs, source, model)
    exact = {name: number for number, name in enumerate(outputs)}
    folded = {_fold(name): number for number, name in enumerate(outputs)}
    where = exact if len(folded) < len(exact) else folded
    by_name = {label: called(label, names) for label in known}
    numbers = {label: where.get(n if where is exact else _fold(n)) for label, n in by_name.items()}
    if None not in numbers.values():
        return {label: number for label, number in numbers.items() if number is not None}
    if names is None and all(label.isdecimal() for label in known):
        raise ModelError(
            f"{source} numbers its labels ({_list(known)}) without names, and the head of {model} "
            f"calls its outputs {_list(outputs)}: which is which cannot be known; write the names "
            "into the column of labels, or name the dataset after its task of GLUE (PATH=rte)."
        )
    raise ModelError(
        f"The head of {model} has {len(outputs)} outputs ({_list(outputs)}) and {source} has "
        f"{len(known)} labels ({_list(list(by_name.values()))}): their names do not match; give a "
        "checkpoint of this task, or write the head's names into the column of labels."
    )


def _by_number(
    known: list[str], names: Sequence[str] | None, outputs: Sequence[str], source: str, model: str
) -> dict[str, int]:
    """For a head whose outputs have no names: the number of the label is that of the output."""
    classes = [*names] if names is not None else [str(i) for i in range(len(outputs))]
    numbers = {name: number for number, name in enumerate(classes)}
    numbers |= {str(number): number for number in range(len(classes))}
    complete = len(classes if names is not None else known) == len(outputs)
    if not complete or not set(known) <= set(numbers):
        raise ModelError(
            f"The head of {model} has {len(outputs)} outputs ({_list(outputs)}) and {source} has "
            f"{len(known)} labels ({_list([called(label, names) for label in known])}): they do not "
            "belong together; give a checkpoint of this task."
        )
    return {label: numbers[label] for label in known}


def called(label: str, names: Sequence[str] | None) -> str:
    """Return the name of a label that a dataset writes as a number, else the label.

    names: of the dataset's classes, in the order of their numbers; None where they are not known.
    """
    if names is None or label in names or not label.isdecimal() or len(label) > 9:
        return label
    return names[int(label)] if int(label) < len(names) else label


def _fold(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip().casefold())


def _list(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:_SHOWN])) + (", …" if len(names) > _SHOWN else "")
