# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Cohere's client and MCP's, unchanged, against a server on the loopback."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from .conftest import listening

QUERY = "how do I parse a date?"


@pytest.fixture(scope="module")
def address(settings):
    with listening(settings(api_key="a-token", mcp=True)) as url:
        yield url


@pytest.fixture(scope="module")
def expected(address, corpus):
    body = {"query": QUERY, "documents": list(corpus)}
    answer = httpx.post(f"{address}/rerank", json=body, headers={"Authorization": "Bearer a-token"}).json()
    return [(result["index"], result["relevance_score"]) for result in answer["results"]]


def test_coheres_client(address, corpus, expected):
    cohere = pytest.importorskip("cohere")
    client = cohere.Client(api_key="a-token", base_url=address)
    found = client.rerank(model="rerank-v3.5", query=QUERY, documents=list(corpus), top_n=3, return_documents=True)
    assert [result.index for result in found.results] == [index for index, _ in expected[:3]]
    assert [result.relevance_score for result in found.results] == pytest.approx([s for _, s in expected[:3]], abs=1e-5)
    assert [result.document.text for result in found.results] == [corpus[index] for index, _ in expected[:3]]
    assert found.id
    assert found.meta.tokens.input_tokens > 0
    assert found.meta.warnings == []


def test_coheres_second_client(address, corpus, expected):
    cohere = pytest.importorskip("cohere")
    client = cohere.ClientV2(api_key="a-token", base_url=address)
    found = client.rerank(model="rerank-v3.5", query=QUERY, documents=list(corpus), max_tokens_per_doc=4_096)
    assert [result.index for result in found.results] == [index for index, _ in expected]


def test_what_coheres_clients_ask_for_is_done(address, corpus):
    cohere = pytest.importorskip("cohere")
    client, second = (kind(api_key="a-token", base_url=address) for kind in (cohere.Client, cohere.ClientV2))
    documents = [{"title": "Bread", "snippet": text} for text in corpus]
    found = client.rerank(query=QUERY, documents=documents, rank_fields=["snippet", "title"], max_chunks_per_doc=10)
    texts = [f"{text}\nBread" for text in corpus]
    expected = second.rerank(model="m", query=QUERY, documents=texts)
    assert [result.index for result in found.results] == [result.index for result in expected.results]
    assert found.meta.warnings == []
    cut = second.rerank(model="m", query=QUERY, documents=texts, max_tokens_per_doc=2)
    assert cut.meta.warnings == ["12 of 12 documents are longer than 2 tokens and were cut"]


def test_coheres_client_understands_what_is_refused(address, corpus):
    cohere = pytest.importorskip("cohere")
    from cohere.core.api_error import ApiError

    with pytest.raises(ApiError) as refused:
        cohere.ClientV2(api_key="a-token", base_url=address).rerank(model="m", query=" ", documents=["a"])
    assert refused.value.status_code == 422
    assert "got a blank text" in str(refused.value.body)
    with pytest.raises(ApiError) as refused:
        cohere.ClientV2(api_key="wrong", base_url=address).rerank(model="m", query="a", documents=["a"])
    assert refused.value.status_code == 401


# ----------------------------------------------------------------------------------------------------------------- MCP


def called(address, token="a-token", *calls):
    pytest.importorskip("mcp")
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def run():
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            streamablehttp_client(f"{address}/mcp", headers=headers) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            return tools, [await session.call_tool(name, arguments) for name, arguments in calls]

    return asyncio.run(run())


def test_mcp_tools_do_what_the_endpoints_do(address, corpus, expected):
    tools, results = called(
        address,
        "a-token",
        ("rerank", {"query": QUERY, "documents": list(corpus), "top_n": 2}),
        ("search", {"query": QUERY, "top_k": 3}),
        ("ask", {"query": QUERY}),
    )
    assert {"search", "ask", "rerank"} <= set(tools)
    assert not {"deploy_pipeline", "undeploy_pipeline"} & set(tools)
    assert tools["search"].inputSchema["required"] == ["query"]
    assert all(tools[name].description for name in ("search", "ask", "rerank"))
    assert not any(result.isError for result in results)
    ranked, found, answered = (json.loads(result.content[0].text) for result in results)
    assert [result["index"] for result in ranked["results"]] == [index for index, _ in expected[:2]]
    assert len(found["results"]) == 3
    assert "embedding" not in results[1].content[0].text
    assert set(answered) >= {"answer", "confidence", "source"}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (("search", {"query": " "}), "got a blank text"),
        (("search", {"query": "a", "top_k": 9}), "expected at most 8, got 9"),
        (("search", {}), "query"),
        (("rerank", {"query": "a", "documents": [{"title": "x"}]}), "text"),
        (("deploy_pipeline", {"name": "x", "files": {}, "save_files": False, "overwrite": True}), "cannot be deployed"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_mcp_tools_say_what_is_wrong(address, call, said):
    _, (result,) = called(address, "a-token", call)
    assert result.isError
    assert said in result.content[0].text


def test_mcp_needs_the_token_and_the_option(address, client):
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    assert httpx.post(f"{address}/mcp", json=body).status_code == 401
    assert client.post("/mcp", json=body).status_code == 404
