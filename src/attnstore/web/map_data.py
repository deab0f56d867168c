"""Maps of an input as a page's scripts and images ask for them."""

from __future__ import annotations

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from attnstore import map_kinds
from attnstore.display import input_parts, inputs
from attnstore.errors import UsageError
from attnstore.map_kinds import MapKind
from attnstore.web import pictures
from attnstore.web.addresses import whole
from attnstore.web.pictures import Floats
from attnstore.web.site import Site


def overview(site: Site, request: Request) -> Response:
    """Send all maps of an input, small: bytes (layer, head, r, c), r in X-Side, c in X-Across, of up to X-Top.

    See `pictures`. `specials` and `sentences` leave tokens out, as in `input_parts`.
    """
    kind = kind_of(request)
    maps = shown(site, request, *input_of(request))
    top = largest(maps, kind)
    small = pictures.thumbnails(maps, top=top)
    headers = {"X-Side": str(small.shape[-2]), "X-Across": str(small.shape[-1]), "X-Top": str(top)}
    return Response(small.tobytes(), media_type="application/octet-stream", headers=headers)


def shown(site: Site, request: Request, run: str, example: int) -> Floats:
    """Return all maps of an input as a page shows them: (layer, head, rows, columns)."""
    asked = request.query_params
    maps = site.store.current.maps(run, example, kind=kind_of(request).name)
    maps = _in_units(site, request, maps, run, example)
    if "specials" in asked or "sentences" in asked:
        data = inputs.find(site.store, run, example)["data"]
        specials, sentences = asked.get("specials", "keep"), asked.get("sentences", "")
        maps = input_parts.part(maps, data, unit_of(request) == "word", specials, sentences)
    return maps


def one_map(site: Site, request: Request) -> Response:
    """Send one map: float32, little-endian, (L, L) row by row."""
    weights = _in_units(site, request, _map(site, request), *input_of(request))
    return Response(weights.astype("<f4").tobytes(), media_type="application/octet-stream")


def map_picture(site: Site, request: Request) -> Response:
    """Send one map as a small PNG: of up to 1, or with `range=map` up to the map's largest."""
    weights, kind = _map(site, request), kind_of(request)
    own = request.query_params.get("range") == "map" or not kind.rows_sum
    top = (float(np.nanmax(np.abs(weights), initial=0)) or 1.0) if own else 1.0
    return Response(pictures.picture(weights, top, equal_gray=own), media_type="image/png")


def _map(site: Site, request: Request) -> Floats:
    name, example = input_of(request)
    layer, head = (whole(n, request.path_params[n]) for n in ("layer", "head"))
    kind = kind_of(request)
    if kind.per_layer and head == 0:
        return site.store.current.map(name, example, layer, None, kind.name).weights
    return site.store.current.map(name, example, layer, head, kind.name).weights


def kind_of(request: Request) -> MapKind:
    """Return the kind of maps that an address asks for: the weights, unless it says `kind`.

    Raises:
        UnknownNameError: There is no such kind.
    """
    return map_kinds.find(request.query_params.get("kind", map_kinds.WEIGHTS))


def largest(maps: Floats, kind: MapKind) -> float:
    """Return what the brightest color of an overview stands for: 1 for shares, else the largest size."""
    return 1.0 if kind.rows_sum else float(np.nanmax(np.abs(maps), initial=0)) or 1.0


def input_of(request: Request) -> tuple[str, int]:
    """Return the run and the number of the input that an address names."""
    path = request.path_params
    return f"{path['model']}/{path['dataset']}", whole("example", path["example"])


def _in_units(site: Site, request: Request, maps: Floats, run: str, example: int) -> Floats:
    """Return maps over word pieces or, where the address asks for them, words."""
    if unit_of(request) == "piece":
        return np.ascontiguousarray(maps)
    record = inputs.find(site.store, run, example)
    return inputs.merged(maps, record["data"]["starts"])


def unit_of(request: Request) -> str:
    """Return the unit of rows and columns that an address asks for: piece or word.

    Raises:
        UsageError: It is neither.
    """
    unit = request.query_params.get("unit", "piece")
    if unit not in ("piece", "word"):
        raise UsageError(f"The unit is {unit!r}; give piece or word.")
    return unit
