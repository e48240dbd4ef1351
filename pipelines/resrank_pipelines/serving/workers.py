# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Threads for what blocks, with a limit on how many requests there are and on how long each may take."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, copy_context
from typing import Any, TypeVar

from .errors import ServingError
from .metrics import Metrics
from .settings import Limits
from .work import Work, current

Result = TypeVar("Result")

# Threads wait for the model most of their time; this many lists at most can share a pass.
_THREADS = 32
_END = object()


class Workers:
    """
    Runs blocking functions for the event loop.

    :param limits: of time and of requests at once.
    :param metrics: where to count.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(min(_THREADS, limits.in_flight), "resrank-request")
        self._guard = threading.Lock()
        self._in_flight = 0

    async def run(self, function: Callable[[], Result]) -> tuple[Result, Work]:
        """
        Run a function for one request.

        :param function: what to do; `current` holds the request's work meanwhile.
        :returns: its result, and the work.
        :raises ServingError: 503 when too much waits already, 504 when it takes too long.
        """
        work = Work()
        future = self._submit(work, function)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._limits.timeout_s), work
        except TimeoutError:
            raise self._too_late() from None
        finally:
            work.abandon()

    async def stream(self, function: Callable[[Callable[[str], None]], Result]) -> AsyncIterator[str | Result]:
        """
        Run a function that gives pieces of text before its result.

        :param function: takes a function to give pieces to.
        :returns: an iterator over the pieces, and last the result. Whoever stops iterating ends the work.
        :raises ServingError: as `run`.
        """
        loop, work = asyncio.get_running_loop(), Work()
        pieces: asyncio.Queue[Any] = asyncio.Queue()

        def give(text: str) -> None:
            work.check()
            loop.call_soon_threadsafe(pieces.put_nowait, text)

        def ended(_: Future[Result]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(pieces.put_nowait, _END)

        future = self._submit(work, lambda: function(give))
        future.add_done_callback(ended)
        until = loop.time() + self._limits.timeout_s
        try:
            while True:
                piece = await asyncio.wait_for(pieces.get(), max(0.0, until - loop.time()))
                if piece is _END:
                    yield future.result()
                    return
                yield piece
        except TimeoutError:
            raise self._too_late() from None
        finally:
            work.abandon()
            future.cancel()

    def close(self) -> None:
        """
        Wait for what runs.
        """
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self, work: Work, function: Callable[[], Result]) -> Future[Result]:
        with self._guard:
            if self._in_flight >= self._limits.in_flight:
                most = self._limits.in_flight
                msg = f"the server works on {most} requests already, which is its limit: try again later"
                raise ServingError(503, msg, retry_after_s=1)
            self._in_flight += 1
        self._metrics.in_flight.inc()
        context = copy_context()
        try:
            future = self._pool.submit(_run, context, work, function)
        except RuntimeError:
            self._done()
            msg = "the server is shutting down"
            raise ServingError(503, msg) from None
        future.add_done_callback(lambda _: self._done())
        return future

    def _done(self) -> None:
        with self._guard:
            self._in_flight -= 1
        self._metrics.in_flight.dec()

    def _too_late(self) -> ServingError:
        msg = (
            f"the request took longer than {self._limits.timeout_s:g} seconds, which is the limit: ask for less at "
            "once, or try again when the server is less busy"
        )
        return ServingError(504, msg)


def _run(context: Context, work: Work, function: Callable[[], Result]) -> Result:
    def begin() -> Result:
        current.set(work)
        work.check()
        return function()

    return context.run(begin)
