# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The REST endpoints."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from .endpoints import Endpoints
from .errors import AbandonedError, ServingError, error_body
from .metrics import Metrics
from .schemas import (
    AskRequest,
    AskResponse,
    ErrorResponse,
    RerankRequest,
    RerankResponse,
    SearchRequest,
    SearchResponse,
    State,
)
from .service import Service

_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorResponse, "description": "The body is no JSON."},
    401: {"model": ErrorResponse, "description": "The token is missing or wrong."},
    413: {"model": ErrorResponse, "description": "The body is too large."},
    422: {"model": ErrorResponse, "description": "A field is wrong or over its limit."},
    503: {"model": ErrorResponse, "description": "Still loading, or too busy."},
    504: {"model": ErrorResponse, "description": "Over the time limit."},
}
_WITH_STORE = {**_REFUSALS, 404: {"model": ErrorResponse, "description": "This server has no store."}}


def api_router(endpoints: Endpoints) -> APIRouter:
    """
    Routes of the API.

    :param endpoints: what they do.
    :returns: a router.
    """
    router = APIRouter()

    @router.post(
        "/v1/search", summary="Search the store and rerank", response_model=SearchResponse, responses=_WITH_STORE
    )
    async def search(request: SearchRequest) -> Any:
        return await endpoints.search(request)

    @router.post(
        "/v1/ask",
        summary="Answer a question from the store",
        response_model=AskResponse,
        responses={
            **_WITH_STORE,
            200: {"content": {"text/event-stream": {}}, "description": "The answer, or with `stream` its events."},
            502: {"model": ErrorResponse, "description": "The LLM's endpoint failed."},
        },
    )
    async def ask(request: AskRequest) -> Any:
        if not request.stream:
            return await endpoints.ask(request)
        pieces = endpoints.ask_in_pieces(request)
        # The first piece is waited for, so that what is refused is refused with its status.
        first = await anext(pieces)
        return StreamingResponse(_events(first, pieces), media_type="text/event-stream", headers=_NO_CACHE)

    async def rerank(request: RerankRequest) -> Any:
        return await endpoints.rerank(request)

    for path, summary in (
        ("/v1/rerank", "Rank texts (Jina's and Cohere's API)"),
        ("/v2/rerank", "Rank texts (Cohere's API, version 2)"),
        ("/rerank", "Rank texts (the same)"),
    ):
        router.add_api_route(
            path,
            rerank,
            methods=["POST"],
            summary=summary,
            response_model=RerankResponse,
            response_model_exclude_none=True,
            responses=_REFUSALS,
            operation_id="rerank" + path.replace("/", "_"),
        )
    return router


def probe_router(service: Service, metrics: Metrics) -> APIRouter:
    """
    Routes for those who watch the server.

    :param service: that is watched.
    :param metrics: what was counted.
    :returns: a router.
    """
    router = APIRouter()

    @router.get("/health", summary="Whether the process is up", response_model=State)
    async def health() -> Any:
        return {"status": "ok"}

    @router.get(
        "/ready",
        summary="Whether the model is loaded, the store open, and a Qdrant server there",
        response_model=State,
        responses={503: {"model": ErrorResponse, "description": "Not yet."}},
    )
    async def ready() -> Any:
        if not service.ready:
            msg = "the model is still loading, or the server is shutting down"
            raise ServingError(503, msg, retry_after_s=2)
        problem = await asyncio.to_thread(service.problem)
        if problem is not None:
            raise ServingError(503, problem, retry_after_s=2)
        return {"status": "ready"}

    @router.get("/metrics", summary="Counters for Prometheus", response_class=Response)
    async def counters() -> Any:
        metrics.ready.set(service.ready)
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


_NO_CACHE = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


async def _events(first: str | dict[str, Any], pieces: AsyncIterator[str | dict[str, Any]]) -> AsyncIterator[str]:
    yield _event(first)
    try:
        async for piece in pieces:
            yield _event(piece)
    except ServingError as error:
        yield _sse("error", error_body(error.status, error.message))
    except AbandonedError:
        return
    except Exception as error:
        yield _sse("error", error_body(500, f"internal error: {type(error).__name__}"))


def _event(piece: str | dict[str, Any]) -> str:
    return _sse("text", {"text": piece}) if isinstance(piece, str) else _sse("answer", piece)


def _sse(name: str, value: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(value, ensure_ascii=False, allow_nan=False)}\n\n"
