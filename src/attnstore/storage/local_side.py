"""The local side of a bucket: a folder of this machine, marked by `bucket.json`.

The mark carries a checksum: an address with one changed letter would be another bucket's.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from pathlib import Path

from attnstore.errors import DamageError, UsageError
from attnstore.storage.files import crc32c, write_file

SCHEME = "s3://"
CACHE = "ATTNSTORE_CACHE"
"""Environment variable: the folder of the local sides; the user's cache folder otherwise."""
FILE = "bucket.json"

Mark = dict[str, str | None]
"""address; endpoint: of the server, None for Amazon's; side: unique id of this local side."""
_KEYS = {"address": str, "endpoint": (str, type(None)), "side": str}


def of_address(address: str) -> Path:
    """Return the local side of a bucket, creating it if needed. Raises UsageError, StoreError."""
    bucket, _, path = address.removeprefix(SCHEME).strip("/").partition("/")
    if not address.startswith(SCHEME) or not bucket:
        raise UsageError(f"{address} names no bucket; write s3://BUCKET/PATH.")
    clean = f"{SCHEME}{bucket}" + (f"/{path}" if path else "")
    if set(path.split("/")) & {".", ".."} or "//" in path:
        raise UsageError(f"{address} has an empty part, `.` or `..` in its path; write it without.")
    about = {"address": clean, "endpoint": _endpoint()}
    caches = os.environ.get(CACHE) or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    # Two servers may have buckets of one name, so the folder is named after the endpoint too.
    key = f"{crc32c(json.dumps(about).encode()):08x}"
    name = re.sub(r"[^\w.]+", "-", f"{bucket}-{path}-{key}")
    folder = (Path(caches).expanduser() / "attnstore" / name).resolve()
    try:
        marked = read(folder) is not None
    except DamageError:
        marked = False
    if not marked:
        write(folder, {**about, "side": uuid.uuid4().hex})
    return folder


def _endpoint() -> str | None:
    """Read the server's address from the environment, None for Amazon's. Raises UsageError."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        value = os.environ.get(name)
        if value is not None and not value.startswith(("http://", "https://")):
            raise UsageError(f"{name} is {value!r}; give a URL such as http://127.0.0.1:9000.")
        if value:
            return value
    return None


def write(folder: Path, mark: Mark) -> None:
    """Write the mark of a folder. Raises StoreError."""
    sealed = {**mark, "crc32c": _crc32c(mark)}
    write_file(folder / FILE, json.dumps(sealed).encode() + b"\n")


def read(folder: Path) -> Mark | None:
    """Read the mark of a folder; None where it has none. Raises DamageError."""
    try:
        mark_ = json.loads((folder / FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(folder) from error
    # Marks of earlier versions have no checksum.
    sum_ = mark_.pop("crc32c", None) if isinstance(mark_, dict) else None
    if not _sound(mark_) or sum_ not in (None, _crc32c(mark_)):
        raise _damaged(folder)
    mark: Mark = mark_
    return mark


def _sound(mark: object) -> bool:
    return (
        isinstance(mark, dict)
        and set(mark) == set(_KEYS)
        and all(isinstance(mark[key], kinds) for key, kinds in _KEYS.items())  # type: ignore[arg-type]
    )


def _crc32c(mark: Mark) -> str:
    return f"{crc32c(json.dumps(mark, sort_keys=True).encode()):08x}"


def _damaged(folder: Path) -> DamageError:
    return DamageError(
        f"{folder / FILE} is damaged, so the bucket that {folder} belongs to is not known; open the "
        "store by its address (s3://BUCKET/PATH), which rewrites it."
    )
