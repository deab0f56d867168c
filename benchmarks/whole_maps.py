"""Functions over whole maps against decoding the same chunks alone, and all pairs of heads."""

from __future__ import annotations

import statistics
from typing import Any

import attnstore
from benchmarks import decoding
from benchmarks.common import RUN, Group, Place, Row, alternate, fresh, ratio, timed

SUMS = {
    "attention_row_max": "list_sum(attention_row_max(run_key, layer, head, cell, length))",
    "attention_row_argmax": "list_sum(attention_row_argmax(run_key, layer, head, cell, length))",
    "attention_count_above": "attention_count_above(run_key, layer, head, cell, length, 0.3)",
}
"""What is summed up over all maps of the run, by function."""
TARGET = 2.0
PAIRS_SECONDS = 60.0
PAIRS = """
SELECT layer, head, other_layer, other_head, avg(js) AS js
FROM (SELECT unnest(attention_head_pairs(run_key, cell, length, run_key, cell), max_depth := 2)
      FROM (SELECT DISTINCT run_key, cell, length FROM map_places WHERE run = $run))
GROUP BY ALL
"""


def measure(place: Place) -> Group:
    """Every row of this module on the run of 1000 RTE inputs."""
    seconds = fresh("whole_maps:functions", place.store, place.repeats(5)).result
    alone = statistics.median(seconds["decoding"])
    rows = [
        Row(
            f"{name} of every map of the run / decoding the same chunks alone", f"≤ {TARGET:.0f}×",
            f"{(value := ratio(seconds, name, 'decoding')):.2f}× "
            f"({statistics.median(seconds[name]):.2f} s / {alone:.2f} s)",
            value <= TARGET,
        )
        for name in SUMS
    ]  # fmt: skip
    pairs = fresh("whole_maps:pairs", place.store).result
    rows.append(
        Row(
            f"Jensen-Shannon distance of all {pairs['pairs']} pairs of heads over {place.inputs} inputs",
            f"≤ {PAIRS_SECONDS:.0f} s", f"{pairs['seconds']:.1f} s",
            pairs["seconds"] <= PAIRS_SECONDS,
        )
    )  # fmt: skip
    return Group(rows, decoding.NOTE)


def functions(store: str, repeats: int) -> dict[str, list[float]]:
    """Seconds of decoding every weight, and of each function over every map."""
    opened = attnstore.open(store)
    decode = decoding.every_head(store)

    def ask(expression: str) -> Any:
        text = (
            f"SELECT layer, head, sum({expression}) FROM map_places WHERE run = $run GROUP BY ALL"
        )
        return lambda _: opened.sql(text, run=RUN)

    asked = {name: ask(expression) for name, expression in SUMS.items()}
    for function in (decode, *asked.values()):
        function(0)
    return alternate(repeats, decoding=decode, **asked)


def pairs(store: str) -> dict[str, Any]:
    """Seconds of the distance of every two heads, mean over inputs."""
    opened = attnstore.open(store)
    answers = []
    seconds = timed(lambda: answers.append(opened.sql(PAIRS, run=RUN)))
    return {"seconds": seconds, "pairs": len(answers[0])}
