# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""One request's work: what it took, what it must tell, and whether somebody still waits for it."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .errors import AbandonedError


class Work:
    """
    Filled while a request is worked on, in the request's thread.

    `candidates` counts the passages that were ranked, `tokens` what the encoder read for this request.

    It is found by `current`, so that the model, which knows nothing of requests, can count for the right one.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.warnings: list[str] = []
        self.candidates = 0
        self.tokens = 0
        self._started = time.perf_counter()
        self._abandoned = threading.Event()

    @property
    def abandoned(self) -> bool:
        """
        Whether nobody waits any more.

        :returns: true after `abandon`.
        """
        return self._abandoned.is_set()

    def abandon(self) -> None:
        """
        Say that nobody waits any more: what has not begun is left out.
        """
        self._abandoned.set()

    def check(self) -> None:
        """
        Stop here when nobody waits any more.

        :raises AbandonedError: when it is so.
        """
        if self.abandoned:
            raise AbandonedError

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """
        Add up the time of a part.

        :param part: its name.
        :returns: a context.
        """
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - started

    def warn(self, message: str) -> None:
        """
        Tell the client something about its result, once.

        :param message: with counts, without texts.
        """
        if message not in self.warnings:
            self.warnings.append(message)

    def timings(self) -> dict[str, float]:
        """
        Where the time went, waiting for other requests included.

        :returns: milliseconds: `total`, `encode` (query and documents), `rank` (the reranker's pass), and `other`:
            the store, the reader or LLM, and Haystack.
        """
        total = time.perf_counter() - self._started
        parts = {"total": total, "encode": self.seconds["encode"], "rank": self.seconds["rank"]}
        parts["other"] = max(0.0, total - parts["encode"] - parts["rank"])
        return {f"{name}_ms": round(seconds * 1_000, 2) for name, seconds in parts.items()}


current: ContextVar[Work | None] = ContextVar("resrank_work", default=None)
