# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
What stands before the routes, as plain ASGI: the log and counters, the token, the host, and the size of bodies.

Nothing here logs or counts a text: paths are logged as the routes' templates, errors by their kind and place.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import time
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import AbandonedError, error_body, place
from .metrics import Metrics

logger = logging.getLogger("resrank.serve")

# They tell nothing of what is stored. The page asks for the token itself.
OPEN_PATHS = frozenset({"/", "/page.css", "/page.js", "/health", "/ready", "/openapi.json"})
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})
_GONE = 499  # as others log a client that did not wait
_METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"})


class Observed:
    """
    Counts and logs each request, and answers 500 for what goes wrong, without its message.

    :param app: what follows.
    :param metrics: where to count.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Handle one connection.

        :param scope: of ASGI.
        :param receive: of ASGI.
        :param send: of ASGI.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except AbandonedError:  # the client has gone
            pass
        except Exception as error:
            if os.environ.get("RESRANK_DEBUG"):
                raise
            logger.error("%s failed: %s", _route(scope), place(error))
            if not status:
                await respond(noting, 500, f"internal error: {type(error).__name__}; the server's log says where")
        finally:
            seconds, route = time.perf_counter() - started, _route(scope)
            status = status or _GONE
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.labels(route, method, str(status)).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            level = logging.DEBUG if route in ("/health", "/ready", "/metrics") else logging.INFO
            logger.log(level, "%s %s %d %.1f ms", method, route, status, seconds * 1_000)


class Token:
    """
    Asks for a bearer token.

    :param app: what follows.
    :param api_key: the token.
    """

    def __init__(self, app: ASGIApp, api_key: str) -> None:
        self._app = app
        self._expected = api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Handle one connection.

        :param scope: of ASGI.
        :param receive: of ASGI.
        :param send: of ASGI.
        """
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS and not self._known(scope):
            msg = "expected the header 'Authorization: Bearer TOKEN' with this server's token"
            await respond(send, 401, msg, [(b"www-authenticate", b"Bearer")])
            return
        await self._app(scope, receive, send)

    def _known(self, scope: Scope) -> bool:
        kind, _, given = _header(scope, b"authorization").partition(b" ")
        return kind.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._expected)


class LocalHost:
    """
    Answers only requests that name this machine, for servers without a token.

    Else a page on the web could point a name of its own at 127.0.0.1 and read what is stored.

    :param app: what follows.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Handle one connection.

        :param scope: of ASGI.
        :param receive: of ASGI.
        :param send: of ASGI.
        """
        if scope["type"] == "http":
            host = _header(scope, b"host").decode("latin-1")
            name = host if host.endswith("]") else host.rpartition(":")[0] or host
            if name.lower() not in _LOCAL_HOSTS:
                msg = "expected a Host of this machine (localhost or 127.0.0.1); set a token to serve other names"
                await respond(send, 403, msg)
                return
        await self._app(scope, receive, send)


class BodyLimit:
    """
    Takes in bodies up to a limit, whole, before anything reads them.

    :param app: what follows.
    :param limit: bytes.
    :param timeout_s: seconds until all of it must have come.
    """

    def __init__(self, app: ASGIApp, limit: int, timeout_s: float) -> None:
        self._app = app
        self._limit = limit
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Handle one connection.

        :param scope: of ASGI.
        :param receive: of ASGI.
        :param send: of ASGI.
        """
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        declared = _header(scope, b"content-length")
        if declared.isdigit() and int(declared) > self._limit:
            await self._refuse(send, int(declared))
            return
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(self._timeout_s):
                complete = await self._take_in(receive, parts)
        except TimeoutError:
            await respond(send, 408, f"the body: expected all of it within {self._timeout_s:g} seconds")
            return
        size = sum(map(len, parts))
        if size > self._limit:
            await self._refuse(send, size)
        if size > self._limit or not complete:
            return
        first: list[Message] = [{"type": "http.request", "body": b"".join(parts), "more_body": False}]

        async def replay() -> Message:
            return first.pop() if first else await receive()

        await self._app(scope, replay, send)

    async def _take_in(self, receive: Receive, parts: list[bytes]) -> bool:
        """Fill `parts`, up to the limit; whether the client has stayed."""
        size, more = 0, True
        while more and size <= self._limit:
            message = await receive()
            if message["type"] == "http.disconnect":
                return False
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
        return True

    async def _refuse(self, send: Send, size: int) -> None:
        await respond(send, 413, f"the body: expected at most {self._limit} bytes, got {size} or more")


async def respond(send: Send, status: int, message: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """
    Send an error.

    :param send: of ASGI.
    :param status: of HTTP.
    :param message: for the client.
    :param headers: more of them.
    """
    body = json.dumps(error_body(status, message)).encode()
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": own})
    await send({"type": "http.response.body", "body": body})


def _header(scope: Scope, name: bytes) -> bytes:
    found: bytes = next((value for key, value in scope["headers"] if key == name), b"")
    return found


def _route(scope: Scope) -> str:
    """The template of the route, never what a client wrote."""
    return str(getattr(scope.get("route"), "path", "")) or "other"
