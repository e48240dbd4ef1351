# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""MCP tools, through hayhooks' MCP server: `search`, `ask` and `rerank` at `/mcp`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel, ValidationError

from .endpoints import Endpoints
from .errors import ServingError, validation_message
from .schemas import AskRequest, RerankRequest, SearchRequest

_Run = Callable[[Any], Awaitable[dict[str, Any]]]


def mcp_sessions(endpoints: Endpoints, *, with_store: bool) -> Any:
    """
    The tools.

    :param endpoints: what they do.
    :param with_store: whether there is something to search.
    :returns: a `StreamableHTTPSessionManager`: `run()` it, and give it what comes to `/mcp`.
    """
    from hayhooks.server.utils.mcp_utils import create_mcp_server
    from loguru import logger
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    logger.disable("hayhooks")  # it logs what tools are called with

    async def rerank(request: Any) -> dict[str, Any]:
        return (await endpoints.rerank(request)).model_dump(exclude_none=True)

    tools: dict[str, tuple[str, type[BaseModel], _Run]] = {
        "rerank": ("Rank texts by how well they answer a query, best first.", RerankRequest, rerank)
    }
    if with_store:
        found = "Search the indexed documents: passages with their source, best first."
        answered = "Answer a question from the indexed documents, with the answer's source."
        tools["search"] = (found, SearchRequest, endpoints.search)
        tools["ask"] = (answered, AskRequest, endpoints.ask)
    return StreamableHTTPSessionManager(
        app=create_mcp_server("resrank", _registry(tools)), json_response=True, stateless=True
    )


def _registry(tools: dict[str, tuple[str, type[BaseModel], _Run]]) -> Any:
    from hayhooks.server.pipelines.registry import ImmutablePipelineRegistry, PipelineRegistration
    from hayhooks.server.utils.module_loader import create_pipeline_wrapper_instance

    return ImmutablePipelineRegistry(
        PipelineRegistration(
            name,
            create_pipeline_wrapper_instance(SimpleNamespace(PipelineWrapper=_wrapper(schema, run))),
            {"request_model": schema, "description": description},
        )
        for name, (description, schema, run) in tools.items()
    )


def _wrapper(schema: type[BaseModel], run: _Run) -> type:
    from hayhooks import BasePipelineWrapper

    class Tool(BasePipelineWrapper):
        def setup(self) -> None:
            """Nothing to set up: the service holds the pipelines."""

        async def run_api_async(self, **arguments: Any) -> dict[str, Any]:
            try:
                return await run(schema.model_validate(arguments))
            except ValidationError as error:
                raise ServingError(422, validation_message(error.errors(include_input=False))) from None

    return Tool
