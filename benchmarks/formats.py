"""Bytes and three questions against what people do today; `storages/` holds the ways."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import raw
from benchmarks.common import MIB, RUN, Fresh, Group, Place, Row, folder_bytes, fresh

OURS = "ours"
OTHERS = ("pickled", "hdf5", "nested", "dense", "tensors")
QUESTIONS = {
    "one_head": "one head over all inputs",
    "one_map": "one map of one input",
    "per_head": "mean of every weight per head",
}
REPEATS = {"one_head": 3, "one_map": 3, "per_head": 2}  # the last takes long
SIZE, FIRST, ELSEWHERE = 1.03, 1.0, 1.3


@dataclass(frozen=True)
class Asked:
    """One question of one format, medians over fresh processes. first: seconds to open and ask;
    warm: seconds to ask again; process: seconds of the whole process; peak: bytes when first
    answered, added: of them after the imports."""

    first: float
    warm: float
    process: float
    peak: float
    added: float
    answer: list[float]


Answers = dict[str, dict[str, Asked]]
"""By question, then by format."""


def measure(place: Place) -> Group:
    """Write every format, then ask each question of each, in fresh processes."""
    folder = place.raw
    paths = {OURS: Path(place.store)}
    for name in OTHERS:
        paths[name] = place.folder / f"formats-{name}"
        fresh("formats:write", name, folder, str(paths[name]))
    example = raw.described(folder)["examples"][place.inputs // 2]
    answers = {q: ask_all(paths, q, example, place.repeats(n)) for q, n in REPEATS.items()}
    sizes = {name: folder_bytes(path) for name, path in paths.items()}
    sizes["maps"] = folder_bytes(paths[OURS] / "attention.zarr" / RUN / "maps")
    return Group(
        [_bytes(sizes, place.inputs), *_questions(answers)], notes(answers, sizes, place.inputs)
    )


def write(name: str, folder: str, path: str) -> None:
    """Write one of the other formats from raw weights."""
    importlib.import_module(f"benchmarks.storages.{name}").write(Path(path), raw.maps(folder))


def ask_all(paths: dict[str, Path], question: str, example: int, repeats: int) -> dict[str, Asked]:
    """One question of every format in turn; they must agree on the answer."""
    found: dict[str, list[Fresh]] = {name: [] for name in paths}
    for _ in range(repeats):
        for name, path in paths.items():
            found[name].append(fresh("asking:ask", name, str(path), question, example))
    answers = {name: _median(asked) for name, asked in found.items()}
    for name, asked in answers.items():
        if not np.allclose(asked.answer, answers[OURS].answer, rtol=1e-3):
            raise RuntimeError(f"{name} answers {question} otherwise than attnstore")
    return answers


def _median(found: list[Fresh]) -> Asked:
    results = [f.result for f in found]
    measured = {
        name: median(r[name] for r in results) for name in ("first", "warm", "peak", "added")
    }
    return Asked(**measured, process=median(f.seconds for f in found), answer=results[0]["answer"])


def _bytes(sizes: dict[str, int], inputs: int) -> Row:
    smallest = min(OTHERS, key=lambda name: sizes[name])
    value = sizes["maps"] / sizes[smallest]
    return Row(
        f"bytes of {inputs} inputs' maps / the smallest other lossless float16 ({smallest})",
        f"≤ {SIZE:.2f}×",
        f"{value:.2f}× ({sizes['maps'] / MIB:.0f} MiB / {sizes[smallest] / MIB:.0f} MiB)",
        value <= SIZE,
    )


def _questions(answers: Answers) -> list[Row]:
    kinds = {"first": "in a fresh process", "warm": "in a warm session"}
    rows = [
        _against_best(
            f"{title}, {kind}",
            answers[question],
            what,
            FIRST if question == "one_head" else ELSEWHERE,
        )
        for question, title in QUESTIONS.items()
        for what, kind in kinds.items()
    ]
    return [
        *rows,
        _against_best("peak memory of the one-head question", answers["one_head"], "peak", FIRST),
    ]


def _against_best(title: str, asked: dict[str, Asked], what: str, target: float) -> Row:
    """attnstore over the best of the others."""
    values = {name: getattr(one, what) for name, one in asked.items()}
    best = min(OTHERS, key=lambda name: values[name])
    value = values[OURS] / values[best]
    shown = [_shown(x, what) for x in (values[OURS], values[best])]
    return Row(
        f"{title}: attnstore / best other ({best})",
        f"≤ {target:.1f}×",
        f"{value:.2f}× ({shown[0]} / {shown[1]})",
        value <= target,
    )


def _shown(value: float, what: str) -> str:
    return f"{value / MIB:.0f} MiB" if what == "peak" else f"{value * 1e3:.1f} ms"


def notes(answers: Answers, sizes: dict[str, int], inputs: int) -> str:
    """Everything that was measured of each format, as a table."""
    lines = [
        f"*Formats*, {inputs} RTE inputs, lossless float16. Times in ms: to open and ask in a "
        "fresh process (imports aside) / to ask again there / the whole process from its start. "
        "The files are in the page cache. Peak memory is that of the one-head question, in brackets "
        "what it adds to the imports. A pickle's warm session holds all weights in memory.",
        "",
        f"| format | MiB | {' | '.join(QUESTIONS.values())} | peak MiB |",
        "|---" * (len(QUESTIONS) + 3) + "|",
    ]
    for name in (OURS, *OTHERS):
        label = importlib.import_module(f"benchmarks.storages.{name}").LABEL
        size = f"{sizes[name] / MIB:.0f}"
        if name == OURS:
            size = f"{sizes['maps'] / MIB:.0f}; whole store {size}"
        asked = [answers[q][name] for q in QUESTIONS]
        times = [" / ".join(f"{x * 1e3:.0f}" for x in (a.first, a.warm, a.process)) for a in asked]
        one = answers["one_head"][name]
        memory = f"{one.peak / MIB:.0f} (+{one.added / MIB:.0f})"
        lines.append(f"| {label} | {size} | {' | '.join(times)} | {memory} |")
    return "\n".join(lines)
