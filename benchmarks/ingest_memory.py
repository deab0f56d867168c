"""Peak memory of an ingestion: it must not grow with the number of inputs."""

from __future__ import annotations

import statistics

from benchmarks.common import MIB, Group, Place, Row, fresh, source

TARGET = 1.15


def measure(place: Place) -> Group:
    """Ingest few and many MNLI inputs, each in fresh processes."""
    few, many = (100, 400) if place.quick else (500, 5000)
    data = source("mnli", "validation_matched")
    peaks = {few: [], many: []}
    for number in range(place.repeats(2)):
        for limit in peaks:
            store = place.folder / f"memory-{limit}-{number}"
            peaks[limit].append(fresh("ingesting:ingest", str(store), data, limit).peak)
    at_few, at_many = (statistics.median(peaks[limit]) for limit in (few, many))
    row = Row(
        f"peak memory of ingest, {many} / {few} MNLI inputs",
        f"≤ {TARGET:.2f}×",
        f"{at_many / at_few:.2f}× ({at_many / MIB:.0f} MiB / {at_few / MIB:.0f} MiB)",
        at_many / at_few <= TARGET,
    )
    return Group([row], "Peak memory is the largest resident set of a fresh process.")
