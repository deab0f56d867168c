"""Bodies of requests, read strictly: one JSON object of whole numbers and texts, or an error."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from attnstore.errors import UsageError

_LARGEST = 1 << 62


def parsed(body: bytes) -> dict[str, Any]:
    """Parse the JSON object of a body.

    Raises:
        UsageError: It is no JSON object, or has numbers or texts that nothing can store (1e999, half
            of a character).
    """
    try:
        content = json.loads(body.decode("utf-8"), parse_constant=_finite, parse_float=_finite)
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UsageError("A text of what was sent holds half of a character.") from None
    except RecursionError:
        raise UsageError("What was sent is nested too deeply; send a flat JSON object.") from None
    except ValueError as error:
        raise UsageError(f"What was sent is no JSON that can be read: {error}.") from None
    if not isinstance(content, dict):
        raise UsageError("What was sent is no JSON object.")
    return content


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is not finite")
    return value


def text(body: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """Return a text of a body, `default` for none.

    Raises:
        UsageError: It is missing or no text.
    """
    value = body.get(name, default)
    value = default if value is None else value
    if not isinstance(value, str):
        raise UsageError(f"What was sent needs {name} as a text, and has {_shown(value)}.")
    return value


def whole(body: Mapping[str, Any], name: str) -> int:
    """Return a whole number from 0 of a body.

    Raises:
        UsageError: It is missing or no such number.
    """
    value = body.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _LARGEST:
        raise UsageError(f"What was sent needs {name} as a whole number, and has {_shown(value)}.")
    return value


def texts(body: Mapping[str, Any], name: str) -> dict[str, str]:
    """Return an object of texts of a body.

    Raises:
        UsageError: It is missing or no such object.
    """
    value = body.get(name)
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise UsageError(f"What was sent needs {name} as an object of texts.")
    return value


def _shown(value: Any) -> str:
    return "none" if value is None else repr(value)[:40]
