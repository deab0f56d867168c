"""The pages where maps are labeled: one at a time, by keyboard, blind to other annotators' labels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from attnstore.apps.labeling.drawing import PICKS, draw
from attnstore.apps.labeling.sittings import Place, Sittings
from attnstore.errors import UnknownNameError, UsageError
from attnstore.experiments.patterns.labels import SCHEMA
from attnstore.naming import CLASSES
from attnstore.storage.backend import Backend
from attnstore.web import request_bodies
from attnstore.web.addresses import link
from attnstore.web.routing import Action, App, Page
from attnstore.web.served_store import ServedStore
from attnstore.web.site import Site

AHEAD = 32
"""Number of maps that a page loads in advance."""


def app(store: ServedStore) -> App:
    """Return the labeling pages of a server, to mount with `web.server.application`."""
    labeling = Labeling(store.backend)
    routes = (
        Page("/annotate", labeling.annotate_page, "Annotate", "a"),
        Page("/annotate/next", labeling.following),
        Page("/annotate/agreement", agreement_panel),
        Action("/labels", labeling.save),
        Action("/labels/undo", labeling.undo),
        Page("/labels.csv", labels_csv),
    )
    return App("annotate", Path(__file__).parent, routes)


class Labeling:
    """The labeling pages of one server, with the annotators at work."""

    def __init__(self, backend: Backend) -> None:
        self._sittings = Sittings(backend)

    def annotate_page(self, site: Site, request: Request) -> Response:
        """Show the form of annotator and run; then one map after the other."""
        query = request.query_params
        annotator, run = query.get("annotator", ""), query.get("run", "")
        runs = site.store.ask("SELECT run FROM runs WHERE stored > 0 ORDER BY run")["run"].to_list()
        classified = site.store.ask("SELECT DISTINCT run FROM patterns")["run"].to_list()
        if run and run not in runs:
            raise UnknownNameError(
                f"The store holds no run {run!r}; it holds {', '.join(runs) or 'none'}."
            )
        pick = query.get("pick", "balanced")
        if pick not in PICKS:
            raise UsageError(
                f"There is no way {pick!r} to draw maps; there are {', '.join(PICKS)}."
            )
        if annotator:
            self._sittings.of(annotator)
        data = {
            "annotator": annotator,
            "run": run,
            "pick": pick,
            "classes": CLASSES,
            "ahead": AHEAD,
        }
        return site.render(
            request, "annotate.html", annotator=annotator, run=run, pick=pick, picks=PICKS, runs=runs,
            classified=run in classified, any_classified=bool(classified), data=data, classes=CLASSES,
            **_agreement(site, run),
        )  # fmt: skip

    def following(self, site: Site, request: Request) -> Response:
        """Send the next maps for an annotator: places and addresses of weights."""
        query = request.query_params
        annotator, run = query.get("annotator", ""), query.get("run", "")
        sitting = self._sittings.of(annotator)
        skipped = [
            Place(run, *map(int, part.split("-"))) for part in _parts(query.get("without", ""))
        ]
        places = draw(
            site.store, run, annotator, query.get("pick", "balanced"), annotator, AHEAD,
            [*sitting.places, *skipped],
        )  # fmt: skip
        return JSONResponse([_shown(site, place) for place in places])

    def save(self, site: Site, body: bytes) -> Response:
        """Save a label: JSON with annotator, run, example, layer, head, label, confidence, note."""
        content = request_bodies.parsed(body)
        try:
            run = request_bodies.text(content, "run")
            example, layer, head = (
                request_bodies.whole(content, n) for n in ("example", "layer", "head")
            )
            confidence = (
                None
                if content.get("confidence") is None
                else request_bodies.whole(content, "confidence")
            )
            label, note = (
                request_bodies.text(content, "label"),
                request_bodies.text(content, "note", ""),
            )
            annotator = request_bodies.text(content, "annotator")
        except UsageError as error:
            raise UsageError(
                f"A label names annotator, run, example, layer, head and label. {error}"
            ) from None
        place = Place(run, example, layer, head)
        site.store.current.map(*place)  # raises if there is no such map
        self._sittings.of(annotator).label(place, label, confidence, note)
        site.store.expire()
        return JSONResponse({"labelled": len(self._sittings.of(annotator).places)})

    def undo(self, site: Site, body: bytes) -> Response:
        """Delete an annotator's last label; answer its map, or null."""
        sitting = self._sittings.of(request_bodies.text(request_bodies.parsed(body), "annotator"))
        place = sitting.undo()
        site.store.expire()
        return JSONResponse(
            {"place": place and _shown(site, place), "labelled": len(sitting.places)}
        )


def agreement_panel(site: Site, request: Request) -> Response:
    """Show the labels of each annotator, their agreement and the classes they disagree on."""
    site.store.catch_up()
    return site.render(request, "_agreement.html", classes=CLASSES, **_agreement(site, request.query_params.get("run", "")))  # fmt: skip


def _agreement(site: Site, run: str) -> dict[str, Any]:
    where = "run = $run" if run else "true"
    params = {"run": run} if run else {}
    ask = site.store.ask
    counts = ask(
        f"SELECT annotator, count(*) AS n, max(labelled) AS latest FROM labels WHERE {where} "
        "GROUP BY annotator ORDER BY annotator",
        **params,
    )
    agreed = site.store.analysis("label_agreement", **params)
    pairs = ask(
        "SELECT a.annotator AS first, b.annotator AS second, a.label AS one, b.label AS other, count(*) AS n "
        f"FROM labels a JOIN labels b USING (run, example, layer, head) WHERE a.annotator < b.annotator AND {where} "
        "GROUP BY ALL",
        **params,
    )
    tables: dict[tuple[str, str], dict[tuple[str, str], int]] = {}
    for first, second, one, other, n in pairs.iter_rows():
        tables.setdefault((first, second), {})[one, other] = n
    return {"counts": counts.to_dicts(), "agreed": agreed.to_dicts(), "confusion": tables}


def _parts(text: str) -> list[str]:
    parts = [part for part in text.split(",") if part]
    if not all(re.fullmatch(r"[0-9]{1,18}-[0-9]{1,9}-[0-9]{1,9}", part) for part in parts):
        raise UsageError("Maps to leave out are written example-layer-head,…")
    return parts


def _shown(site: Site, place: Place) -> dict[str, Any]:
    shown = site.store.ask(
        "SELECT texts FROM inputs WHERE run = $run AND example = $example",
        run=place.run, example=place.example,
    )  # fmt: skip
    return place._asdict() | {
        "tokens": shown["texts"][0].to_list(),
        "weights": link("maps", place.run, place.example, place.layer, place.head),
    }


def labels_csv(site: Site, request: Request) -> Response:
    """Send every label as a CSV file, as `attnstore.experiments.patterns.labels` reads it."""
    site.store.catch_up()
    rows = site.store.ask(
        f"SELECT {', '.join(SCHEMA)} FROM labels ORDER BY run, example, layer, head, annotator"
    )
    text = rows.write_csv(datetime_format="%Y-%m-%dT%H:%M:%S%.6f")
    headers = {"Content-Disposition": 'attachment; filename="labels.csv"'}
    return Response(text, media_type="text/csv", headers=headers)
