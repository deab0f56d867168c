"""`attnstore.toml`: what a store should hold, read and validated.

    declared = read("attnstore.toml")

Every path in it is relative to the file's folder. A mistake is one sentence that names the file
and the key.
"""

from __future__ import annotations

import os
import re
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from attnstore.annotation import registry
from attnstore.capture import further_maps
from attnstore.capture.runs import Settings
from attnstore.declared import config_errors
from attnstore.errors import AttnstoreError, UsageError
from attnstore.experiments.patterns import stored_classes
from attnstore.models.locations import PACKAGE
from attnstore.naming import near
from attnstore.query import analyses
from attnstore.specs import check_name
from attnstore.storage import location
from attnstore.storage.backend import Backend

FILE = "attnstore.toml"

Name = Annotated[str, AfterValidator(check_name)]


def _pattern(text: str) -> str:
    try:
        groups = re.compile(text).groups
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression ({error})") from error
    if groups != 1:
        raise ValueError(f"{text!r} has {groups} groups in parentheses; write one, for the step")
    return text


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _no_zero(cls, given: Any) -> Any:
        for key, value in given.items() if isinstance(given, dict) else ():
            if isinstance(value, str) and "\0" in value:
                raise ValueError(f"{key} holds the character \\u0000, which no name or path has")
        return given


class Models(_Table):
    """One model, or the checkpoints of a training. Exactly one of id, folder, package, glob.

    base: name of the [[models]] that it was trained from, or the id that stands in its config;
    step: a regular expression over a folder's name whose group is the step, where there is no
    trainer_state.json; such a folder is complete without one; random_weights: seeds of the
    random-weights twins that stand beside it, called NAME-random-SEED.
    """

    name: Name
    id: str | None = None
    revision: str | None = None
    folder: str | None = None
    package: str | None = None
    glob: str | None = None
    base: str | None = None
    step: Annotated[str, AfterValidator(_pattern)] | None = None
    random_weights: tuple[Annotated[int, Field(ge=0)], ...] = ()

    @model_validator(mode="after")
    def _one_source(self) -> Models:
        given = [k for k in ("id", "folder", "package", "glob") if getattr(self, k) is not None]
        if len(given) != 1:
            said = f"has {' and '.join(given)}" if given else "says not where the model is"
            raise ValueError(f"{said}; give exactly one of id, folder, package and glob")
        if self.revision is not None and self.id is None:
            raise ValueError("has a revision, which only a model with an id has; leave it out")
        if self.step is not None and self.glob is None:
            raise ValueError("has a step, which only checkpoints with a glob have; leave it out")
        if self.random_weights and self.glob is not None:
            raise ValueError(
                "has random_weights, which serve all checkpoints of a training; give them to the model "
                "that it began with"
            )
        return self

    @property
    def spec(self) -> str:
        """The model as the command line writes it; not of a glob."""
        if self.id is not None:
            return self.id + (f"@{self.revision}" if self.revision else "")
        return f"{PACKAGE}{self.package}" if self.package is not None else str(self.folder)


class Data(_Table):
    """One dataset: what `--dataset` takes, and its columns."""

    name: Name
    source: str
    split: str | None = None
    text: str | None = None
    pair: str | None = None
    label: str | None = None
    language: str | None = None


def _storable_kind(name: str) -> str:
    try:
        further_maps.kinds([name])
    except AttnstoreError as error:
        raise ValueError(str(error).rstrip(".")) from error
    return name


class Ingest(_Table):
    """Models to run over datasets (all, unless some are named), and how.

    maps: kinds of maps to store, beside the weights.
    """

    models: tuple[str, ...] | None = None
    datasets: tuple[str, ...] | None = None
    max_length: int = 128
    pad_to: int | None = None
    precision: str = "float16"
    limit: int | None = None
    seed: int = 0
    layers: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    maps: tuple[Annotated[str, AfterValidator(_storable_kind)], ...] = ()

    @model_validator(mode="after")
    def _settings(self) -> Ingest:
        self.settings()
        return self

    def settings(self) -> Settings:
        """Return the settings as an ingestion takes them."""
        return Settings(**self.model_dump(exclude={"models", "datasets", "maps"}))


def _known_annotator(with_: str) -> str:
    registry.check(with_)
    return with_


class Annotate(_Table):
    """Datasets to annotate (all, unless some are named), and annotators."""

    with_: tuple[Annotated[str, AfterValidator(_known_annotator)], ...] = Field(
        alias="with", min_length=1
    )
    datasets: tuple[str, ...] | None = None
    as_published: bool = False


class Classify(_Table):
    """Pattern classes of every run whose name matches `runs`, by the network of a file or the package's."""

    runs: str = "*"
    network: str | None = None


def _known_analysis(name: str) -> str:
    known = analyses.listing()
    if name not in known:
        raise ValueError(f"{name!r} is no file of sql/analysis{near(name, known)}")
    return name


class Analysis(_Table):
    """An analysis to keep current for every run whose name matches `runs`."""

    name: Annotated[str, AfterValidator(_known_analysis)]
    runs: str = "*"
    params: dict[str, str | int | float | bool] = {}

    @model_validator(mode="after")
    def _known_params(self) -> Analysis:
        known = [p.name for p in analyses.find(self.name).parameters]
        for name in self.params:
            if name not in known:
                listed = f"; it takes {', '.join(known) or 'none'}"
                raise ValueError(
                    f"has params.{name}, which {self.name} does not take{near(name, known) or listed}"
                )
        return self


class Drift(_Table):
    """Heads that moved: how many to show, and the mean cosine below which to warn."""

    most: int = Field(default=10, ge=1)
    alert_below_base: float | None = Field(default=None, ge=0, le=1)
    alert_below_previous: float | None = Field(default=None, ge=0, le=1)


class Refresh(_Table):
    """What a refresh does beyond what is missing: update runs of an earlier capture."""

    update: bool = False


class Notify(_Table):
    """A line of the shell that is run when a refresh has failures or alerts to tell; JSON on its stdin."""

    command: str = Field(min_length=1)


class Declaration(_Table):
    """The whole file.

    Attributes:
        settle: Seconds without a change before a folder of weights is read.
        results: Folder of the results of analyses.
        report: Folder of the report; None for no report.
        classify: None if maps are not classified.
        notify: None if nobody is told of failures and alerts.
    """

    store: str
    device: Literal["auto", "cpu", "cuda"] = "auto"
    settle: float = Field(default=5.0, ge=0)
    results: str = "output/results"
    report: str | None = None
    models: tuple[Models, ...] = Field(min_length=1)
    datasets: tuple[Data, ...] = Field(min_length=1)
    ingest: tuple[Ingest, ...] = (Ingest(),)
    annotate: tuple[Annotate, ...] = ()
    classify: Classify | None = None
    analyses: tuple[Analysis, ...] = ()
    drift: Drift = Drift()
    refresh: Refresh = Refresh()
    notify: Notify | None = None
    _folder: Path = PrivateAttr(Path())

    def path(self, written: str) -> Path:
        """Make a path of the file absolute."""
        return (self._folder / os.path.expanduser(written)).absolute()

    @property
    def folder(self) -> Path:
        """The folder of the file, where its relative paths begin."""
        return self._folder

    @cached_property
    def backend(self) -> Backend:
        """The files of the store."""
        return location.locate(self.store if "://" in self.store else self.path(self.store))

    @property
    def network(self) -> Path | None:
        """File of the network that classifies, None for the package's."""
        if self.classify is None or self.classify.network is None:
            return None
        return self.path(self.classify.network)


def read(path: str | Path = FILE) -> Declaration:
    """Read and validate a file. Raises UsageError."""
    file = Path(path).expanduser()
    try:
        text = file.read_text("utf-8-sig")  # Windows' editors begin a file with a mark
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(
            f"{file} cannot be read ({reason}); `attnstore init` writes one to begin with."
        ) from error
    try:
        declared = Declaration(**tomllib.loads(text))
        declared._folder = file.absolute().parent
    except ValidationError as error:
        raise UsageError(config_errors.sentence(file, error.errors(), _keys)) from error
    except RecursionError as error:
        raise UsageError(
            f"{file} is nested too deeply; `attnstore init` shows its form."
        ) from error
    except ValueError as error:  # TOMLDecodeError, and an integer of thousands of digits
        raise UsageError(f"{file} is no TOML: {error}.") from error
    _refuse_unknown_names(file, declared)
    _refuse_no_network(file, declared)
    return declared


_TABLES: dict[str, type[_Table]] = {
    "models": Models, "datasets": Data, "ingest": Ingest, "annotate": Annotate,
    "classify": Classify, "analyses": Analysis, "drift": Drift,
    "refresh": Refresh, "notify": Notify,
}  # fmt: skip


def _keys(location: config_errors.Location) -> list[str]:
    """List the keys that the table of a location may have."""
    table = _TABLES.get(str(location[0]), Declaration) if len(location) > 1 else Declaration
    return [f.alias or name for name, f in table.model_fields.items()]


def _refuse_unknown_names(file: Path, declared: Declaration) -> None:
    """Refuse a name that two entries have, and a reference to one that no entry has."""

    def refuse(reason: str, *location: str | int) -> None:
        raise UsageError(f"{config_errors.at(file, location)} {reason}.")

    known: dict[str, list[str]] = {}
    for table in ("models", "datasets"):
        known[table] = []
        for i, entry in enumerate(getattr(declared, table)):
            if entry.name in known[table]:
                refuse(
                    f"{entry.name!r} is the name of another one too; change it", table, i, "name"
                )
            known[table].append(entry.name)
    users: list[tuple[str, int, Any]] = [("ingest", i, e) for i, e in enumerate(declared.ingest)]
    users += [("annotate", i, e) for i, e in enumerate(declared.annotate)]
    for table, i, entry in users:
        for key in known:
            for name in getattr(entry, key, None) or ():
                if name not in known[key]:
                    listed = near(name, known[key]) or f"; there are {', '.join(known[key])}"
                    refuse(f"there is no [[{key}]] with the name {name!r}{listed}", table, i, key)


def _refuse_no_network(file: Path, declared: Declaration) -> None:
    """Refuse a classification by a file that is missing or no network."""
    if declared.network is None:
        return
    try:
        stored_classes.fingerprint(declared.network)
    except UsageError as error:
        raise UsageError(f"{config_errors.at(file, ('classify', 'network'))} {error}") from error
