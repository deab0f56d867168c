"""Questions in SQL against the least that reading the same numbers could cost."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np

import attnstore
from benchmarks import decoding, raw
from benchmarks.common import MIB, RUN, Group, Place, Row, alternate, fresh, peak, ratio

WHERE = "WHERE run = $run AND layer = $layer AND head = $head"
ONE_HEAD = {
    "maps": f"SELECT sum(weight) FROM (SELECT unnest(weights) AS weight FROM maps {WHERE})",
    "attention": f"SELECT sum(weight) FROM attention {WHERE}",
}
EVERY_WEIGHT = {
    "mean weight of every head, a group-by from `attention`": (
        "SELECT layer, head, avg(weight) FROM attention WHERE run = $run GROUP BY ALL", 3.0,
    ),
    "sum of squared weights per row and head, list functions on `maps`": (
        "SELECT layer, head, avg(list_dot_product(weights, weights) / length) FROM maps "
        "WHERE run = $run GROUP BY ALL", 1.7,
    ),
    "`list_sum` of every row of `maps`": (
        "SELECT layer, head, avg(list_sum(weights)) FROM maps WHERE run = $run GROUP BY ALL", 1.7,
    ),
}  # fmt: skip
"""Questions that read every weight of the run, and how much longer than decoding each may take."""
ONE_HEAD_TARGETS = {"maps": 2.0, "attention": 4.0}
MEMORY = 1 << 30
ONE_MAP = 0.015


def measure(place: Place) -> Group:
    """Every question of this module on the run of 1000 RTE inputs."""
    store, folder = place.store, place.raw
    rows = [*_one_head(place, store, folder), _one_map(place, store)]
    rows += [_every_weight(place, store, what) for what in EVERY_WEIGHT]
    return Group(rows, (
        "*One head* and *one map* are asked in a warm session, another head or input each time, "
        "so that no answer comes out of a cache of decoded chunks; the raw memory map is summed "
        "by numpy in float32. *Every weight* is asked in a fresh process, whose largest resident "
        f"set is given, in brackets what the question added to it. {decoding.NOTE}"
    ))  # fmt: skip


def _one_head(place: Place, store: str, folder: str) -> list[Row]:
    seconds = fresh("queries:one_head", store, folder, place.repeats(15)).result
    plain = statistics.median(seconds["numpy"])
    rows = []
    for view, target in ONE_HEAD_TARGETS.items():
        value = ratio(seconds, view, "numpy")
        rows.append(
            Row(
                f"sum over one head of all {place.inputs} inputs from `{view}` / over a raw float16 "
                "memory map in numpy",
                f"≤ {target:.0f}×",
                f"{value:.1f}× ({statistics.median(seconds[view]) * 1e3:.0f} ms / {plain * 1e3:.0f} ms)",
                value <= target,
            )
        )
    alone = ratio(seconds, "decoding", "numpy")
    rows.append(
        Row(
            "decoding that head's chunks alone / over the raw memory map: no question can be faster", "–",
            f"{alone:.1f}× ({statistics.median(seconds['decoding']) * 1e3:.0f} ms / {plain * 1e3:.0f} ms)",
            None,
        )
    )  # fmt: skip
    return rows


def one_head(store: str, folder: str, repeats: int) -> dict[str, list[float]]:
    """Seconds of one head's sum by each way, another head in every round."""
    opened, rows = attnstore.open(store), raw.rows(folder)
    heads = raw.described(folder)["heads"]

    def plain(number: int) -> float:
        return float(rows[number].sum(dtype=np.float32))

    def ask(view: str, number: int) -> float:
        layer, head = divmod(number, heads)
        return float(opened.sql(ONE_HEAD[view], run=RUN, layer=layer, head=head).item())

    decode = decoding.one_head(store)
    last = len(rows) - 1
    answers = [plain(last), ask("maps", last), ask("attention", last)]  # also warms up
    if not np.allclose(answers, answers[0], rtol=1e-3):
        raise RuntimeError(f"the ways to sum one head disagree: {answers}")
    return alternate(
        repeats,
        numpy=plain,
        maps=lambda number: ask("maps", number),
        # Far from the head whose chunks `maps` has just left in the cache.
        attention=lambda number: ask("attention", (number + len(rows) // 2) % len(rows)),
        decoding=lambda number: decode((number + len(rows) // 3) % len(rows)),
    )


def _one_map(place: Place, store: str) -> Row:
    seconds = statistics.median(fresh("queries:one_map", store, place.repeats(30)).result)
    return Row(
        "one map of one example, warm session", f"≤ {ONE_MAP * 1e3:.0f} ms",
        f"{seconds * 1e3:.1f} ms", seconds <= ONE_MAP,
    )  # fmt: skip


def one_map(store: str, repeats: int) -> list[float]:
    """Seconds of one map in SQL, another input every time."""
    opened = attnstore.open(store)
    examples = opened.sql(
        "SELECT example FROM inputs WHERE run = $run ORDER BY hash(example)", run=RUN
    )

    def ask(number: int) -> Any:
        return opened.sql(
            "SELECT weights FROM maps "
            "WHERE run = $run AND example = $example AND layer = 2 AND head = 3",
            run=RUN, example=examples["example"][number],
        )["weights"][0]  # fmt: skip

    ask(len(examples) - 1)
    return alternate(repeats, ask=ask)["ask"]


def _every_weight(place: Place, store: str, what: str) -> Row:
    text, target = EVERY_WEIGHT[what]
    found = fresh("queries:every_weight", store, text, place.repeats(3))
    seconds, weights, before = (found.result[name] for name in ("seconds", "weights", "before"))
    value, asked = ratio(seconds, "asking", "decoding"), statistics.median(seconds["asking"])
    return Row(
        f"every weight of the run ({weights / 1e6:.0f} million): {what} / decoding the same chunks alone",
        f"≤ {target:.1f}×, ≤ {MEMORY / MIB:.0f} MiB",
        f"{value:.2f}× ({asked:.2f} s / {statistics.median(seconds['decoding']):.2f} s; "
        f"{weights / asked / 1e6:.0f} million weights/s), {found.peak / MIB:.0f} MiB "
        f"(+{(found.peak - before) / MIB:.0f})",
        value <= target and found.peak <= MEMORY,
    )


def every_weight(store: str, text: str, repeats: int) -> dict[str, Any]:
    """Seconds of a question over every weight and of decoding alone, and the peak memory before."""
    opened, decode = attnstore.open(store), decoding.every_head(store)
    weights = int(opened.sql("SELECT n_weights FROM runs WHERE run = $run", run=RUN).item())
    before = peak()

    def ask(_: int) -> Any:
        return opened.sql(text, run=RUN)

    for function in (decode, ask):  # also warms up
        function(0)
    seconds = alternate(repeats, decoding=decode, asking=ask)
    return {"seconds": seconds, "weights": weights, "before": before}
