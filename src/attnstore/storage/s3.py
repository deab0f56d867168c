"""A store in an S3 bucket: `s3://BUCKET/PATH`, or any server that speaks S3.

The bucket holds the data: arrays, which tensorstore reads and writes by itself, and fragments,
through obstore. This machine keeps a folder beside it, the bucket's local side, with the index,
copies of fragments, and locks between processes; all of it can be rebuilt from the bucket.

Credentials, region and endpoint come from the environment, as for other programs that use S3
(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL;
AWS_SKIP_SIGNATURE=true reads a public bucket).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import google_crc32c
import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from attnstore.errors import AttnstoreError, BusyError, StoreError, UsageError
from attnstore.storage import s3_lease
from attnstore.storage.backend import File
from attnstore.storage.files import crc32c, write_file
from attnstore.storage.folder import Folder
from attnstore.storage.local_side import SCHEME, Mark
from attnstore.storage.s3_lease import Lease

_RETRIES: Any = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}


class Bucket:
    """A store in a bucket.

    root: its local side, marked by `mark`.
    """

    is_local = False

    def __init__(self, root: Path, mark: Mark) -> None:
        self.root, self._mark = root, mark
        self._address, self._endpoint = str(mark["address"]), mark["endpoint"]
        self._machine = f"{mark['side']} {_boot()}"
        self._bucket, _, self._prefix = self._address.removeprefix(SCHEME).partition("/")
        self._store, self._quick = self._client("10m"), self._client("10s")
        self._leases: dict[str, Lease] = {}

    def _client(self, timeout: str) -> S3Store:
        client: Any = {"timeout": timeout, "connect_timeout": "10s"}
        client |= {"allow_http": True} if (self._endpoint or "").startswith("http:") else {}
        try:
            return S3Store(
                self._bucket,
                prefix=self._prefix or None,
                config={"endpoint": self._endpoint} if self._endpoint else None,
                client_options=client,
                retry_config=_RETRIES,
            )
        except (BaseError, ValueError) as error:
            raise UsageError(
                f"{self._address} cannot be used ({_reason(error)}); fix the environment's AWS_…."
            ) from error

    def __reduce__(self) -> tuple[type[Bucket], tuple[Path, Mark]]:
        """Rebuild it in another process from its local side, without the locks held here."""
        return Bucket, (self.root, self._mark)

    @property
    def name(self) -> str:
        """Return its address."""
        return self._address

    def entries(self) -> list[str]:
        """List the first objects there."""
        with self._explained():
            page = next(iter(obstore.list(self._store)), [])
        return [o["path"].split("/")[0] for o in page]

    def files(self, folder: str) -> list[File]:
        """List every object below a folder: one request per thousand."""
        with self._explained():
            return [
                File(o["path"], o["size"], _nanoseconds(o["last_modified"]))
                for page in obstore.list(self._store, prefix=folder)
                for o in page
            ]

    def starting(self, start: str) -> list[str]:
        """List them in one request: objects come in the order of their paths, from `start` on."""
        paths: list[str] = []
        with self._explained():
            folder = start.rpartition("/")[0]
            for page in obstore.list(self._store, prefix=folder or None, offset=start):
                paths += [o["path"] for o in page if o["path"].startswith(start)]
                if not page[-1]["path"].startswith(start):
                    break
        return paths

    def read(self, path: str) -> bytes:
        """Read a whole object. Raises FileNotFoundError, StoreError."""
        with self._explained():
            return bytes(obstore.get(self._store, path).bytes())

    def write(self, path: str, data: bytes) -> None:
        """Put an object, replacing an existing one."""
        self.require_hold()
        with self._explained():
            obstore.put(self._store, path, data, use_multipart=False)

    def commit(self, path: str, data: bytes) -> None:
        """Put an object only if there is none, or replace a damaged one."""
        self.require_hold()
        with self._explained():
            try:
                obstore.put(self._store, path, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                existing = obstore.get(self._store, path)
                tag = existing.meta["e_tag"]
                if crc32c(bytes(existing.bytes())) != crc32c(data):
                    obstore.put(self._store, path, data, mode={"e_tag": tag}, use_multipart=False)
        write_file(self.root / path, data)

    def temporary(self, path: str) -> Path:
        """Name a hidden file in the local side."""
        return Folder(self.root).temporary(path)

    def adopt(self, file: Path, path: str) -> None:
        """Put a local file as one object, and delete the file."""
        self.require_hold()
        with self._explained():
            obstore.put(self._store, path, file, use_multipart=False)
        file.unlink(missing_ok=True)

    def crc32c(self, path: str) -> int | None:
        """Compute it from the object itself; delete a local copy that differs."""
        try:
            value, _ = self._checked(path)
        except FileNotFoundError:
            return None
        copy = self.root / path
        if copy.exists() and Folder(self.root).crc32c(path) != value:
            copy.unlink(missing_ok=True)
        return value

    def settled(self, paths: list[str]) -> tuple[list[int], int]:
        """Read each object back, once."""
        checked = [self._checked(path) for path in paths]
        return [value for value, _ in checked], sum(size for _, size in checked)

    def _checked(self, path: str) -> tuple[int, int]:
        """Compute the CRC-32C and the size in bytes of an object. Raises FileNotFoundError."""
        value = size = 0
        with self._explained():
            for piece in obstore.get(self._store, path).stream(min_chunk_size=1 << 20):
                value, size = google_crc32c.extend(value, bytes(piece)), size + len(piece)
        return int(value), size

    def move(self, path: str, to: str) -> None:
        """Copy within the bucket, then delete."""
        self.require_hold()
        with contextlib.suppress(FileNotFoundError), self._explained():
            obstore.copy(self._store, path, to)
            obstore.delete(self._store, path)
        (self.root / path).unlink(missing_ok=True)

    def remove(self, path: str) -> None:
        """Delete an object and its local copy."""
        self.require_hold()
        with contextlib.suppress(FileNotFoundError), self._explained():
            obstore.delete(self._store, path)
        (self.root / path).unlink(missing_ok=True)

    def remove_below(self, folder: str) -> None:
        """Delete every object below a folder."""
        self.require_hold()
        paths = [file.path for file in self.files(folder)]
        with self._explained():
            obstore.delete(self._store, paths)
        Folder(self.root).remove_below(folder)

    def local(self, path: str) -> Path:
        """Return a copy in the local side, fetched if there is none."""
        copy = self.root / path
        if not copy.exists():
            write_file(copy, self.read(path))
        return copy

    def arrays(self, folder: str) -> dict[str, Any]:
        """Return tensorstore's own driver for S3."""
        kvstore: dict[str, Any] = {
            "driver": "s3", "bucket": self._bucket, "path": f"{self._prefix}/{folder}/".lstrip("/"),
        }  # fmt: skip
        if self._endpoint:
            region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
            kvstore |= {"endpoint": self._endpoint, "aws_region": region or "us-east-1"}
        if os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("true", "1", "yes", "on"):
            kvstore["aws_credentials"] = {"type": "anonymous"}
        elif "AWS_ACCESS_KEY_ID" in os.environ:  # avoids the search in files and on the network
            kvstore["aws_credentials"] = {"type": "environment"}
        return kvstore

    @contextlib.contextmanager
    def leased(self, path: str, wait: float, what: str) -> Iterator[None]:
        """Hold a lock of the store against other machines, for the length of a block.

        wait: seconds to try before BusyError, which names `what` and the holder. A holder renews its
        lease; one that is silent for s3_lease.SECONDS has died. A lease of this same local side is
        taken over at once, since the caller holds the lock between the processes here.
        """
        lease = Lease(self._quick, path, self._machine)
        deadline = time.monotonic() + wait
        with self._explained():
            while holder := lease.taken():
                if time.monotonic() >= deadline:
                    raise BusyError(
                        f"{what} is in use by {holder}; wait until it ends, or stop it, and run the "
                        "same command again."
                    )
                time.sleep(min(s3_lease.POLL_SECONDS, max(deadline - time.monotonic(), 0.1)))
        self._leases[path] = lease
        try:
            with lease.renewed():
                yield
        finally:
            if self._leases.get(path) is lease:
                del self._leases[path]

    def leased_elsewhere(self, path: str) -> bool:
        """Return True if the bucket shows a holder of a lock of the store."""
        with self._explained():
            return Lease(self._quick, path, self._machine).fresh()

    def require_hold(self) -> None:
        """Refuse to write if another process may have taken over one of this process's locks."""
        if any(lease.lost for lease in self._leases.values()):
            raise BusyError(
                f"This process could not reach {self.name} for {s3_lease.SECONDS:.0f} seconds and has "
                "lost its lock there; run the same command again: what is committed is kept."
            )

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn obstore's errors into one sentence."""
        try:
            yield
        except AttnstoreError:
            raise
        except (BaseError, OSError) as error:
            if "NoSuchBucket" in str(error):
                raise StoreError(
                    f"There is no bucket {self._bucket}; create it, or fix the address."
                ) from error
            if isinstance(error, FileNotFoundError):
                raise
            raise StoreError(
                f"{self.name} cannot be used ({_reason(error)}); check the address, the network, "
                "AWS_ENDPOINT_URL, AWS_REGION and the credentials."
            ) from error


def _boot() -> str:
    """Return the identifier of this start of the machine; empty where the system has none."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
    return ""


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1e6) * 1000


def _reason(error: Exception) -> str:
    """Return the informative part of an engine's message."""
    text = " ".join(str(error).split("\n\nDebug source")[0].split())
    for mark in ("<Message>", "error sending request"):
        if mark in text:
            return text.split(mark, 1)[-1].split("</Message>")[0][:200] if mark[0] == "<" else mark
    return text[:200]
