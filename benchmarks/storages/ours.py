"""attnstore itself; its store is ingested before, and asked in SQL."""

from pathlib import Path

import attnstore
from attnstore import Store

LABEL = "**attnstore**"
_ONE = "WHERE layer = $layer AND head = $head"


def open(path: Path) -> Store:
    return attnstore.open(path)


def one_head(opened: Store, layer: int, head: int) -> float:
    question = f"SELECT sum(weight) FROM attention {_ONE}"
    return float(opened.sql(question, layer=layer, head=head).item())


def one_map(opened: Store, example: int, layer: int, head: int) -> float:
    question = f"SELECT list_sum(weights) FROM maps {_ONE} AND example = $example"
    return float(opened.sql(question, layer=layer, head=head, example=example).item())


def per_head(opened: Store) -> list[float]:
    question = "SELECT sum(list_sum(weights)) / sum(len(weights)) AS mean FROM maps"
    return opened.sql(f"{question} GROUP BY layer, head ORDER BY layer, head")["mean"].to_list()
