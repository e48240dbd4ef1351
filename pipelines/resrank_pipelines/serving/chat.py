# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
OpenAI-compatible chat completions: `/v1/chat/completions` and `/v1/models`.

The router is the one of hayhooks (its package `fastapi-openai-compat`). hayhooks' own app is not used: it offers
`/deploy_files` and `/undeploy`, which run and delete code that clients send, answers pages of all origins, starts
whatever lies in `./pipelines`, and knows no token, limits or readiness.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from fastapi import APIRouter, HTTPException
from fastapi_openai_compat import create_chat_completion_router

from .endpoints import Endpoints
from .errors import ServingError, place
from .schemas import AskRequest

CHAT_MODEL = "resrank-rag"

logger = logging.getLogger("resrank.serve")


def chat_router(endpoints: Endpoints) -> APIRouter:
    """
    The routes. Their model is `resrank-rag`; the last message of the user is the question, earlier ones are not read.

    :param endpoints: what answers.
    :returns: a router.
    """

    async def complete(
        model: str, messages: list[dict[str, Any]], body: dict[str, Any]
    ) -> str | AsyncGenerator[str, None]:
        if model != CHAT_MODEL:
            msg = f"model: expected {CHAT_MODEL}, got another"
            raise HTTPException(404, msg)
        request = AskRequest(query=_question(messages))
        try:
            if not body.get("stream"):
                return str((await endpoints.ask(request))["answer"])
            pieces = endpoints.ask_in_pieces(request)
            return _texts(await anext(pieces), pieces)
        except ServingError as error:
            raise HTTPException(error.status, error.message, error.headers or None) from None
        except Exception as error:
            # The router would log the message and send it, and messages may quote texts.
            logger.error("/v1/chat/completions failed: %s", place(error))
            raise HTTPException(500, f"internal error: {type(error).__name__}") from None

    router: APIRouter = create_chat_completion_router(
        list_models=lambda: [CHAT_MODEL], run_completion=complete, owned_by="resrank", tags=["OpenAI"]
    )
    return router


def _question(messages: list[dict[str, Any]]) -> str:
    """The text of the last message of the user."""
    content = next((message.get("content") for message in reversed(messages) if message.get("role") == "user"), None)
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        content = "\n".join(part for part in parts if isinstance(part, str))
    if not isinstance(content, str) or not content.strip():
        raise HTTPException(422, "messages: expected one of the user with a text")
    return content


async def _texts(first: str | dict[str, Any], pieces: AsyncIterator[str | dict[str, Any]]) -> AsyncGenerator[str, None]:
    if isinstance(first, str):
        yield first
    try:
        async for piece in pieces:
            if isinstance(piece, str):
                yield piece
    except Exception as error:
        logger.error("/v1/chat/completions failed: %s", place(error))
        raise
