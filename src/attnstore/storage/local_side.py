"""`bucket.json`: what makes a folder of this machine the local side of a bucket.

It carries a checksum: an address with one changed letter would be another bucket's.
"""

from __future__ import annotations

import json
from pathlib import Path

from attnstore.errors import DamageError
from attnstore.storage.files import crc32c, write_file

FILE = "bucket.json"

Mark = dict[str, str | None]
"""address; endpoint: of the server, None for Amazon's; side: what no other local side has."""
_KEYS = {"address": str, "endpoint": (str, type(None)), "side": str}


def write(folder: Path, mark: Mark) -> None:
    """Write the mark of a folder. Raises StoreError."""
    sealed = {**mark, "crc32c": _crc32c(mark)}
    write_file(folder / FILE, json.dumps(sealed).encode() + b"\n")


def read(folder: Path) -> Mark | None:
    """The mark of a folder, None where it has none. Raises DamageError."""
    try:
        found = json.loads((folder / FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(folder) from error
    # Marks of earlier versions have no checksum.
    sum_ = found.pop("crc32c", None) if isinstance(found, dict) else None
    if not _sound(found) or sum_ not in (None, _crc32c(found)):
        raise _damaged(folder)
    mark: Mark = found
    return mark


def _sound(found: object) -> bool:
    return (
        isinstance(found, dict)
        and set(found) == set(_KEYS)
        and all(isinstance(found[key], kinds) for key, kinds in _KEYS.items())  # type: ignore[arg-type]
    )


def _crc32c(mark: Mark) -> str:
    return f"{crc32c(json.dumps(mark, sort_keys=True).encode()):08x}"


def _damaged(folder: Path) -> DamageError:
    return DamageError(
        f"{folder / FILE} is damaged, so it cannot be told which bucket {folder} belongs to; open the "
        "store by its address (s3://BUCKET/PATH), which writes it anew."
    )
