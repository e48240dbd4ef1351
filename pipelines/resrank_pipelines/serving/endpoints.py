# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""What the endpoints do, whatever they are called through: limits, then the service in a thread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn
from uuid import uuid4

from .errors import ServingError
from .schemas import AskRequest, RerankRequest, RerankResponse, RerankResult, SearchRequest
from .service import Service, work_here
from .settings import Limits
from .work import Work
from .workers import Workers

# Of fields that nobody knows, in a warning.
_NAMES, _NAME_CHARACTERS = 5, 40


class Endpoints:
    """
    The endpoints of REST, chat and MCP.

    :param service: does the work.
    :param workers: run it.
    :param limits: of each request.
    """

    def __init__(self, service: Service, workers: Workers, limits: Limits) -> None:
        self._service = service
        self._workers = workers
        self._limits = limits

    async def search(self, request: SearchRequest) -> dict[str, Any]:
        """
        Search the store.

        :param request: checked by its schema.
        :returns: a `SearchResponse`.
        :raises ServingError: for what is over a limit.
        """
        return await self._answered(request, self._service.search)

    async def ask(self, request: AskRequest) -> dict[str, Any]:
        """
        Answer a question.

        :param request: checked by its schema.
        :returns: an `AskResponse`.
        :raises ServingError: for what is over a limit.
        """
        return await self._answered(request, self._service.ask)

    async def ask_in_pieces(self, request: AskRequest) -> AsyncIterator[str | dict[str, Any]]:
        """
        Answer a question as the answer comes.

        :param request: checked by its schema.
        :returns: pieces of an LLM's answer, last the whole `AskResponse`.
        :raises ServingError: for what is over a limit.
        """
        self._check(request.query)
        top_k = self._top_k(request)

        def answer(give: Callable[[str], None]) -> dict[str, Any]:
            found = self._service.ask(request.query, top_k, request.filters, give)
            return {**found, **_told(work_here())}

        async for piece in self._workers.stream(answer):
            yield piece

    async def rerank(self, request: RerankRequest) -> RerankResponse:
        """
        Rank texts.

        :param request: checked by its schema.
        :returns: the response.
        :raises ServingError: for what is over a limit.
        """
        self._check(request.query)
        limits, documents = self._limits, request.documents
        if len(documents) > limits.documents:
            _refuse("documents", f"at most {limits.documents}", len(documents))
        texts = [_text(document, request.rank_fields) for document in documents]
        for position, text in enumerate(texts):
            if len(text) > limits.document_characters:
                _refuse(f"document {position}", f"at most {limits.document_characters} characters", len(text))
            _check_unicode(f"document {position}", text)
        most = request.max_tokens_per_doc
        ranked, work = await self._workers.run(lambda: self._service.rerank(request.query, texts, most))
        results = []
        for index, score in list(zip(ranked.order, ranked.scores, strict=True))[: request.top_n]:
            sent = {"text": texts[index]} if request.return_documents else None
            results.append(RerankResult(index=index, relevance_score=score, document=sent))
        if request.model_extra:
            work.warn(f"fields that this server does not know were ignored: {_names(request.model_extra)}")
        told = _told(work)
        return RerankResponse(
            id=str(uuid4()),
            model=self._service.settings.model_name,
            results=results,
            usage={"total_tokens": work.tokens},
            meta={
                "api_version": {"version": "2"},
                "tokens": {"input_tokens": work.tokens, "output_tokens": 0},
                **told,
            },
        )

    async def _answered(
        self, request: SearchRequest | AskRequest, answer: Callable[[str, int, dict[str, Any] | None], dict[str, Any]]
    ) -> dict[str, Any]:
        self._check(request.query)
        top_k = self._top_k(request)
        found, work = await self._workers.run(lambda: answer(request.query, top_k, request.filters))
        return {**found, **_told(work)}

    def _check(self, query: str) -> None:
        limits = self._limits
        if not query.strip():
            msg = "query: expected a question or keywords, got a blank text"
            raise ServingError(422, msg)
        if len(query) > limits.query_characters:
            _refuse("query", f"at most {limits.query_characters} characters", len(query))
        _check_unicode("query", query)

    def _top_k(self, request: SearchRequest | AskRequest) -> int:
        most = self._limits.top_k
        if "top_k" not in request.model_fields_set:
            return min(request.top_k, most)
        if request.top_k > most:
            _refuse("top_k", f"at most {most}", request.top_k)
        return request.top_k


def _told(work: Work) -> dict[str, Any]:
    return {"timings": work.timings(), "warnings": work.warnings}


def _text(document: str | dict[str, Any], fields: list[str] | None) -> str:
    if isinstance(document, str):
        return document
    return "\n".join(document[field] for field in fields or ["text"] if field in document)


def _names(fields: dict[str, Any]) -> str:
    shown = [name[:_NAME_CHARACTERS] for name in list(fields)[:_NAMES]]
    return ", ".join(shown) + (", …" if len(fields) > _NAMES else "")


def _refuse(what: str, expected: str, got: int) -> NoReturn:
    raise ServingError(422, f"{what}: expected {expected}, got {got}")


def _check_unicode(what: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        msg = f"{what}: character {error.start} is a lone surrogate, which no Unicode text may have"
        raise ServingError(422, msg) from None
