"""Sessions over one store for several threads: each answers one question at a time."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator, Mapping

from attnstore.errors import DamageError
from attnstore.query.analyses import Analyses
from attnstore.query.session import Session
from attnstore.storage.backend import Backend


class SessionPool:
    """Up to `size` sessions, each opened when first needed; one thread needs one.

    Args:
        backend: The folder of the store.
        size: Questions answered at once; further ones wait.
        settings: Settings of DuckDB for sessions opened from now on.
        analyses: The named analyses that texts can call.
    """

    def __init__(
        self,
        backend: Backend,
        size: int,
        settings: Mapping[str, str],
        analyses: Analyses | None = None,
    ) -> None:
        self._backend, self._settings, self._analyses = backend, settings, analyses
        self._closed = 0  # how often the pool was closed
        self._free: queue.LifoQueue[Session | None] = queue.LifoQueue()
        for _ in range(size):
            self._free.put(None)

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """Lend a session for the length of a block, waiting for a free one.

        A session that met damage is closed, so that data fixed since is opened again, and so is one that
        lacks views.
        """
        session, closed, damaged = self._free.get(), self._closed, False
        try:
            session = session or Session(
                self._backend, settings=self._settings, analyses=self._analyses
            )
            yield session
        except DamageError:
            damaged = True
            raise
        finally:
            if session is not None and (damaged or closed != self._closed or not session.is_whole):
                session.close()
                session = None
            self._free.put(session)

    def close(self) -> None:
        """Close free sessions now and busy ones after their answer; the pool stays usable."""
        self._closed += 1
        for _ in range(self._free.qsize()):
            with contextlib.suppress(queue.Empty):
                if (session := self._free.get_nowait()) is not None:
                    session.close()
                self._free.put(None)
