"""Numbers, sizes and values as people read them, the same in the terminal and in a notebook."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

_SHOWN = 6  # items of a list
_GROUPED = 1_000_000  # from here on digits in groups; below, numbers of examples stay as typed


def size(n_bytes: float) -> str:
    """Bytes with a decimal unit: 401 MB."""
    return f"{_scaled(n_bytes)}B" if n_bytes >= 1000 else f"{n_bytes:.0f} bytes"


def many(n: float) -> str:
    """A number, in short where it is large: 244 M."""
    return _scaled(n) if n >= _GROUPED else f"{n:,.0f}"


def _scaled(n: float) -> str:
    for unit in ("", "k", "M", "G", "T"):
        if n < 999.5:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} P"


def duration(seconds: float) -> str:
    """Seconds as 1:23 or 1:02:03."""
    minutes, second = divmod(round(max(seconds, 0)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def places(values: Iterable[float]) -> int:
    """Decimals that show five digits of the largest of some numbers, at most four."""
    top = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
    return min(4, max(0, 4 - math.floor(math.log10(top)))) if top else 1


def number(value: float, decimals: int = 4) -> str:
    """A number with that many decimals; one that they would hide in its own notation."""
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 1e9 or (value and abs(value) < max(1e-4, 0.5 * 10.0**-decimals)):
        return f"{value:.2e}"
    return f"{value:,.{decimals}f}" if abs(value) >= _GROUPED else f"{value:.{decimals}f}"


def cell(value: Any, decimals: int = 4) -> str:
    """A value of a table on one line, without anything a terminal would act upon."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= _GROUPED else str(value)
    if isinstance(value, float):
        return number(value, decimals)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{plain(str(k))}: {cell(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        shown = [cell(item) for item in value[:_SHOWN]]
        more = [f"… {len(value):,} items"] if len(value) > _SHOWN else []
        return "[" + ", ".join(shown + more) + "]"
    return plain(str(value))


def plain(text: str) -> str:
    """Text with control characters written out (`\\n`), so that it stays on its line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
