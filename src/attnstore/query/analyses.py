"""The named analyses: those of attnstore, of a folder of one's own, and of a store.

A file is an analysis and its name the result's name (`analysis_file` has the form of a file):

    sql/analysis/NAME.sql         comes with attnstore
    DIR/NAME.sql                  `--analyses DIR`, `attnstore.open(path, analyses=DIR)`, ATTNSTORE_ANALYSES
    <store>/analysis/NAME.sql     lies in the store

Dropping a file into one of the folders is all that a new analysis takes. Those of a folder and of a store
are one SELECT over the views; the session holds them to it (`macros`).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from operator import attrgetter
from pathlib import Path, PurePosixPath

import polars as pl

from attnstore import resources
from attnstore.errors import AttnstoreError, UnknownNameError, UsageError
from attnstore.naming import near
from attnstore.query.analysis_file import Analysis, Parameter, arguments, parse
from attnstore.storage.backend import Backend

__all__ = ["Analyses", "Analysis", "Parameter", "arguments", "find", "listing", "parse"]

FOLDER = "analysis"
"""Folder of a store's own analyses, in the store."""
VARIABLE = "ATTNSTORE_ANALYSES"
"""Environment variable that names the folder of one's own analyses."""
LARGEST = 1 << 20
"""Bytes that the file of an analysis may have."""
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def listing() -> dict[str, Analysis]:
    """Read every analysis of attnstore itself, by name.

    Raises:
        UsageError: A header cannot be read.
    """
    return {
        name: parse(name, path.read_text("utf-8"))
        for name, path in resources.sql_files("analysis").items()
    }


def find(name: str) -> Analysis:
    """Read one analysis of attnstore itself.

    Raises:
        UnknownNameError: There is none of that name.
    """
    files = resources.sql_files("analysis")
    if name not in files:
        raise unknown(name, files)
    return parse(name, files[name].read_text("utf-8"))


def unknown(name: str, known: Mapping[str, object]) -> UnknownNameError:
    """Say that there is no such analysis."""
    return UnknownNameError(
        f"There is no analysis {name!r}{near(name, known) or '; there are ' + ', '.join(known)}"
    )


def frame(analyses: Iterable[Analysis]) -> pl.DataFrame:
    """List analyses as rows: name, title, parameters and columns as text, file."""
    rows = [
        (a.name, a.title, ", ".join(p.shown for p in a.parameters),
         ", ".join(c.name for c in a.columns), a.file)
        for a in analyses
    ]  # fmt: skip
    names = ("name", "title", "parameters", "columns", "file")
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")


class Analyses:
    """The named analyses that can be asked of a store.

    Args:
        backend: The store's files; None for no store.
        folder: A folder of one's own; None takes ATTNSTORE_ANALYSES, if it is set.

    Files are read when they are asked for, so a file that is added or edited counts at once; in a
    bucket they are listed once.
    """

    def __init__(self, backend: Backend | None = None, folder: str | Path | None = None) -> None:
        self._backend = backend
        chosen = folder or os.environ.get(VARIABLE)
        self.folder = Path(chosen).expanduser() if chosen else None

    def names(self) -> list[str]:
        """List the names: of attnstore first, then the own ones."""
        return [*resources.sql_files("analysis"), *self._own()]

    def find(self, name: str) -> Analysis:
        """Read one analysis.

        Raises:
            UnknownNameError: There is none of that name.
            UsageError: Its file cannot be read; the sentence names file and line.
        """
        if name in resources.sql_files("analysis"):
            return find(name)
        own = self._own()
        if name not in own:
            raise unknown(name, dict.fromkeys(self.names()))
        return own[name].read()

    def listing(self) -> dict[str, Analysis]:
        """Read every analysis, by name; `problems` says which own ones are left out, and why."""
        return listing() | {name: a for name, a, _ in self._read() if a}

    def problems(self) -> list[str]:
        """Say which own files are no analyses, one sentence each."""
        shipped = resources.sql_files("analysis")
        taken = [
            f"{own.file} is left out: attnstore has an analysis {own.name}; give the file another name."
            for own in self._files()
            if own.name in shipped
        ]
        misnamed = [
            f"{own.file} is left out: {own.name!r} cannot be a name in SQL; use letters, digits and _."
            for own in self._files()
            if not _NAME.fullmatch(own.name)
        ]
        return taken + misnamed + [problem for _, _, problem in self._read() if problem]

    def _read(self) -> Iterator[tuple[str, Analysis | None, str]]:
        """Own analyses: name, the analysis or None, the problem or ''."""
        for name, own in self._own().items():
            try:
                yield name, own.read(), ""
            except AttnstoreError as error:
                yield name, None, str(error)

    def _own(self) -> dict[str, _OwnFile]:
        """Own files that may be analyses, by name; those of the folder before those of the store."""
        shipped = resources.sql_files("analysis")
        usable = {
            own.name: own
            for own in reversed(self._files())
            if own.name not in shipped and _NAME.fullmatch(own.name)
        }
        return dict(sorted(usable.items()))

    def _files(self) -> list[_OwnFile]:
        return [*self._of_folder(), *self._of_store()]

    def _of_folder(self) -> list[_OwnFile]:
        if self.folder is None:
            return []
        if not self.folder.is_dir():
            raise UsageError(
                f"{self.folder} is no folder; --analyses (or {VARIABLE}) names the folder of your "
                "own analyses, one NAME.sql each."
            )
        return _on_disk(sorted(self.folder.glob("*.sql")), f"{self.folder}/")

    def _of_store(self) -> list[_OwnFile]:
        if self._backend is None:
            return []
        return _in_folder(self._backend) if self._backend.is_local else self._in_bucket

    @cached_property
    def _in_bucket(self) -> list[_OwnFile]:
        assert self._backend is not None
        bucket = self._backend
        return [
            _OwnFile(file.path, file.bytes, partial(bucket.read, file.path))
            for file in sorted(bucket.files(FOLDER), key=attrgetter("path"))
            if file.path.endswith(".sql") and file.path.count("/") == 1
        ]


@dataclass(frozen=True)
class _OwnFile:
    """A file of a folder of one's own or of a store. file: its path, for people; size: in bytes."""

    file: str
    size: int
    data: Callable[[], bytes]

    @property
    def name(self) -> str:
        return PurePosixPath(self.file).stem

    def read(self) -> Analysis:
        """Read the analysis. Raises UsageError, which names the file."""
        if self.size > LARGEST:
            raise UsageError(
                f"{self.file} has {self.size:,} bytes; an analysis has at most {LARGEST:,}."
            )
        try:
            data = self.data()
            return parse(self.name, data.decode("utf-8-sig"), self.file, shipped=False)
        except OSError as error:
            raise UsageError(f"{self.file} cannot be read ({error.strerror}).") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{self.file} is not UTF-8; save it as UTF-8.") from error


def _in_folder(backend: Backend) -> list[_OwnFile]:
    """List the files of a store in a folder, without links: their targets are not the store's."""
    folder = backend.root / FOLDER
    files = [] if folder.is_symlink() else sorted(folder.glob("*.sql"))
    return _on_disk([path for path in files if not path.is_symlink()], f"{FOLDER}/")


def _on_disk(paths: Iterable[Path], prefix: str) -> list[_OwnFile]:
    """Describe files of this machine; `prefix` stands before their names."""
    files = []
    for path in paths:
        with contextlib.suppress(OSError):  # removed since it was listed
            files.append(_OwnFile(f"{prefix}{path.name}", path.stat().st_size, path.read_bytes))
    return files
