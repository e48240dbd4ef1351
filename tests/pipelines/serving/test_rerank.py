# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""`/v1/rerank`, its other paths, and Cohere's own client."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from resrank import ResRank

from .conftest import message

QUERY = "how do I parse a date?"
PATHS = ("/v1/rerank", "/v2/rerank", "/rerank")


@pytest.fixture(scope="module")
def model(tiny_mini_checkpoint):
    return ResRank.from_pretrained(tiny_mini_checkpoint, device="cpu", dtype="float32")


@pytest.mark.parametrize("path", PATHS)
def test_results_are_those_of_the_model(client, model, corpus, path):
    body = client.post(path, json={"model": "rerank-v3.5", "query": QUERY, "documents": list(corpus)}).json()
    scores = model.rerank(QUERY, model.encode_passages(corpus), model.text_evidence(QUERY, corpus))
    assert [result["index"] for result in body["results"]] == scores.argsort(kind="stable")[::-1].tolist()
    relevance = [result["relevance_score"] for result in body["results"]]
    assert relevance == sorted(relevance, reverse=True)
    assert all(0.0 <= score <= 1.0 for score in relevance)
    assert all(set(result) == {"index", "relevance_score"} for result in body["results"])
    assert body["id"]
    assert body["model"] == "tiny-mini"
    assert body["usage"]["total_tokens"] == body["meta"]["tokens"]["input_tokens"] > len(corpus)
    assert body["meta"]["warnings"] == []


def test_top_n_and_documents(client, corpus):
    documents = [*corpus[:3], {"text": corpus[3], "title": "x", "score": 1.5}]
    asked = {"query": QUERY, "documents": documents, "top_n": 2, "return_documents": True}
    body = client.post("/v1/rerank", json=asked).json()
    assert len(body["results"]) == 2
    for result in body["results"]:
        assert result["document"] == {"text": corpus[result["index"]]}
    assert len(client.post("/v1/rerank", json={**asked, "top_n": 500}).json()["results"]) == 4


def test_documents_are_cut_after_as_many_tokens_as_the_client_says(client, model, corpus):
    long = [f"{text} {corpus[0]}" for text in corpus]
    body = {"query": QUERY, "documents": long, "max_tokens_per_doc": 5}
    answer = client.post("/v1/rerank", json=body).json()
    ids = [model.encoder.tokenizer(text)["input_ids"] for text in long]
    cut = [model.encoder.tokenizer.decode(each[1:6]) for each in ids]
    expected = model.rerank(QUERY, model.encode_passages(cut), model.text_evidence(QUERY, long))  # words are not cut
    assert [result["index"] for result in answer["results"]] == expected.argsort(kind="stable")[::-1].tolist()
    assert answer["meta"]["warnings"] == ["12 of 12 documents are longer than 5 tokens and were cut"]
    assert answer["usage"]["total_tokens"] < 12 * (5 + 2) + 20
    whole = client.post("/v1/rerank", json={**body, "max_tokens_per_doc": 10**30}).json()
    assert whole["results"] == client.post("/v1/rerank", json={"query": QUERY, "documents": long}).json()["results"]


def test_requests_with_different_limits_share_passes(client, corpus):
    bodies = [{"query": QUERY, "documents": list(corpus), "max_tokens_per_doc": 1 + n % 4} for n in range(16)]

    def order(body):
        return [result["index"] for result in client.post("/v1/rerank", json=body).json()["results"]]

    alone = [order(body) for body in bodies]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(order, bodies)) == alone
    assert len(set(map(tuple, alone))) > 1


def test_the_fields_to_rank_by(client, corpus):
    documents = [{"title": corpus[n], "body": corpus[-1 - n], "year": "2026"} for n in range(4)]
    body = {"query": QUERY, "rank_fields": ["title", "none", "body"], "return_documents": True}
    found = client.post("/v1/rerank", json={**body, "documents": [*documents, corpus[5]]}).json()["results"]
    texts = [*(f"{document['title']}\n{document['body']}" for document in documents), corpus[5]]
    assert found == client.post("/v1/rerank", json={**body, "rank_fields": None, "documents": texts}).json()["results"]
    assert {result["document"]["text"] for result in found} == set(texts)


def test_fields_that_nobody_knows_are_told(client):
    body = {"query": "a", "documents": ["b"], "relevant_spans": {"k": 1}, "truncation": None, "é" + "x" * 60: 1}
    answer = client.post("/v1/rerank", json=body).json()
    told = f"fields that this server does not know were ignored: relevant_spans, truncation, é{'x' * 39}"
    assert answer["meta"]["warnings"] == [told]
    many = client.post("/v1/rerank", json={"query": "a", "documents": ["b"], **{f"f{n}": n for n in range(9)}}).json()
    assert many["meta"]["warnings"][0].endswith("f0, f1, f2, f3, f4, …")
    quiet = {"model": "m", "max_chunks_per_doc": 10, "priority": 3, "rank_fields": None, "max_tokens_per_doc": None}
    assert not client.post("/v1/rerank", json={"query": "a", "documents": ["b"], **quiet}).json()["meta"]["warnings"]


def test_empty_lists_and_empty_documents(client):
    assert client.post("/v1/rerank", json={"query": "a", "documents": []}).json()["results"] == []
    results = client.post("/v1/rerank", json={"query": "a", "documents": ["", "  ", "a", ""]}).json()["results"]
    assert sorted(result["index"] for result in results) == [0, 1, 2, 3]
    assert [r["index"] for r in results if r["index"] in (0, 3)] == [0, 3]  # equal ones as they came


def test_documents_that_are_cut_are_told(client):
    body = client.post("/v1/rerank", json={"query": "a", "documents": ["date " * 100, "a"]}).json()
    assert body["meta"]["warnings"] == ["1 of 2 documents are longer than 48 tokens and were cut"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"query": "  "}, "query: expected a question"),
        ({"query": None}, "query: "),
        ({"query": 5}, "query: "),
        ({"query": "a" * 301}, "query: expected at most 300 characters, got 301"),
        ({"documents": ["a"] * 21}, "documents: expected at most 20, got 21"),
        ({"documents": ["a", "b" * 1_001]}, "document 1: expected at most 1000 characters, got 1001"),
        ({"documents": "a"}, "documents: expected a list"),
        ({"documents": None}, "documents: expected a list of strings or of objects with a text, got null"),
        ({"documents": ["a", 5]}, "document 1: expected a string or an object"),
        ({"documents": ["a", {"title": "x"}]}, "document 1: expected a string or an object"),
        ({"documents": [["a"]]}, "got a list"),
        ({"documents": [True]}, "got a boolean"),
        ({"top_n": 0}, "top_n: "),
        ({"top_n": -1}, "top_n: "),
        ({"top_n": 1.5}, "top_n: "),
        ({"top_n": "2"}, "top_n: "),
        ({"top_n": True}, "top_n: "),
        ({"return_documents": "yes"}, "return_documents: "),
        ({"max_tokens_per_doc": 0}, "max_tokens_per_doc: "),
        ({"max_tokens_per_doc": "9"}, "max_tokens_per_doc: "),
        ({"rank_fields": []}, "rank_fields: "),
        ({"rank_fields": "title"}, "rank_fields: "),
        (
            {"rank_fields": ["title"], "documents": ["a", {"text": "b"}]},
            "document 1: expected a string in at least one",
        ),
        ({"rank_fields": ["title"], "documents": [{"title": 5}]}, "got one that is a number"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_refused(client, change, said):
    body = {"query": "a", "documents": ["b"], **change}
    assert said in message(client.post("/v1/rerank", json=body), 422)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[1]", 422),
        (b"null", 422),
        (b'"a"', 422),
        (b'{"query": "a", "documents": [NaN]}', 422),
        (b'{"query": NaN, "documents": ["a"]}', 422),
        (b'{"query": "a", "documents": ["b"], "top_n": Infinity}', 422),
        (b'{"query": "a", "documents": ["b"], "top_n": 1e400}', 422),
        (b'{"query": "a", "documents": ["b"], "top_n": ' + b"9" * 5_000 + b"}", 400),
        (b'{"query": "a", "documents": ["b"], "top_n": 99999999999999999999999}', 200),
        (b"[" * 20_000, 400),
        (b'{"query": "\\ud800", "documents": ["b"]}', 422),
        (b'{"query": "a", "documents": ["\\udfff b"]}', 422),
        (b'{"query": "a", "documents": [{"text": "b", "x": "\\ud800"}], "return_documents": true}', 200),
        (b'{"query": "a", "documents": ["b"], "\\ud800": 1}', 422),
        (b'{"query": "a\\u0000", "documents": ["\\u0000"]}', 200),
    ],
    ids=lambda value: str(value)[:50],
)
def test_hostile_json(client, content, status):
    response = client.post("/v1/rerank", content=content, headers={"content-type": "application/json"})
    assert response.status_code == status, response.text
    json.loads(response.text, parse_constant=pytest.fail)


def test_a_body_without_its_type_is_told_what_is_missing(client):
    body = json.dumps({"query": "a", "documents": ["b"]})
    response = client.post("/v1/rerank", content=body, headers={"content-type": "text/plain"})
    assert "Content-Type: application/json" in message(response, 422)


def test_unknown_fields_of_our_own_endpoints_are_refused(client):
    assert message(client.post("/v1/search", json={"query": "a", "topk": 3}), 422) == "topk: there is no such field"


def test_other_methods_and_paths(client):
    assert message(client.get("/v1/rerank"), 405)
    assert message(client.get("/nothing"), 404)
