# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The server's app: routes, guards and its life from loading the model to letting it go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from .endpoints import Endpoints
from .errors import ServingError, error_body, place, validation_message
from .guards import BodyLimit, LocalHost, Observed, Token
from .metrics import Metrics
from .page import page_router
from .routes import api_router, probe_router
from .service import Service
from .settings import ServeSettings
from .workers import Workers

logger = logging.getLogger("resrank.serve")

_DESCRIPTION = (
    "Search, answers and listwise reranking. Vectors are never sent; errors say what was expected and what came."
)


def create_app(settings: ServeSettings, on_failure: Callable[[BaseException], None] | None = None) -> FastAPI:
    """
    Make the app. The model loads in the background when the app starts; `/ready` tells when it is done.

    :param settings: what to serve.
    :param on_failure: called when the model or the store cannot be loaded.
    :returns: for any ASGI server.
    """
    metrics = Metrics()
    service = Service(settings, metrics)
    workers = Workers(settings.limits, metrics)
    endpoints = Endpoints(service, workers, settings.limits)
    sessions: Any = None
    if settings.mcp:
        from .tools import mcp_sessions

        sessions = mcp_sessions(endpoints, with_store=settings.with_store)

    app = FastAPI(
        title="ResRank",
        description=_DESCRIPTION,
        version=_version(),
        lifespan=_life(service, workers, sessions, on_failure),
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
    )
    app.include_router(api_router(endpoints))
    app.include_router(probe_router(service, metrics))
    if settings.llm and settings.with_store:
        from .chat import chat_router

        app.include_router(chat_router(endpoints))
    if sessions is not None:
        app.router.routes.append(Route("/mcp", _Mcp(sessions)))
    app.include_router(page_router())
    _add_errors(app)
    _add_guards(app, settings, metrics)
    return app


def _life(
    service: Service, workers: Workers, sessions: Any, on_failure: Callable[[BaseException], None] | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """From loading the model to letting it go."""

    async def load() -> None:
        try:
            await asyncio.to_thread(service.start)
        except Exception as error:
            logger.error("cannot serve: %s", place(error))
            if on_failure is not None:
                on_failure(error)
        else:
            logger.info("ready")

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(load())
        try:
            async with AsyncExitStack() as stack:
                if sessions is not None:
                    await stack.enter_async_context(sessions.run())
                yield
        finally:
            await loading
            service.ready = False
            await asyncio.to_thread(workers.close)
            await asyncio.to_thread(service.close)

    return life


def _add_guards(app: FastAPI, settings: ServeSettings, metrics: Metrics) -> None:
    # The last that is added comes first.
    app.add_middleware(BodyLimit, limit=settings.limits.body_bytes, timeout_s=settings.limits.timeout_s)
    if settings.api_key is not None:
        app.add_middleware(Token, api_key=settings.api_key)
    if settings.local_only:
        app.add_middleware(LocalHost)
    app.add_middleware(Observed, metrics=metrics)


class _Mcp:
    """The MCP endpoint as an ASGI app: a function would be taken for one that gets a request."""

    def __init__(self, sessions: Any) -> None:
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._sessions.handle_request(scope, receive, send)


def _add_errors(app: FastAPI) -> None:
    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, ServingError)  # noqa: S101 - Starlette's type is wider
        return JSONResponse(error_body(error.status, error.message), error.status, headers=error.headers)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        found = error.errors()
        status = 400 if found[0]["type"] == "json_invalid" else 422
        return JSONResponse(error_body(status, validation_message(found)), status)

    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        return JSONResponse(error_body(error.status_code, str(error.detail)), error.status_code, headers=error.headers)

    app.add_exception_handler(ServingError, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)


def _version() -> str:
    try:
        return version("resrank")
    except PackageNotFoundError:
        return "0"
