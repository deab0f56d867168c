"""The difference of two runs' maps of an input as a small picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from starlette.requests import Request
from starlette.responses import Response

from attnstore.display import colors
from attnstore.errors import UsageError
from attnstore.web.addresses import whole
from attnstore.web.pictures import SIDE, Floats
from attnstore.web.site import Site


def difference_picture(site: Site, request: Request) -> Response:
    """Send the map of a run less that of the run `less` as a PNG, for a page that is light or `theme=dark`."""
    path, query = request.path_params, request.query_params
    example, layer, head = (whole(name, path[name]) for name in ("example", "layer", "head"))
    runs = (f"{path['model']}/{path['dataset']}", query.get("less", ""))
    left, right = (site.store.current.map(run, example, layer, head).weights for run in runs)
    if left.shape != right.shape:
        raise UsageError(
            f"Runs {runs[0]} and {runs[1]} hold example {example} with {len(left)} and {len(right)} tokens, so its "
            "maps have no difference; choose runs of one tokenizer and max-length."
        )
    pixels = shown(left - right, query.get("theme") == "dark")
    return Response(colors.png(pixels), media_type="image/png")


def shown(difference: Floats, dark: bool = False, side: int = SIDE) -> npt.NDArray[np.uint8]:
    """Return differences (L, L) as RGB (s, s, 3), s = min(L, side): from -1 to 1 on a square-root scale.

    A cell of a smaller picture has the difference of the largest size in it.
    """
    values = np.asarray(difference, np.float64)
    if len(values) > side:
        at = np.linspace(0, len(values), side, endpoint=False).astype(np.intp)
        ends = [end.reduceat(end.reduceat(values, at, axis=1), at, axis=0) for end in (np.maximum, np.minimum)]  # fmt: skip
        values = np.where(np.abs(ends[0]) >= np.abs(ends[1]), *ends)
    return colors.diverging(np.sign(values) * np.sqrt(np.abs(values)), 1.0, dark)
