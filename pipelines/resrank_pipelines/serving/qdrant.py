# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The Qdrant server behind a server: whether it answers, and what clients are told when it does not."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any

import qdrant_client
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from .errors import ServingError

logger = logging.getLogger("resrank.serve")

_TIMEOUT_S = 2  # a probe that waits longer is no use to whoever probes
_FRESH_S = 1.0  # probes come often, and from anybody
_RETRY_S = 2
_NO_COLLECTION = (
    "the Qdrant server has no such collection: index into it, or start this server with another --collection"
)


class QdrantProbe:
    """
    Asks a Qdrant server whether it has a collection, at most once a second. Threads may share one.

    :param url: of the server; its key is read from `QDRANT_API_KEY`.
    :param collection: that must be there.
    """

    def __init__(self, url: str, collection: str) -> None:
        self._url, self._collection = url, collection
        self._lock = threading.Lock()
        self._client: Any = None
        self._asked = float("-inf")
        self._problem: str | None = None

    def problem(self) -> str | None:
        """
        Ask, or repeat the last answer when it is fresh.

        :returns: what is wrong and what to do, without the server's address; `None`: nothing is.
        """
        with self._lock:
            if time.monotonic() - self._asked > _FRESH_S:
                before, self._problem = self._problem, self._ask()
                self._asked = time.monotonic()
                if self._problem != before:
                    logger.warning("%s", self._problem or "the Qdrant server answers")
            return self._problem

    def close(self) -> None:
        """
        Let the connection go.
        """
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _ask(self) -> str | None:
        try:
            if self._client is None:
                self._client = qdrant_client.QdrantClient(
                    url=self._url,
                    api_key=os.environ.get("QDRANT_API_KEY"),
                    timeout=_TIMEOUT_S,
                    check_compatibility=False,
                )
            if self._client.collection_exists(self._collection):
                return None
        except Exception as error:
            told = unavailable(error)
            return told.message if told is not None else _silent(error)
        return _NO_COLLECTION


def unavailable(error: BaseException) -> ServingError | None:
    """
    Tell a client that the Qdrant server cannot be used now.

    :param error: that came up in a search.
    :returns: 503 with what to do; `None` when the error is of another kind.
    """
    if isinstance(error, ResponseHandlingException):
        return ServingError(503, _silent(error.source), retry_after_s=_RETRY_S)
    if not isinstance(error, UnexpectedResponse):
        return None
    status = error.status_code
    if status in (401, 403):
        msg = "the Qdrant server refuses this server's key: set QDRANT_API_KEY to one that may read, and start again"
        return ServingError(503, msg)
    if status == 404:
        return ServingError(503, _NO_COLLECTION, retry_after_s=_RETRY_S)
    if status is not None and (status >= 500 or status == 429):
        msg = f"the Qdrant server fails (it answered {status}): look at its log; try again later"
        return ServingError(503, msg, retry_after_s=_RETRY_S)
    return None


def _silent(error: BaseException) -> str:
    return (
        f"the Qdrant server does not answer ({type(error).__name__}): start it, or mend the connection to it; this "
        "server goes on by itself when it is back"
    )
