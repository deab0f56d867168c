"""Verbs whose options depend on what they name: `query NAME` and `figure NAME`.

`attnstore query drift --help` shows that analysis: its source, parameters and columns; and its parameters
are options: `attnstore query drift --run a/b` is `attnstore query drift --param run=a/b`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from attnstore.cli.command import Command
from attnstore.cli.options import as_utf8
from attnstore.errors import AttnstoreError, UsageError
from attnstore.query.analysis_file import Analysis, Parameter

_META, _META_NAME = "attnstore.named", "attnstore.name"
"""Keys of what a context names, and of the name."""
_VALUES = {
    "run": "minilm/sample", "base_run": "bert/sample", "model": "minilm", "dataset": "sample",
    "example": "3", "layer": "0", "head": "2",
}  # fmt: skip
"""Values of required parameters in an example."""


@dataclass(frozen=True)
class Named:
    """What a verb names: a figure or an analysis.

    Attributes:
        title: What it shows.
        source: Where it comes from; empty where that is not known.
        parameters: What it can be asked for.
        columns: (name and type, meaning) of each column of its rows.
        several: Names of parameters that may be given several times.
    """

    title: str
    source: str
    parameters: tuple[Parameter, ...]
    columns: tuple[tuple[str, str], ...] = ()
    several: tuple[str, ...] = ()


def of_analysis(analysis: Analysis) -> Named:
    """Describe an analysis."""
    columns = tuple(
        (f"{c.name} {c.type}", c.text + (f" ({c.unit})" if c.unit else ""))
        for c in analysis.columns
    )
    return Named(analysis.title, analysis.source, analysis.parameters, columns)


class NamedCommand(Command):
    """A verb whose argument `name` decides which options it has beside its own."""

    def find(self, context: click.Context, name: str, options: dict[str, Any]) -> Named:
        """Describe what has a name.

        Raises:
            AttnstoreError: There is nothing of that name.
        """
        raise NotImplementedError

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Read the arguments with the options of what they name."""
        try:
            context.meta[_META] = self._named(context, args)
        except AttnstoreError as error:
            context.meta[_META] = None
            try:
                return super().parse_args(context, args)
            except click.NoSuchOption:  # perhaps an option of what there is not
                raise error from None
        return super().parse_args(context, args)

    def _named(self, context: click.Context, args: Sequence[str]) -> Named | None:
        """Find what the arguments name, before it is known which of them are values of options.

        Raises:
            AttnstoreError: They name something that there is not.
        """
        parser = super().make_parser(context)
        parser.ignore_unknown_options = True
        try:
            options, rest, _ = parser.parse_args(list(args))
        except click.UsageError:  # it is said when the arguments are read in earnest
            return None
        words = [word for word in (options.get("name"), *rest) if isinstance(word, str)]
        failure = None
        for word in words:
            if not word.startswith("-"):
                try:
                    named = self.find(context, word, options)
                except AttnstoreError as error:
                    failure = failure or error
                    continue
                context.meta[_META_NAME] = word
                return named
        if failure is not None:
            raise failure
        return None

    def get_params(self, context: click.Context) -> list[click.Parameter]:
        """Return the verb's own options and those of what it names."""
        own = super().get_params(context)
        named: Named | None = context.meta.get(_META)
        if named is None:
            return own
        added = _options(named)
        taken = {name for option in added for name in option.opts}
        kept = [p for p in own if not (p.name in _ARRANGING and taken & set(p.opts))]
        used = {name for p in kept for name in p.opts}
        return [*(o for o in added if not used & set(o.opts)), *kept]

    def invoke(self, context: click.Context) -> Any:
        """Run the verb; values given as options stand among `params`."""
        texts: dict[str, Any] = context.params.setdefault("params", {})
        for key in [key for key in context.params if key.startswith(_PREFIX)]:
            value, name = context.params.pop(key), key.removeprefix(_PREFIX)
            if value is None or value == ():
                continue
            if name in texts:
                raise UsageError(
                    f"{name} is given twice, as --{name} and as --param; give it once."
                )
            several = (
                [as_utf8(text) for text in value] if isinstance(value, tuple) else [as_utf8(value)]
            )
            texts[name] = several if len(several) > 1 else several[0]
        for name in _ARRANGING:
            context.params.setdefault(name, () if name == "sort" else None)
        return super().invoke(context)

    def format_usage(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write how the verb is called, with the name if there is one."""
        name = context.meta.get(_META_NAME)
        if name is None:
            super().format_usage(context, formatter)
        else:
            formatter.write_usage(f"{context.command_path} {name}", "[OPTIONS]")

    def format_help_text(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what the verb is for, or the title and source of what it names."""
        named: Named | None = context.meta.get(_META)
        if named is None:
            super().format_help_text(context, formatter)
            return
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(f"{named.title}.")
            if named.source:
                formatter.write_paragraph()
                formatter.write_text(f"Source: {named.source}.")
            formatter.write_paragraph()
            formatter.write_text(f"Example: {_example(context, named)}")

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the parameters and columns of what the verb names, then the verb's options."""
        named: Named | None = context.meta.get(_META)
        if named is None:
            super().format_options(context, formatter)
            return
        own: list[tuple[str, str]] = []
        theirs: list[tuple[str, str]] = []
        for option in self.get_params(context):
            if isinstance(option, click.Option) and (record := option.get_help_record(context)):
                added = (option.name or "").startswith(_PREFIX)
                # of --base_run and --base-run the latter is shown
                (theirs if added else own).append(
                    (record[0].split(", ")[-1], record[1]) if added else record
                )
        for heading, rows in (("Parameters", theirs), ("Columns", named.columns), ("Options", own)):
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(list(rows))


_PREFIX = "parameter_"
_ARRANGING = ("sort", "top")
"""Options of rows that give way to a parameter of their name."""


def _options(named: Named) -> list[click.Option]:
    """One option for each parameter; a truth value may be left out for true."""
    options = []
    for p in named.parameters:
        spellings = dict.fromkeys((f"--{p.name}", f"--{p.name.replace('_', '-')}"))
        default = "required" if p.required else f"default: {p.default_text}"
        several = p.name in named.several
        text = f"{p.text}{'; may be repeated' if several else ''}.  [{default}]"
        choices: dict[str, Any] = {"metavar": p.type, "multiple": several, "help": text}
        if p.type == "BOOLEAN":
            choices |= {"is_flag": False, "flag_value": "true"}
        options.append(click.Option([_PREFIX + p.name, *spellings], **choices))
    return options


def _example(context: click.Context, named: Named) -> str:
    """The command with a value for every required parameter."""
    name = context.meta.get(_META_NAME, "")
    given = [f"--{p.name} {_VALUES.get(p.name, '…')}" for p in named.parameters if p.required]
    return " ".join(["attnstore", str(context.info_name), name, *given])
