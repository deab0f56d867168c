"""A store in an S3 bucket: how many requests each thing takes, counted at a server on loopback.

Their number is what a bucket far away costs, in time and in money; seconds on loopback say little.
"""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.common import Group, Place, Row, fresh, source

HEAD = "SELECT sum(list_sum(weights)) FROM maps WHERE layer = 3 AND head = 7"
MAP = "SELECT weights FROM maps WHERE layer = 3 AND head = 7 AND example = $example"


def measure(place: Place) -> Group:
    """Ingest into a bucket, open it on another machine, ask."""
    sys.path.append(
        str(Path(__file__).parents[1] / "tests" / "support")
    )  # the server that the tests start
    inputs = 60 if place.quick else 400
    with importlib.import_module("bucket").running(place.folder / "s3") as server:
        machine = {**server.environment, "ATTNSTORE_CACHE": str(place.folder / "cache")}
        address = server.address("bench")
        counted: dict[str, Counter[str]] = {}

        def ask(what: str, name: str, *arguments: Any, **changed: str) -> Any:
            with server.requests() as requests:
                found = fresh(name, *arguments, environment={**machine, **changed}).result
            counted[what] = requests
            return found

        ask("ingesting", "ingesting:ingest", address, source("rte"), inputs)
        ask("asking for it again", "ingesting:ingest", address, source("rte"), inputs)
        elsewhere = {"ATTNSTORE_CACHE": str(place.folder / "elsewhere")}
        shards = ask("opening, another machine", "buckets:shards", address, **elsewhere)
        ask("opening again", "buckets:shards", address, **elsewhere)
        both = ask("one head", "buckets:head", address, **elsewhere)
        ask("one map", "buckets:map", address, both["example"], **elsewhere)
        if both["cold"] != both["warm"]:
            raise RuntimeError("a session that has read a head says something else the second time")
    opening = counted["opening again"]
    ranges = counted["one head"]["GET maps"]
    rows = [
        Row("requests for one head over all examples, per shard", "≤ 2", f"{ranges / shards:.2f}", ranges <= 2 * shards),
        *(Row(f"requests: {what}", "–", _told(found - (opening if what in ("one head", "one map") else Counter())), None)
          for what, found in counted.items()),
    ]  # fmt: skip
    return Group(rows, (
        f"*Requests* are those that a server on loopback saw, for {inputs} RTE inputs in {shards} shards. "
        "A head's chunks of a shard are neighbours: the shard's index is one request, all of them "
        "one more; asked again in the session, none. Those of opening are left out of one head and one map."
    ))  # fmt: skip


def _told(requests: Counter[str]) -> str:
    return f"{requests.total()}: " + ", ".join(
        f"{n} {kind}" for kind, n in sorted(requests.items())
    )


def shards(address: str) -> int:
    """In a fresh process: open the store; the shards of its only run."""
    import attnstore

    with attnstore.open(address) as store:
        return int(store.sql("SELECT sum(n_shards) FROM blocks").item())


def head(address: str) -> dict[str, Any]:
    """In a fresh process: the sum of one head over all examples, twice; and some example."""
    import attnstore

    with attnstore.open(address) as store:
        cold, warm = store.sql(HEAD).item(), store.sql(HEAD).item()
        return {
            "cold": cold,
            "warm": warm,
            "example": store.sql("SELECT max(example) FROM inputs").item(),
        }


def map(address: str, example: int) -> int:
    """In a fresh process: the size of one map."""
    import attnstore

    with attnstore.open(address) as store:
        return len(store.sql(MAP, example=example)["weights"][0])
