"""Importance of every token of a dataset for a classifier's output: table `token_importance`.

    summary = job.run(planned(backend, asked))

A method over some inputs of like length is the unit of work and commit. Only inputs of one length share a
pass, so nothing is padded and a unit gives the same numbers wherever it is computed.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import polars as pl

from attnstore.errors import ModelError
from attnstore.experiments.ablation import scored_classifier
from attnstore.experiments.ablation.scored_classifier import Prepared
from attnstore.experiments.ablation.scored_job import ScoredJob
from attnstore.experiments.attribution.attribution_request import STEPS, Request
from attnstore.experiments.attribution.attribution_summary import Summary
from attnstore.job import Report, Share, Unit
from attnstore.naming import (
    EQUAL,
    GOLD,
    GRADIENT_X_INPUT,
    INTEGRATED_GRADIENTS,
    LEAVE_ONE_OUT,
    METHODS,
)
from attnstore.storage import fragments, layout, location
from attnstore.storage.backend import Backend
from attnstore.storage.location import Location

if TYPE_CHECKING:
    from attnstore.experiments.attribution.methods import Classifier

TABLE = "token_importance"
UNIT_INPUTS = 64
"""Inputs of a unit."""
_SPECIAL = ("cls", "sep", "special", "pad")
_PASSES = {GRADIENT_X_INPUT: 3, INTEGRATED_GRADIENTS: 3 * STEPS, LEAVE_ONE_OUT: 30}
"""About how many forward passes a method takes for an input, to guess the time that is left."""


class Attribution(ScoredJob[Report, Summary]):
    """One attribution; its units are a method over some inputs each."""

    kind, noun = "attribute", "inputs"

    def __init__(self, backend: Backend, asked: Request) -> None:
        subject = asked.subject
        key = subject.identity[:16]
        super().__init__(backend, subject, "attribution", "Token importance of", key)
        self.asked = asked

    def lacking(self) -> list[Unit]:
        """Return the units whose fragments the store lacks."""
        parts = {
            f.part
            for f in fragments.listing(self.backend, TABLE)
            if f.part.startswith(self.key) and fragments.whole(self.backend, f)
        }
        return [unit for unit in self._units() if f"{self.key}.{self._part(unit)}" not in parts]

    def _units(self) -> list[Unit]:
        n, units = len(self.subject.chosen), []
        for method in self.asked.methods:
            for start in range(0, n, UNIT_INPUTS):
                items = min(UNIT_INPUTS, n - start)
                number = start // UNIT_INPUTS * len(METHODS) + METHODS.index(method)
                name = f"{method}, inputs {start} to {start + items - 1}"
                units.append(Unit(name, number, items, items * _PASSES[method]))
        return units

    def _part(self, unit: Unit) -> str:
        number, method = divmod(unit.number, len(METHODS))
        return f"{self.asked.identity(METHODS[method])[:16]}.{number:05d}"

    @cached_property
    def loaded(self) -> Prepared:
        """Load the model and tokenize its inputs on first access."""
        prepared = scored_classifier.prepare(self.subject, self.asked.device)
        if self._replacement(prepared) is None:
            raise ModelError(
                f"The tokenizer of model {self.subject.checkpoint.name!r} has neither a mask nor an unknown "
                "token, one of which stands for an absent token; use the method gradient_x_input."
            )
        return prepared

    def _replacement(self, prepared: Prepared) -> int | None:
        """Return the token that stands for an absent one, which pretraining knows as such: [MASK]."""
        tokenizer = prepared.tokenizer
        numbers: list[int | None] = [tokenizer.mask_token_id, tokenizer.unk_token_id]
        if self.asked.methods == (GRADIENT_X_INPUT,):
            numbers.append(0)  # not used
        return next((number for number in numbers if number is not None), None)

    @cached_property
    def _classifier(self) -> Classifier:
        from attnstore.experiments.attribution.methods import Classifier

        replacement = self._replacement(self.loaded)
        assert replacement is not None
        return Classifier(self.loaded.capturer.model, replacement, self.asked.steps)

    def store(self, unit: Unit) -> Report:
        """Compute and commit a method over the inputs of a unit."""
        number, method = divmod(unit.number, len(METHODS))
        start = number * UNIT_INPUTS
        lengths = self.loaded.rows["length"][start : start + UNIT_INPUTS].cast(pl.Int64).to_numpy()
        frames, done = [], 0
        for at in layout.batches(lengths, rule=EQUAL):
            frames.append(self._rows(METHODS[method], slice(start + at.start, start + at.stop)))
            done += at.stop - at.start
            self.reach(unit, done / unit.items)
        self.write(TABLE, self._part(unit), pl.concat(frames))
        return Report(unit, 0)

    def _rows(self, method: str, at: slice) -> pl.DataFrame:
        """Compute a method over inputs of one length, as rows of the table."""
        import torch

        prepared, asked, subject = self.loaded, self.asked, self.subject
        rows, batch = prepared.rows[at], prepared.batch(at)
        outputs = self._classifier.outputs(batch)
        chosen = outputs.argmax(-1)
        if asked.target == GOLD and len(asked.outputs) > 1:
            chosen = torch.from_numpy(subject.targets[prepared.order[at]]).to(outputs.device)
        kinds = rows["kinds"].to_list()
        special = torch.tensor(
            [[k in _SPECIAL for k in of_input] for of_input in kinds], device=outputs.device
        )
        importance = self._classifier.importance(method, batch, chosen, special)
        delta = None if importance.delta is None else importance.delta.double().cpu().numpy()
        return pl.DataFrame({
            "example": rows["example"],
            "target": [asked.outputs[i] for i in chosen.tolist()],
            "output": outputs.gather(1, chosen[:, None])[:, 0].double().cpu().numpy(),
            "delta": pl.Series(delta, dtype=pl.Float64) if delta is not None else None,
            "token_ids": rows["token_ids"],
            "tokens": rows["tokens"],
            "values": pl.Series(importance.values.float().cpu().tolist(), dtype=pl.List(pl.Float32)),
        }, schema_overrides={"delta": pl.Float64}).with_columns(**self._columns(method))  # fmt: skip

    def _columns(self, method: str) -> dict[str, pl.Expr]:
        """Return what all rows of a method have in common."""
        asked, subject = self.asked, self.subject
        integrated, gradient = method == INTEGRATED_GRADIENTS, method == GRADIENT_X_INPUT
        replacement = self.loaded.tokenizer.convert_ids_to_tokens(self._replacement(self.loaded))
        return {
            "method": pl.lit(method), "explained": pl.lit(asked.target),
            "steps": pl.lit(asked.steps if integrated else None, pl.Int32),
            "replacement": pl.lit(None if gradient else replacement, pl.String),
            "n": pl.lit(len(subject.chosen), pl.Int64),
            "sample": pl.lit(subject.sample, pl.Int64), "seed": pl.lit(subject.seed, pl.Int64),
            "max_length": pl.lit(subject.max_length, pl.Int32),
            "identity": pl.lit(asked.identity(method)),
        }  # fmt: skip

    def stored(self, unit: Unit) -> Report | None:
        """Return the report of a unit that is stored, else None."""
        return None if unit.name in {u.name for u in self.lacking()} else Report(unit, 0)

    def share(self) -> Share:
        """Return the arguments that another process needs to store units; it loads the model once."""
        identities = [self.asked.identity(method) for method in self.asked.methods]
        return Share(f"{self.key}.{identities}", planned, (self.backend.name, self.asked))

    def summary(self, seconds: float) -> Summary:
        """Collect the stored importance of this attribution."""
        identities = {self.asked.identity(method) for method in self.asked.methods}
        rows = self.rows(TABLE)
        assert rows is not None
        return Summary.of(
            rows.filter(pl.col("identity").is_in(identities)), self.asked.methods, self.asked.target,
            self.n_stored, seconds,
        )  # fmt: skip


def planned(path: Location, asked: Request) -> Attribution:
    """Return the job of a resolved attribution; nothing is written yet."""
    return Attribution(location.locate(path), asked)
