# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Several processes on one machine.

Each loads the model and takes one batch at a time. A process that dies (out of memory, killed) is replaced and its
batch is done again: the steps can be repeated, since what a store holds already is left out.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Literal

from .batches import Batch
from .work import BatchWork, WorkSettings

Step = Literal["all", "embed"]

# Deaths over one batch, or in a row while starting, after which a replacement is not going to help.
MAX_DEATHS = 3
_JOIN_S = 5


def available_cores() -> int:
    """
    How many cores this process may use.

    :returns: at least 1.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    ready: bool = False
    batch: Batch | None = None


class WorkerPool:
    """
    A context manager that does the work on batches in processes of its own.

    :param settings: of the work.
    :param step: what the processes do of it: `all`, or `embed` alone.
    :param count: of processes. Each computes on its share of the cores, or on OMP_NUM_THREADS.
    """

    def __init__(self, settings: WorkSettings, step: Step, count: int) -> None:
        self._arguments = (settings, step, max(1, available_cores() // count))
        self._count = count
        self._workers: list[_Worker] = []
        self._again: deque[Batch] = deque()
        self._deaths: dict[int, int] = {}
        self._deaths_at_start = 0
        self.lost = 0

    def __enter__(self) -> WorkerPool:
        self._workers = [self._start() for _ in range(self._count)]
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.connection.close()  # an idle process ends by itself
            if worker.batch is not None or not worker.ready:
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_JOIN_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers = []

    @property
    def pids(self) -> list[int]:
        """
        Process ids of the workers.

        :returns: of those that run now.
        """
        return [worker.process.pid for worker in self._workers if worker.process.pid is not None]

    def map(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """
        Do the work.

        :param batches: taken one by one, when a process is free.
        :returns: an iterator over finished batches, as they come.
        :raises RuntimeError: when processes die again and again.
        """
        source = iter(batches)
        exhausted = False
        while True:
            for worker in [worker for worker in self._workers if worker.ready and worker.batch is None]:
                batch = self._again.popleft() if self._again else next(source, None)
                if batch is None:
                    exhausted = True
                    break
                worker.batch = batch
                # A process that has died meanwhile is found when its answer is read.
                with suppress(OSError):
                    worker.connection.send(batch)
            if exhausted and not self._again and all(worker.batch is None for worker in self._workers):
                return
            for connection in wait([worker.connection for worker in self._workers]):
                worker = next(worker for worker in self._workers if worker.connection is connection)
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):
                    self._replace(worker)
                    continue
                if isinstance(message, Exception):
                    raise message
                if message is None:
                    worker.ready, self._deaths_at_start = True, 0
                else:
                    worker.batch = None
                    self._deaths.pop(message.number, None)
                    yield message

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, *self._arguments), daemon=True, name="resrank-bulk")
        with _ignoring_interrupts():
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _replace(self, worker: _Worker) -> None:
        worker.connection.close()
        worker.process.join(_JOIN_S)
        self.lost += 1
        if worker.batch is None:
            self._deaths_at_start += 0 if worker.ready else 1
            deaths, doing = self._deaths_at_start, "while starting"
        else:
            number = worker.batch.number
            self._deaths[number] = deaths = self._deaths.get(number, 0) + 1
            doing = f"on the rows {worker.batch.span}"
        if deaths >= MAX_DEATHS:
            msg = (
                f"{deaths} processes died one after the other {doing} ({_cause(worker.process.exitcode)}). What was "
                "written stays: run the command again with fewer --workers or a smaller --batch-size"
            )
            raise RuntimeError(msg)
        if worker.batch is not None:
            self._again.append(worker.batch)
        self._workers[self._workers.index(worker)] = self._start()


def _cause(code: int | None) -> str:
    if code == -9:
        return "killed from outside: often for want of memory"
    return f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"


def _work(connection: Connection, settings: WorkSettings, step: Step, threads: int) -> None:
    """What a process runs until its connection ends, also because the process that started it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the process that started this one decides
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # unlike the default, this releases what libraries hold
    threads = int(os.environ.setdefault("OMP_NUM_THREADS", str(threads)))
    try:
        import torch

        from resrank_pipelines.command import quiet_libraries

        quiet_libraries()  # the run counts what was cut
        torch.set_num_threads(threads)
        work = BatchWork(settings)
        do = work if step == "all" else work.embed
        if step == "all":
            work.new_passages.stamp()
        connection.send(None)
        while True:
            try:
                batch = connection.recv()
            except (EOFError, OSError):
                return
            connection.send(do(batch))
    except Exception as error:
        with suppress(OSError):
            connection.send(sendable(error))


def sendable(error: Exception) -> Exception:
    """
    Make sure that an error survives the way to another process.

    :param error: any.
    :returns: the error, or one with its words.
    """
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """What is started inside inherits it: Ctrl-C may come before a process can say that it does not heed it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: Any = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
