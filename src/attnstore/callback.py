"""`IngestCallback`: ingest each checkpoint that transformers' Trainer saves, while it trains.

    trainer = Trainer(…, callbacks=[IngestCallback("attnstore.toml")])

Saving starts `attnstore refresh --wait` in a process of its own, which gets a core only when the
training leaves it, and no GPU, and does not wait for it. Refreshes of one store wait for one another, and at most
one waits at a time: the last one sees every checkpoint that was saved before it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from attnstore.declared import config

_THREADS = ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS")
"""Environment variables that bound the threads of torch and of forward passes, of polars, of tokenizers."""
_COMMAND = "from attnstore.cli.main import main; main()"


class IngestCallback(TrainerCallback):  # type: ignore[misc]
    """Starts a refresh of what a file declares after every save.

    Args:
        file: An attnstore.toml, one of whose globs matches the checkpoints.
        log: Where the refreshes write, by default `refresh.log` beside the file.
        threads: Threads of each refresh.
        gpu: Let it use the GPU, which the training then shares.

    Raises:
        UsageError: The file has a mistake.
    """

    def __init__(
        self,
        file: str | Path = config.FILE,
        log: str | Path | None = None,
        threads: int = 1,
        gpu: bool = False,
    ) -> None:
        config.read(file)
        self._file = Path(file).expanduser().absolute()
        self._log = Path(log or self._file.with_name("refresh.log")).expanduser().absolute()
        self._environment = {**os.environ, **dict.fromkeys(_THREADS, str(threads))}
        if not gpu:
            self._environment["CUDA_VISIBLE_DEVICES"] = ""
        self._refreshes: list[subprocess.Popen[bytes]] = []

    def on_save(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Start a refresh, in the one process that saves."""
        if state.is_world_process_zero:
            self.ask()

    def ask(self) -> None:
        """Start a refresh and return; forget those that ended."""
        self._refreshes = [process for process in self._refreshes if process.poll() is None]
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", _COMMAND, "refresh", str(self._file), "--wait"],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self._environment,
                # Away from the terminal's Ctrl-C, but in the training's session: Linux weighs
                # sessions against one another whatever the priority of their processes.
                process_group=0,
            )  # fmt: skip
        _put_last(process.pid)
        self._refreshes.append(process)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until every refresh has ended; without it they end on their own."""
        for process in self._refreshes:
            process.wait(timeout)


def _put_last(pid: int) -> None:
    """Give a process only the cores that no other process wants, from its first moment on."""
    with contextlib.suppress(OSError):  # it has ended already
        os.setpriority(os.PRIO_PROCESS, pid, 19)
        if hasattr(os, "SCHED_IDLE"):  # Linux
            os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
