"""All annotators: one file each in the folder `annotators`, and those of installed packages.

A package offers an annotator by an entry point of the group `attnstore.annotators`. It is imported
only when `--with` names it.
"""

from __future__ import annotations

import pkgutil
from functools import cache, partial
from importlib import import_module, metadata
from pathlib import Path

from attnstore.annotation import annotators, package_annotator
from attnstore.annotation.annotators.interface import Annotator, Context, Kind
from attnstore.errors import UsageError
from attnstore.naming import near

GROUP = "attnstore.annotators"


@cache
def kinds() -> dict[str, Kind]:
    """Return the annotators that ship with attnstore, by name."""
    modules = pkgutil.iter_modules(annotators.__path__, f"{annotators.__name__}.")
    all_kinds = [getattr(import_module(module.name), "KIND", None) for module in modules]
    return {kind.name: kind for kind in all_kinds if kind is not None}


def forms() -> str:
    """List everything that may be written after `--with`, as one phrase."""
    all_forms = [form for kind in kinds().values() for form in kind.forms]
    return ", ".join(all_forms)


def check(with_: str, as_published: bool = False) -> Kind:
    """Find the kind of annotator that a text names.

    Raises:
        UsageError: there is none, or its form or `as_published` does not fit it.
    """
    name, _, argument = with_.partition(":")
    kind = kinds().get(name) or _of_a_package(name)
    if kind is None or not kind.accepts(argument):
        packages = sorted(entry.name for entry in metadata.entry_points(group=GROUP))
        known = [*kinds(), *packages]
        raise UsageError(
            f"Nothing annotates with {with_!r}; give one of {', '.join([forms(), *packages])}"
            f"{(kind is None and near(name, known)) or '.'}"
        )
    if as_published and not kind.published_rule:
        listed = " or ".join(form for k in kinds().values() if k.published_rule for form in k.forms)
        raise UsageError(f"as-published is a choice of {listed}; leave it out with {with_!r}.")
    return kind


def located(with_: str, folder: Path) -> str:
    """Return the same text with an absolute path, where it names a file relative to a folder."""
    name, _, argument = with_.partition(":")
    kind = kinds().get(name)
    if kind is None or not argument or not any(":F" in form for form in kind.forms):
        return with_
    return f"{name}:{folder / Path(argument).expanduser()}"


def make(with_: str, context: Context) -> Annotator:
    """Build the annotator that a text like `spacy:en_core_web_sm` names.

    Raises:
        UsageError: there is none, or the one of a package does not work.
        DatasetError, ModelError: the files or the model that it needs are not there.
    """
    kind = check(with_, context.as_published)
    annotator = kind.make(with_.partition(":")[2], context)
    taken = [k.name for k in kinds().values() if _may_have(k, annotator.source)]
    if kind.named and taken:
        raise UsageError(
            f"The source of {with_} cannot be called {annotator.source!r}, as annotations with "
            f"{taken[0]} are; add a name, as in {with_.rpartition('=')[0] or with_}=mine."
        )
    return annotator


def _may_have(kind: Kind, source: str) -> bool:
    """True if annotations by a kind may have this name of a source, as the store's files have it."""
    return source == kind.name or (kind.many_sources and source.startswith(f"{kind.name}-"))


def _of_a_package(name: str) -> Kind | None:
    """Return the annotator that an installed package offers under a name, not imported yet."""
    for entry in metadata.entry_points(group=GROUP, name=name):
        make = partial(package_annotator.load, entry, frozenset(kinds()))
        return Kind(name, (name, f"{name}:ARGUMENT"), f"what {entry.value} writes", make)
    return None
