"""A real S3 server on loopback for tests (moto's), its log of requests, and what lies in a bucket."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import obstore
from obstore.store import S3Store
from server import kill_all, wait_for

NAME = "attention"
_LINE = re.compile(r'"(?:\x1b\[[0-9;]*m)*(GET|PUT|HEAD|DELETE|POST) (\S+) HTTP[^"]*" (\d+)')


class S3:
    """A server with one empty bucket. environment: what a program needs to use it."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "s3.log"
        folder.mkdir(exist_ok=True)
        self.environment = {
            "AWS_ACCESS_KEY_ID": "anna", "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": self.url,
        }  # fmt: skip
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
                stdout=log, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )  # fmt: skip
        wait_for(self._up, 120)
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/{NAME}", method="PUT"))

    def _up(self) -> bool:
        try:
            return bool(urllib.request.urlopen(f"{self.url}/moto-api/", timeout=2).status == 200)
        except OSError:
            return False

    def address(self, path: str) -> str:
        return f"s3://{NAME}/{path}"

    def store(self, path: str) -> S3Store:
        """Objects below a path, past everything that attnstore does."""
        return S3Store(
            NAME, prefix=path, config={"endpoint": self.url, "region": "us-east-1"},
            access_key_id="anna", secret_access_key="secret", client_options={"allow_http": True},
        )  # fmt: skip

    def contents(self, path: str) -> dict[str, bytes]:
        """Every object below a path."""
        store = self.store(path)
        found = [o["path"] for page in obstore.list(store) for o in page]
        return {name: bytes(obstore.get(store, name).bytes()) for name in found}

    def flip(self, path: str, name: str) -> None:
        """Change one bit in the middle of an object."""
        store = self.store(path)
        data = bytearray(obstore.get(store, name).bytes())
        data[len(data) // 2] ^= 0x10
        obstore.put(store, name, bytes(data))

    @contextmanager
    def requests(self) -> Iterator[Counter[str]]:
        """Count the requests of a block: by 'GET maps', 'PUT blocks', 'LIST' and so on."""
        counted: Counter[str] = Counter()
        start = self.log.stat().st_size
        yield counted
        text = self.log.read_bytes()[start:].decode()
        counted.update(_kind(method, path) for method, path, _ in _LINE.findall(text))


def _kind(method: str, path: str) -> str:
    if "list-type=" in path:
        return "LIST"
    inside = path.partition("?")[0].split("/")
    for name in ("maps", "received"):
        if name in inside and "c" in inside:
            return f"{method} {name}"
    if "zarr.json" in inside:
        return f"{method} zarr.json"
    if "fragments" in inside:
        return f"{method} {inside[inside.index('fragments') + 1]}"
    if "attention.zarr" in inside:
        return f"{method} coordinates"
    if method == "POST":
        return "DELETE"  # several objects in one request
    return f"{method} {'locks' if 'locks' in inside else inside[-1]}"


@contextmanager
def running(folder: Path) -> Iterator[S3]:
    server = S3(folder)
    try:
        yield server
    finally:
        kill_all(server.process)
