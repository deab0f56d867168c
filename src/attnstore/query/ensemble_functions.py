"""SQL functions over means of several heads' maps of words; `ensembles` and `word_kernels` compute.

sql/schema/session/6-words.sql describes their arguments and results.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from attnstore.errors import QueryError
from attnstore.query import arrow, ensembles, map_reader, word_functions, word_kernels
from attnstore.query.ensembles import Links
from attnstore.query.kernels import Floats
from attnstore.query.map_reader import MapReader
from attnstore.query.tree_functions import Head
from attnstore.storage.reads import Ints

_ARGUMENTS: list[Any] = [
    "UBIGINT",
    "STRUCT(cell BIGINT, length BIGINT, words BIGINT[])[]",
    "VARCHAR",
    "BOOLEAN",
    "BOOLEAN",
    "STRUCT(input BIGINT, attending BIGINT, attended BIGINT, item BIGINT, half BIGINT)[]",
    "STRUCT(item BIGINT, half BIGINT, candidates STRUCT(layer BIGINT, head BIGINT)[])[]",
    "BIGINT",
]
_RESULT = "STRUCT(chosen STRUCT(item INTEGER, half INTEGER, heads VARCHAR)[], held_out INTEGER[], single INTEGER[], fitted INTEGER[])"


class _Inputs(NamedTuple):
    """Inputs of a run.

    Attributes:
        run_key: Key of the run.
        cell, length: First cell and tokens of each.
        words, senders: The word of each token as columns and as rows count for it, all inputs' end to end.
    """

    run_key: int
    cell: Ints
    length: Ints
    words: Ints
    senders: Ints

    def at(self, rows: Ints) -> _Inputs:
        """Return some of the inputs; rows: in order."""
        kept = np.zeros(len(self.cell), bool)
        kept[rows] = True
        tokens = np.repeat(kept, self.length)
        columns = (self.cell[kept], self.length[kept], self.words[tokens], self.senders[tokens])
        return _Inputs(self.run_key, *columns)


class _Part(NamedTuple):
    """The inputs that an ensemble is chosen on: a half, or all (-1); candidates: heads, the best first."""

    item: int
    half: int
    candidates: list[Head]


class EnsembleFunctions:
    """The function that chooses ensembles, of one session. reader: its arrays."""

    def __init__(self, reader: MapReader) -> None:
        self._reader = reader
        self._one = threading.Lock()  # the maps of one run at a time: its twins are asked beside it

    def functions(self) -> list[tuple[str, Callable[..., pa.Array], list[Any], str]]:
        """List the functions: name, call, parameters, result."""
        return [("attention_head_ensembles", self._head_ensembles, _ARGUMENTS, _RESULT)]

    def _head_ensembles(
        self,
        run_key: Any,
        inputs: Any,
        pieces: Any,
        renormalise: Any,
        to_itself: Any,
        links: Any,
        parts: Any,
        most: Any,
    ) -> pa.StructArray:
        rules = zip(renormalise.to_pylist(), to_itself.to_pylist(), most.to_pylist(), strict=True)
        runs = zip(
            run_key.to_pylist(), inputs, pieces.to_pylist(), links, parts, rules, strict=True
        )
        with self._one:
            answers = [
                self._of_run(_inputs(key, of_run, way), _links(joins), _parts(which), *rule)
                for key, of_run, way, joins, which, rule in runs
            ]
        chosen = [heads for heads, _ in answers]
        rows = [(*key, heads) for found in chosen for key, heads in found.items()]
        item, half, texts = zip(*rows, strict=True) if rows else ((), (), ())
        columns: dict[str, Any] = {
            "item": np.array(item, np.int32),
            "half": np.array(half, np.int32),
            "heads": arrow.texts(texts),
        }
        counts = np.array([len(found) for found in chosen])
        sizes = np.array([len(found[0]) for _, found in answers])
        hits = np.concatenate([found for _, found in answers], axis=1)
        return arrow.structs(
            {
                "chosen": arrow.lists(arrow.structs(columns), counts),
                **{
                    name: arrow.lists(right, sizes, right < 0)
                    for name, right in zip(("held_out", "single", "fitted"), hits, strict=True)
                },
            }
        )

    def _of_run(
        self,
        inputs: _Inputs,
        links: Links,
        parts: list[_Part],
        renormalise: bool,
        to_itself: bool,
        most: int,
    ) -> tuple[dict[tuple[int, int], str], npt.NDArray[np.int32]]:
        """Choose the ensemble of each part of the links of a run.

        Returns:
            Heads as `head_sets` writes them by item and half; and of each link, whether it is right (1), or not (0),
            by the ensemble of the other half, the first candidate of the other half, and the ensemble of all
            inputs, -1 where there is none, (3, links).
        """
        n_words = word_kernels.sizes(inputs.length, inputs.words)
        _check(links, n_words, most)
        chosen, hits = {}, np.full((3, len(links.item)), -1, np.int32)
        for group in _groups(parts, links, n_words):
            of_group = np.flatnonzero(np.isin(links.item, [part.item for part in group]))
            wanted, numbers = np.unique(links.input[of_group], return_inverse=True)
            heads = sorted({head for part in group for head in part.candidates})
            maps = self._maps(inputs.at(wanted), heads, renormalise)
            words = n_words[wanted]
            begins = np.cumsum(words**2) - words**2
            here = links.at(of_group)._replace(input=numbers)
            for part in group:
                of_item = here.item == part.item
                on = of_item & (here.half == part.half) if part.half >= 0 else of_item
                candidates = [heads.index(head) for head in part.candidates]
                rows = ensembles.rows_of(here.at(np.flatnonzero(on)), words, begins, to_itself)
                found = ensembles.greedy(maps, candidates, rows, most)
                names = sorted(heads[k] for k in found)
                chosen[part.item, part.half] = ",".join(f"{y}.{h}" for y, h in names)
                scored = np.flatnonzero(of_item & (here.half != part.half))
                rows = ensembles.rows_of(here.at(scored), words, begins, to_itself)
                if part.half < 0:
                    hits[2, of_group[scored]] = ensembles.hits(maps, found, rows)
                else:
                    hits[0, of_group[scored]] = ensembles.hits(maps, found, rows)
                    hits[1, of_group[scored]] = ensembles.hits(maps, candidates[:1], rows)
        return chosen, hits

    def _maps(self, inputs: _Inputs, heads: Sequence[Head], renormalise: bool) -> Floats:
        """Read the maps of words of some heads, all inputs' end to end, (heads, cells), and a last cell of -inf."""
        n_words = word_kernels.sizes(inputs.length, inputs.words)
        ends = np.concatenate(([0], np.cumsum(inputs.length)))
        maps = np.full((len(heads), int((n_words**2).sum()) + 1), -np.inf, np.float32)
        keys = np.full(len(inputs.cell), inputs.run_key, np.uint64)
        for row, (layer, head) in zip(maps, heads, strict=True):
            at = (np.full(len(keys), layer), np.full(len(keys), head), inputs.cell, inputs.length)
            parts = []
            for rows, values in self._reader.maps(keys, *at):
                tokens = slice(ends[rows.start], ends[rows.stop])
                words, senders = inputs.words[tokens], inputs.senders[tokens]
                parts.append(word_kernels.maps(values, inputs.length[rows], words, senders))
            flat = np.concatenate(parts)
            row[:-1] = ensembles.divided(flat, n_words) if renormalise else flat
        return maps


def _inputs(run_key: int, inputs: Any, pieces: str) -> _Inputs:
    cell, length, words = inputs.values.flatten()
    lengths = arrow.integers(length)
    numbers = word_functions.numbers_of(lengths, words)
    senders = word_functions.senders_of(lengths, numbers, arrow.texts([pieces] * len(lengths)))
    return _Inputs(run_key, arrow.integers(cell), lengths, numbers, senders)


def _links(links: Any) -> Links:
    return Links(*(arrow.integers(column) for column in links.values.flatten()))


def _parts(parts: Any) -> list[_Part]:
    rows = parts.as_py()
    return [
        _Part(r["item"], r["half"], [(c["layer"], c["head"]) for c in r["candidates"]])
        for r in rows
    ]


def _check(links: Links, n_words: Ints, most: int) -> None:
    if most < 1:
        raise QueryError(f"An ensemble was to have {most} heads; give heads = 1 or more.")
    words = n_words[links.input]
    wrong = (links.attending == links.attended) | (links.attending < 0) | (links.attended < 0)
    wrong |= (links.attending >= words) | (links.attended >= words)
    if wrong.any():
        at = np.flatnonzero(wrong)[0]
        raise QueryError(
            f"attention_head_ensembles was given a link from word {links.attending[at]} to word {links.attended[at]} of "
            f"an input of {words[at]} words; give two different words, counted from 0."
        )


def _groups(parts: list[_Part], links: Links, n_words: Ints) -> Iterator[list[_Part]]:
    """Put the parts of items together whose maps fit into memory at once.

    Raises:
        QueryError: Those of one item do not.
    """
    group: list[_Part] = []
    inputs, heads = np.zeros(len(n_words), bool), set[Head]()
    for item in dict.fromkeys(part.item for part in parts):
        own = [part for part in parts if part.item == item]
        of_item = np.zeros(len(n_words), bool)
        of_item[links.input[links.item == item]] = True
        candidates = {head for part in own for head in part.candidates}
        if _cells(of_item, candidates, n_words) > map_reader.MAX_CELLS:
            raise QueryError(
                f"The maps of {len(candidates)} heads over {of_item.sum()} inputs are more than the "
                f"{map_reader.MAX_CELLS * 4 / 2**30:.0f} GiB that ensembles are chosen in; give fewer candidates, "
                "or a relation that fewer inputs have."
            )
        if group and _cells(inputs | of_item, heads | candidates, n_words) > map_reader.MAX_CELLS:
            yield group
            group, inputs, heads = [], np.zeros(len(n_words), bool), set()
        group += own
        inputs |= of_item
        heads |= candidates
    if group:
        yield group


def _cells(inputs: npt.NDArray[np.bool_], heads: set[Head], n_words: Ints) -> int:
    return int((n_words[inputs] ** 2).sum()) * len(heads)
