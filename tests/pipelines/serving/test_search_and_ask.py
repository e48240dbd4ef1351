# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""`/v1/search` and `/v1/ask`, with the reader and with a stand-in for an LLM's endpoint."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from resrank.reader import Span, SpanReader
from resrank_pipelines import load_pipeline
from resrank_pipelines.serving.service import plain

from .conftest import message, running

QUERY = "what is the capital of France?"


def by_file(end: str) -> dict[str, Any]:
    return {"field": "meta.file_path", "operator": "==", "value": end}


@pytest.fixture
def reads_paris(monkeypatch):
    def read(self: Any, query: str, passages: Any, **_: Any) -> list[Span]:
        places = [(i, text.index("Paris")) for i, text in enumerate(passages) if "Paris" in text]
        return [Span(i, start, start + 5, "Paris", 3.0) for i, start in places]

    monkeypatch.setattr(SpanReader, "read", read)


def test_search_gives_what_the_pipeline_gives_without_internals(client, settings):
    body = client.post("/v1/search", json={"query": QUERY, "top_k": 4}).json()
    assert list(body) == ["results", "timings", "warnings"]
    used = settings()
    pipeline = load_pipeline("search", model=used.model, store=used.store)
    ranked = pipeline.run({"retriever": {"query": QUERY}, "ranker": {"query": QUERY, "top_k": 4}})["ranker"][
        "documents"
    ]
    pipeline.close()
    assert [result["id"] for result in body["results"]] == [document.id for document in ranked]
    for rank, (result, document) in enumerate(zip(body["results"], ranked, strict=True), 1):
        assert result["rank"] == rank
        assert result["score"] == pytest.approx(document.score, abs=1e-5)
        assert result["retrieval_rank"] == document.meta["resrank"]["retrieval_rank"]
        assert result["retrieval_score"] == pytest.approx(document.meta["resrank"]["retrieval_score"])
        assert result["content"] == document.content
        assert "resrank" not in result["meta"]
        assert set(result) == {"rank", "score", "retrieval_rank", "retrieval_score", "id", "content", "meta"}
    assert "embedding" not in json.dumps(body)
    assert set(body["timings"]) == {"total_ms", "encode_ms", "rank_ms", "other_ms"}
    assert body["timings"]["total_ms"] >= body["timings"]["rank_ms"] > 0
    assert body["warnings"] == []


def test_reranking_moved_something(client):
    results = client.post("/v1/search", json={"query": QUERY, "top_k": 8}).json()["results"]
    assert [result["retrieval_rank"] for result in results] != sorted(result["retrieval_rank"] for result in results)


def test_filters_reach_the_store(client):
    found = client.post("/v1/search", json={"query": QUERY}).json()["results"]
    path = found[3]["meta"]["file_path"]
    (only,) = client.post("/v1/search", json={"query": QUERY, "filters": by_file(path)}).json()["results"]
    assert only["meta"]["file_path"] == path
    assert client.post("/v1/search", json={"query": QUERY, "filters": {}}).json()["results"]
    assert client.post("/v1/search", json={"query": QUERY, "filters": by_file("none")}).json()["results"] == []


@pytest.mark.parametrize(
    "filters",
    [
        {"field": "meta.a"},
        {"field": "meta.a", "operator": "~", "value": 1},
        {"operator": "AND", "conditions": 5},
        {"field": 7, "operator": "==", "value": 1},
        {"field": "meta.a", "operator": ">", "value": {"x": []}},
        {"field": "meta.a", "operator": "in", "value": "\ud800"},
    ],
    ids=str,
)
def test_filters_that_are_none_are_refused(client, filters):
    response = client.post(
        "/v1/search",
        content=json.dumps({"query": QUERY, "filters": filters}),
        headers={"content-type": "application/json"},
    )
    assert message(response, 422).startswith("filters: ")


def test_filters_nested_too_deep_are_refused(client):
    nested = '{"operator": "NOT", "conditions": [' * 300 + json.dumps(by_file("a")) + "]}" * 300
    response = client.post(
        "/v1/search", content=f'{{"query": "a", "filters": {nested}}}', headers={"content-type": "application/json"}
    )
    assert response.status_code in (200, 422), response.text


def test_a_query_that_is_cut_is_told(client):
    body = client.post("/v1/search", json={"query": "date " * 60, "top_k": 1}).json()
    assert [w for w in body["warnings"] if "reads" not in w]
    assert all("was cut" in warning for warning in body["warnings"])


def test_unicode_goes_in_and_out(client, hostile_text):
    for path, extra in (("/v1/search", {}), ("/v1/ask", {}), ("/v1/rerank", {"documents": [hostile_text[:900], "a"]})):
        response = client.post(path, json={"query": hostile_text[:300], **extra})
        assert response.status_code in (200, 422), response.text
        if response.status_code == 422:
            assert "blank" in response.text
        else:
            assert response.json()["results"]


def test_meta_that_json_has_no_word_for_becomes_null_or_text():
    import datetime as dt

    odd = {"a": math.nan, "b": [math.inf, {"c": dt.date(2026, 1, 2)}], 5: {1}, "d": True}
    assert plain(odd) == {"a": None, "b": [None, {"c": "2026-01-02"}], "5": [1], "d": True}


# -------------------------------------------------------------------------------------------------------------- reader


def test_an_answer_comes_with_confidence_and_its_place(client, reads_paris):
    body = client.post("/v1/ask", json={"query": QUERY, "top_k": 8}).json()
    assert (body["answer"], body["confidence"]) == ("Paris", pytest.approx(0.95257, abs=1e-4))
    source = body["source"]
    assert source["content"][source["start"] : source["end"]] == "Paris"
    assert source["source"].endswith(".txt#0")
    assert [answer["answer"] for answer in body["answers"]] == ["Paris", None]
    assert len(body["results"]) == 8
    assert body["citations"] == []


def test_no_answer_is_an_answer(client, monkeypatch):
    monkeypatch.setattr(SpanReader, "read", lambda *_, **__: [])
    body = client.post("/v1/ask", json={"query": QUERY}).json()
    assert (body["answer"], body["confidence"], body["source"]) == (None, 1.0, None)


def test_a_reader_streams_its_answer_in_one_event(client, reads_paris):
    response = client.post("/v1/ask", json={"query": QUERY, "top_k": 8, "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    ((name, body),) = events(response.text)
    assert (name, body["answer"]) == ("answer", "Paris")
    assert set(body) == set(client.post("/v1/ask", json={"query": QUERY}).json())
    assert body["timings"]["total_ms"] > 0


def events(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


# ----------------------------------------------------------------------------------------------------------------- LLM


def chunks(*texts: str) -> bytes:
    lines = []
    for number, text in enumerate((*texts, None)):
        choice = {"index": 0, "delta": {} if text is None else {"content": text, "role": "assistant"}}
        choice["finish_reason"] = "stop" if text is None else None
        chunk = {
            "id": "1",
            "object": "chat.completion.chunk",
            "created": number,
            "model": "a-model",
            "choices": [choice],
        }
        lines.append(f"data: {json.dumps(chunk)}\n\n")
    return "".join([*lines, "data: [DONE]\n\n"]).encode()


@pytest.fixture
def chatting(settings, llm):
    with running(settings(llm=True)) as client:
        yield client


def test_an_llm_answers_with_citations(chatting, llm):
    llm.text = "It is Paris [2]."
    body = chatting.post("/v1/ask", json={"query": QUERY, "top_k": 3}).json()
    assert (body["answer"], body["confidence"], body["answers"]) == ("It is Paris [2].", None, [])
    (citation,) = body["citations"]
    assert citation["number"] == 2
    assert citation["id"] == body["results"][1]["id"]
    assert "resrank" not in citation["meta"]
    assert body["source"] == citation


def test_an_llm_streams(chatting, llm):
    llm.body = chunks("It is ", "Paris [1].")
    found = events(chatting.post("/v1/ask", json={"query": QUERY, "stream": True}).text)
    assert [name for name, _ in found] == ["text", "text", "answer"]
    assert [body["text"] for _, body in found[:2]] == ["It is ", "Paris [1]."]
    assert found[-1][1]["answer"] == "It is Paris [1]."
    assert [citation["number"] for citation in found[-1][1]["citations"]] == [1]


def test_an_endpoint_that_fails_is_told(chatting, llm):
    llm.status, llm.body = 401, {"error": {"message": "Incorrect key"}}
    assert "refused with status 401" in message(chatting.post("/v1/ask", json={"query": QUERY}), 502)
    assert "refused" in message(chatting.post("/v1/ask", json={"query": QUERY, "stream": True}), 502)
    chat = {"model": "resrank-rag", "messages": [{"role": "user", "content": QUERY}]}
    assert "refused" in message(chatting.post("/v1/chat/completions", json=chat), 502)
    assert "sk-very-secret" not in chatting.post("/v1/ask", json={"query": QUERY}).text


def test_chat_completions(chatting, llm):
    assert [model["id"] for model in chatting.get("/v1/models").json()["data"]] == ["resrank-rag"]
    llm.text = "Paris [1]."
    messages = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hi."}]
    messages.append({"role": "user", "content": [{"type": "text", "text": QUERY}]})
    body = chatting.post("/v1/chat/completions", json={"model": "resrank-rag", "messages": messages}).json()
    assert body["choices"][0]["message"]["content"] == "Paris [1]."
    assert QUERY in llm.requests[0]["messages"][1]["content"]
    assert "Hello?" not in llm.requests[0]["messages"][1]["content"]


def test_chat_completions_stream_to_openais_client(chatting, llm):
    openai = pytest.importorskip("openai")
    llm.body = chunks("It is ", "Paris.")
    client = openai.OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none", http_client=chatting)
    stream = client.chat.completions.create(
        model="resrank-rag", messages=[{"role": "user", "content": QUERY}], stream=True
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "It is Paris."


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"model": "gpt", "messages": [{"role": "user", "content": "a"}]}, 404, "expected resrank-rag"),
        ({"model": "resrank-rag", "messages": []}, 422, "expected one of the user"),
        ({"model": "resrank-rag", "messages": [{"role": "user", "content": 5}]}, 422, "expected one of the user"),
        ({"model": "resrank-rag", "messages": [{"role": "user", "content": "a" * 301}]}, 422, "at most 300"),
        ({"model": "resrank-rag"}, 422, "messages"),
    ],
)
def test_chats_that_are_refused(chatting, body, status, said):
    assert said in message(chatting.post("/v1/chat/completions", json=body), status)


def test_without_an_llm_there_is_no_chat(client):
    assert client.post("/v1/chat/completions", json={}).status_code == 404


def test_a_server_without_a_store_only_reranks(settings):
    with running(settings(with_store=False)) as client:
        for path in ("/v1/search", "/v1/ask"):
            assert "--store" in message(client.post(path, json={"query": "a"}), 404)
        assert client.post("/v1/rerank", json={"query": "a", "documents": ["b"]}).json()["results"]


def test_a_qdrant_server_is_searched_by_its_definitions(settings):
    with running(settings(server=True, store={"location": ":memory:", "url": None})) as client:
        assert client.post("/v1/search", json={"query": QUERY}).json()["results"] == []
        assert client.post("/v1/ask", json={"query": QUERY}).json()["answer"] is None


def test_dense_retrieval_only(settings):
    with running(settings(dense=True)) as client:
        body = client.post("/v1/search", json={"query": QUERY, "top_k": 3}).json()
        assert all(-1.0 <= result["retrieval_score"] <= 1.0 for result in body["results"])
        assert client.post("/v1/ask", json={"query": QUERY, "top_k": 2}).json()["results"]
