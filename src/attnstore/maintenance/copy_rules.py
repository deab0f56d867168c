"""Rules for a copy into a store that is not empty, so that no row is there twice.

    merged = copy_rules.plan(source, target, fragments)

Of one owner and one kind (the classes of a run, the annotation of a dataset by one source, the scores
of one ablation) a store holds one result. Where both stores made one on their own, the target's stays
and a note says so; where the target has a part of the same result, the rest is added.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from attnstore.storage import fragments, locks
from attnstore.storage.backend import Backend
from attnstore.storage.fragments import Fragment
from attnstore.storage.locks import Lock
from attnstore.storage.tables import RULES, tables

OF_A_NAME = tuple(t.name for t in tables().values() if t.copy == "by name")
"""Tables in which one owner has one part, made from its content: another part is another thing."""
_OF_A_PLAN = tuple(t.name for t in tables().values() if t.copy in ("by name", "by plan"))
"""Tables whose parts follow from the run's plan: the same part is the same rows, wherever it was made."""

Kind = tuple[str, str]
"""A result that a store holds once: a word for it, and its owner."""
_WHOLE = ("annotation", "prunings")
"""Kinds whose parts are of no use beside parts that were made elsewhere."""
_WITH = {
    "patterns": "classes", "classifications": "classes", "spans": "annotation", "links": "annotation",
    "random_sets": "ablations", "pruning_sets": "prunings",
}  # fmt: skip
"""Tables that are one kind together, and its name; any other table is a kind of its own."""
_WORDS = {_WITH.get(t.name, t.name): t.copy for t in tables().values() if t.copy not in RULES}


@dataclass(frozen=True)
class Merged:
    """Plan of a copy.

    add: fragments to copy; unfinished: incomplete results of the target, to delete before;
    replaced: fragments of the target to delete afterwards; kept: results of the target that stay;
    unclear: results of the source from several networks.
    """

    add: list[Fragment] = field(default_factory=list)
    unfinished: list[Fragment] = field(default_factory=list)
    replaced: list[Fragment] = field(default_factory=list)
    kept: list[Kind] = field(default_factory=list)
    unclear: list[Kind] = field(default_factory=list)

    def notes(self) -> list[str]:
        """Describe the results that stayed behind, one sentence per kind."""
        return [
            *_sentences(self.kept, "The target keeps its own {}; those of the source stay behind."),
            *_sentences(self.unclear, "The {} are of several networks and stay behind: classify again."),
        ]  # fmt: skip


def _sentences(kinds: list[Kind], sentence: str) -> Iterator[str]:
    for word in dict.fromkeys(name for name, _ in kinds):
        whose = [owner for name, owner in kinds if name == word]
        more = f" and {len(whose) - 3} more" if len(whose) > 3 else ""
        yield sentence.format(f"{_WORDS[word]} {', '.join(whose[:3])}{more}")


def plan(source: Backend, target: Backend, wanted: list[Fragment]) -> Merged:
    """Decide, kind by kind, which of the `wanted` fragments to copy; writes nothing."""
    own, coming = (_by_kind(listed) for listed in (fragments.listing(target), wanted))
    merged = Merged()
    for of, parts in coming.items():
        paths = {f.path for f in parts}
        present = [f for f in own[of] if f.path in paths or fragments.whole(target, f)]
        before = len(merged.add)
        _one(source, target, of[0], parts, present, merged)
        missing = {_key(f) for f in parts} - {_key(f) for f in [*present, *merged.add[before:]]}
        differs = not paths <= {f.path for f in [*present, *merged.add[before:]]}
        if of[0] in _WORDS and (missing or differs):
            (merged.kept if present else merged.unclear).append(of)
    return merged


def _by_kind(listed: Iterable[Fragment]) -> dict[Kind, list[Fragment]]:
    grouped: dict[Kind, list[Fragment]] = defaultdict(list)
    for fragment in listed:
        grouped[kind(fragment)].append(fragment)
    return grouped


def kind(fragment: Fragment) -> Kind:
    """Return the result that a fragment is part of."""
    table, owner, part = _key(fragment)
    if _WITH.get(table) == "annotation":
        return "annotation", f"{owner} by {part.rpartition('.')[0]}"
    result = _WITH.get(table, table)
    if result == "ablations":
        return result, ".".join(part.split(".")[:2])
    if result == "prunings":
        return result, part.partition(".")[0]
    if table in ("head_importance", "evaluations"):
        return table, part
    return result, owner


def lock(backend: Backend, of: Kind) -> Lock | None:
    """Return the lock held while such a result is made, beside the lock of a run."""
    result, owner = of
    if result == "annotation":
        dataset, _, by = owner.rpartition(" by ")
        return locks.path_of(backend, f"annotate--{dataset}--{by}")
    if result in ("ablations", "head_importance"):
        return locks.path_of(backend, f"ablation-{owner.partition('.')[0]}")
    return locks.path_of(backend, f"pruning-{owner}") if result == "prunings" else None


def _key(fragment: Fragment) -> tuple[str, str, str]:
    return fragment.table, fragment.owner, fragment.part


def _one(
    source: Backend,
    target: Backend,
    word: str,
    coming: list[Fragment],
    present: list[Fragment],
    merged: Merged,
) -> None:
    """Add the fragments of one kind that the target may take. present: its whole fragments."""
    paths = {f.path for f in coming}
    coming_parts, present_parts = ({_key(f) for f in x} for x in (coming, present))
    if word == "labels":
        _labels(source, target, coming, present, merged)
    elif word in _OF_A_PLAN:
        merged.add.extend(_new(coming, present))
    elif word == "classes":
        merged.add.extend(_classes(coming, present))
    elif word == "annotation" and not any(f.table == "spans" for f in present):
        merged.unfinished.extend(f for f in present if f.path not in paths)
        merged.add.extend(coming)
    elif present_parts <= coming_parts and (
        word not in _WHOLE or {f.path for f in present} <= paths
    ):
        merged.add.extend(_new(coming, present))


def _new(coming: list[Fragment], present: list[Fragment]) -> list[Fragment]:
    """Select fragments, except parts that the target has under another checksum."""
    paths = {_key(f): f.path for f in present}
    return [f for f in coming if paths.get(_key(f), f.path) == f.path]


def _classes(coming: list[Fragment], present: list[Fragment]) -> list[Fragment]:
    """Select classes of one network; add records of classifications only beside all of the target's."""
    coming_networks, present_networks = (
        {f.part.rpartition(".")[2] for f in x if f.table == "patterns"} for x in (coming, present)
    )
    if len(coming_networks) > 1 or (present_networks and coming_networks != present_networks):
        return []
    records = [f for f in present if f.table == "classifications"]
    foreign = {_key(f) for f in records} - {_key(f) for f in coming}
    return [f for f in _new(coming, present) if f.table == "patterns" or not foreign]


def _labels(
    source: Backend,
    target: Backend,
    coming: list[Fragment],
    present: list[Fragment],
    merged: Merged,
) -> None:
    """Add every part; if a part differs, the version with the latest label."""
    own = {_key(f): f for f in present}
    for fragment in coming:
        existing = own.get(_key(fragment), fragment)
        if existing.path != fragment.path:
            latest = [
                fragments.read(backend, f)["labelled"].max()
                for backend, f in ((source, fragment), (target, existing))
            ]
            if latest[0] <= latest[1]:  # type: ignore[operator]
                continue
            merged.replaced.append(existing)
        merged.add.append(fragment)
