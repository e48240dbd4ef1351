# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The bodies of requests and responses, as OpenAPI describes them. Limits are checked by the routes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, WithJsonSchema
from pydantic.config import JsonDict

_QUESTION = "how do I reset my password"
_FILTERS: JsonDict = {"field": "meta.language", "operator": "==", "value": "en"}
_RESULT: JsonDict = {
    "rank": 1,
    "score": 11.2,
    "retrieval_rank": 3,
    "retrieval_score": 0.031,
    "id": "5f2c…",
    "content": "Reset your password from the login page.",
    "meta": {"file_path": "help.txt", "split_id": 0},
}
_TIMINGS: JsonDict = {"total_ms": 48.1, "encode_ms": 12.0, "rank_ms": 24.5, "other_ms": 11.6}


def _documents(value: Any, info: ValidationInfo) -> Any:
    # The first that is wrong is told, not each of a million.
    if not isinstance(value, list):
        msg = f"expected a list of strings or of objects with a text, got {_kind(value)}"
        raise ValueError(msg)
    fields = info.data.get("rank_fields")
    for position, document in enumerate(value):
        if fields and isinstance(document, dict):
            _check_fields(position, document, fields)
            continue
        text = document.get("text") if isinstance(document, dict) else document
        if not isinstance(text, str):
            found = f"an object whose text is {_kind(text)}" if isinstance(document, dict) else _kind(document)
            msg = f"document {position}: expected a string or an object with a string as its text, got {found}"
            raise ValueError(msg)
    return value


def _check_fields(position: int, document: dict[str, Any], fields: list[str]) -> None:
    named = [document[field] for field in fields if field in document]
    odd = next((value for value in named if not isinstance(value, str)), None)
    if not named or odd is not None:
        found = f"one that is {_kind(odd)}" if named else "none of them"
        msg = f"document {position}: expected a string in at least one of the fields of rank_fields, got {found}"
        raise ValueError(msg)


def _kind(value: Any) -> str:
    kinds = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return kinds.get(type(value), "an object")


_TEXT_OR_OBJECT = {
    "anyOf": [
        {"type": "string"},
        {"type": "object", "properties": {"text": {"type": "string"}}},
    ]
}
Documents = Annotated[
    list[Any], BeforeValidator(_documents), WithJsonSchema({"type": "array", "items": _TEXT_OR_OBJECT})
]


class _Request(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class SearchRequest(_Request):
    """A search in the store."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": _QUESTION, "top_k": 5}, {"query": _QUESTION, "filters": _FILTERS}]}
    )
    query: str = Field(description="A question or keywords; not blank.")
    top_k: int = Field(default=10, ge=1, description="How many results.")
    filters: dict[str, Any] | None = Field(default=None, description="Haystack filters.")


class AskRequest(_Request):
    """A question to be answered from the store."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "when does the office close?"}]})
    query: str = Field(description="The question; not blank.")
    top_k: int = Field(default=5, ge=1, description="How many passages to look in.")
    filters: dict[str, Any] | None = Field(default=None, description="Haystack filters.")
    stream: bool = Field(
        default=False,
        description="Server-sent events: `text` for each piece of an LLM's answer, last `answer` with the whole body.",
    )


class RerankRequest(BaseModel):
    """
    Texts to rank, as clients of Cohere's and Jina's rerank APIs send them; other fields are ignored, with a warning.
    """

    model_config = ConfigDict(
        strict=True,
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "query": "how do I parse a date?",
                    "documents": ["Bread needs yeast.", {"text": "Parse dates with datetime.strptime."}],
                    "top_n": 1,
                    "return_documents": True,
                }
            ]
        },
    )
    query: str = Field(description="A question or keywords; not blank.")
    rank_fields: list[str] | None = Field(
        default=None,
        min_length=1,
        description="Which fields of documents that are objects to rank by: their values, in this order, a line each. "
        "By default `text`.",
    )
    documents: Documents = Field(description="Strings, or objects with a `text` or the fields of `rank_fields`.")
    top_n: int | None = Field(default=None, ge=1, description="How many results; all by default.")
    return_documents: bool = Field(default=False, description="Send each result's document back.")
    max_tokens_per_doc: int | None = Field(
        default=None,
        ge=1,
        description="Cut documents after so many tokens. A model that reads fewer cuts them earlier, with a warning.",
    )
    model: str | None = Field(default=None, description="Accepted and ignored: a server has one model.")
    max_chunks_per_doc: int | None = Field(
        default=None, description="Accepted and ignored: a document is read as one piece."
    )
    priority: int | None = Field(default=None, description="Accepted and ignored: requests are served as they come.")


class Timings(BaseModel):
    """Milliseconds, waiting for other requests included."""

    total_ms: float
    encode_ms: float = Field(description="Encoding of query and documents.")
    rank_ms: float = Field(description="The reranker's pass.")
    other_ms: float = Field(description="Store, reader or LLM, and Haystack.")


class Result(BaseModel):
    """A passage, without its vectors."""

    model_config = ConfigDict(json_schema_extra={"examples": [_RESULT]})
    rank: int = Field(description="After reranking, from 1.")
    score: float | None = Field(description="Of the whole list: higher is better, comparable within a response.")
    retrieval_rank: int | None = Field(description="Before reranking, from 1.")
    retrieval_score: float | None = Field(description="Of the first stage.")
    id: str
    content: str | None
    meta: dict[str, Any]


class SearchResponse(BaseModel):
    """What was found, best first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"results": [_RESULT], "timings": _TIMINGS, "warnings": []}]}
    )
    results: list[Result]
    timings: Timings
    warnings: list[str] = Field(description="Whatever of the request was not read.")


class AskResponse(BaseModel):
    """An answer with its source."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "answer": "from the login page",
                    "confidence": 0.93,
                    "source": {
                        "start": 20,
                        "end": 39,
                        "source": "help.txt#0",
                        "id": "5f2c…",
                        "content": "…",
                        "meta": {},
                    },
                    "answers": [],
                    "results": [_RESULT],
                    "timings": _TIMINGS,
                    "warnings": [],
                }
            ]
        }
    )
    answer: str | None = Field(description="`null`: the passages hold none.")
    confidence: float | None = Field(description="0 to 1, of the reader; `null` for an LLM's answer.")
    source: dict[str, Any] | None = Field(
        description="The passage it comes from; the reader's answer is `content[start:end]`, in Unicode characters."
    )
    answers: list[dict[str, Any]] = Field(default=[], description="The reader's other answers, `null` among them.")
    citations: list[dict[str, Any]] = Field(default=[], description="The passages that the LLM cites, by `number`.")
    results: list[Result] = Field(description="The passages that were read.")
    timings: Timings
    warnings: list[str] = Field(description="Whatever of the request was not read.")


class RerankResult(BaseModel):
    """One ranked document."""

    index: int = Field(description="Its position in the request.")
    relevance_score: float = Field(description="0 to 1; comparable within a response.")
    document: dict[str, Any] | None = Field(default=None, description="With `return_documents`.")


class RerankResponse(BaseModel):
    """Documents, best first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0b6f5e0c-…",
                    "model": "resrank-mini",
                    "results": [{"index": 1, "relevance_score": 0.98}],
                    "usage": {"total_tokens": 31},
                    "meta": {
                        "api_version": {"version": "2"},
                        "tokens": {"input_tokens": 31, "output_tokens": 0},
                        "warnings": [],
                        "timings": _TIMINGS,
                    },
                }
            ]
        }
    )
    id: str
    model: str
    results: list[RerankResult]
    usage: dict[str, int]
    meta: dict[str, Any]


class ErrorResponse(BaseModel):
    """Why there is no result."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"error": {"message": "query: expected at most 4000 characters, got 5120", "type": "…", "code": 422}}
            ]
        }
    )
    error: dict[str, Any]


class State(BaseModel):
    """A probe's answer."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})
    status: str
