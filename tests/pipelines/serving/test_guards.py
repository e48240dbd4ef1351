# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Token, host, body size, time, number of requests; metrics, log and tracing tell no text."""

from __future__ import annotations

import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from haystack import tracing
from haystack.tracing.logging_tracer import LoggingTracer
from starlette.testclient import TestClient

from resrank_pipelines.serving.app import create_app
from resrank_pipelines.serving.settings import Limits, ServeSettings, check_address

from .conftest import BASE, message, running

SECRET = "wombat-zebra"
OPEN = ("/", "/page.css", "/page.js", "/health", "/ready", "/openapi.json")


@pytest.fixture(scope="module")
def guarded(settings):
    with running(settings(api_key="tökén", with_store=False)) as client:
        yield client


@pytest.mark.parametrize("path", OPEN)
def test_what_tells_nothing_needs_no_token(guarded, path):
    assert guarded.get(path).status_code == 200


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic tökén", "tökén", "Bearer tökén2", "Bearer TÖKÉN"],
)
@pytest.mark.parametrize("path", ["/v1/rerank", "/v1/search", "/metrics", "/nothing", "/v1/rerank/"])
def test_everything_else_needs_it(guarded, path, header):
    headers = {} if header is None else {"Authorization": header.encode()}
    response = guarded.request("GET" if path == "/metrics" else "POST", path, headers=headers)
    assert "Authorization: Bearer" in message(response, 401)
    assert response.headers["www-authenticate"] == "Bearer"
    assert "tökén" not in response.text


def test_the_token_opens(guarded):
    for scheme in ("Bearer", "bearer"):
        headers = {"Authorization": f"{scheme} tökén".encode()}
        body = {"query": "a", "documents": ["b"]}
        assert guarded.post("/v1/rerank", json=body, headers=headers).status_code == 200
        assert guarded.get("/metrics", headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.8.9.1"])
def test_the_loopback_needs_no_token(host):
    assert check_address(host, None, open_to_all=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_other_addresses_need_one(host):
    with pytest.raises(ValueError, match="RESRANK_API_KEY"):
        check_address(host, None, open_to_all=False)
    assert not check_address(host, "key", open_to_all=False)
    assert not check_address(host, None, open_to_all=True)


def test_names_that_others_point_here_are_refused(settings):
    with running(settings(with_store=False, local_only=True)) as client:
        for host in ("localhost", "127.0.0.1", "LocalHost:8000", "[::1]:80", "[::1]"):
            assert client.get("/health", headers={"host": host}).status_code == 200, host
        for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil", "", "[::2]:80"):
            assert "Host" in message(client.get("/health", headers={"host": host}), 403)


def test_large_bodies_are_refused_declared_or_not(client):
    large = json.dumps({"query": "a", "documents": ["b" * 60_000]}).encode()
    said = message(client.post("/v1/rerank", content=large), 413)
    assert f"at most 50000 bytes, got {len(large)}" in said
    pieces = (large[i : i + 10_000] for i in range(0, len(large), 10_000))
    assert "at most 50000 bytes" in message(client.post("/v1/rerank", content=pieces), 413)
    small = json.dumps({"query": "a", "documents": ["b"]}).encode()
    response = client.post(
        "/v1/rerank",
        content=(small[i : i + 5] for i in range(0, len(small), 5)),
        headers={"content-type": "application/json"},
    )
    assert response.status_code == 200


@pytest.fixture
def slow(settings, monkeypatch):
    """A server for one request at a time and .3 seconds, whose model waits until it is let go."""
    from resrank_pipelines.serving.service import Service

    go, entered = threading.Event(), threading.Event()
    rerank = Service.rerank

    def waiting(self, *arguments):
        entered.set()
        assert go.wait(30)
        return rerank(self, *arguments)

    monkeypatch.setattr(Service, "rerank", waiting)
    limits = Limits(timeout_s=0.3, in_flight=1)
    with running(settings(with_store=False, limits=limits)) as client:
        yield client, go, entered
        go.set()


BODY = {"query": "a", "documents": ["b"]}


def test_requests_over_the_time_are_given_up(slow):
    client, go, _ = slow
    assert "longer than 0.3 seconds" in message(client.post("/v1/rerank", json=BODY), 504)
    said = client.post("/v1/rerank", json=BODY)  # the thread still runs: its place is not free
    assert "1 requests already" in message(said, 503)
    assert said.headers["retry-after"] == "1"
    go.set()
    until = time.monotonic() + 30
    while (response := client.post("/v1/rerank", json=BODY)).status_code == 503:
        assert time.monotonic() < until
    assert response.status_code == 200


def test_before_the_model_is_loaded_it_says_so(settings, monkeypatch):
    from resrank_pipelines.serving.service import Service

    go, start = threading.Event(), Service.start
    monkeypatch.setattr(Service, "start", lambda self: (go.wait(30), start(self)))
    with TestClient(create_app(settings()), base_url=BASE) as client:
        assert client.get("/health").json() == {"status": "ok"}
        for path in ("/v1/search", "/v1/ask", "/v1/rerank"):
            said = client.post(path, json=BODY if "rerank" in path else {"query": "a"})
            assert "still loading" in message(said, 503)
            assert said.headers["retry-after"] == "2"
        assert "loading" in message(client.get("/ready"), 503)
        go.set()


def test_what_cannot_be_loaded_is_told(settings):
    failures = []
    with TestClient(create_app(settings(model={"model": "no-such-model"}), failures.append), base_url=BASE) as client:
        until = time.monotonic() + 30
        while not failures:
            assert time.monotonic() < until
        assert client.get("/ready").status_code == 503
    assert "no-such-model" in str(failures[0])


def test_a_bug_is_500_without_its_message(client, monkeypatch, caplog):
    from resrank_pipelines.serving.service import Service

    def broken(*_):
        raise KeyError(SECRET)

    monkeypatch.setattr(Service, "rerank", broken)
    with caplog.at_level(logging.DEBUG):
        assert message(client.post("/v1/rerank", json=BODY), 500).startswith("internal error: KeyError")
    assert "KeyError at test_guards.py" in caplog.text
    assert SECRET not in caplog.text


def test_an_error_of_the_model_is_500_too(client, monkeypatch, caplog):
    from resrank_pipelines.serving.shared_engine import SharedEngine

    def broken(*_, **__):
        raise RuntimeError(SECRET)

    for path, body in (("/v1/rerank", BODY), ("/v1/search", {"query": "a"}), ("/v1/ask", {"query": "a"})):
        monkeypatch.setattr(SharedEngine, "rerank", broken)
        assert message(client.post(path, json=body), 500).startswith("internal error: ")
    assert SECRET not in caplog.text


def test_neither_log_nor_metrics_nor_spans_hold_texts(client, caplog):
    tracer = LoggingTracer()
    tracing.enable_tracing(tracer)
    try:
        with caplog.at_level(logging.DEBUG):
            client.post("/v1/search", json={"query": SECRET})
            client.post("/v1/ask", json={"query": SECRET})
            client.post("/v1/rerank", json={"query": SECRET, "documents": [SECRET, "date " * 150]})
            client.post("/v1/rerank", json={"query": SECRET, "documents": [{SECRET: 1}]})
            client.get(f"/{SECRET}?q={SECRET}")
    finally:
        tracing.disable_tracing()
    ours = [record for record in caplog.records if record.name.startswith(("resrank", "uvicorn", "hayhooks"))]
    assert len(ours) >= 5
    assert "POST /v1/search 200" in caplog.text
    assert not [record.getMessage() for record in ours if SECRET in record.getMessage()]
    spans = [
        r.getMessage() for r in caplog.records if "resrank.serve" in r.getMessage() or "resrank." in r.getMessage()
    ]
    assert any("resrank.candidates=2" in span for span in spans), spans
    assert SECRET not in client.get("/metrics").text


def test_metrics_count(settings):
    with running(settings()) as client:
        for _ in range(2):
            client.post("/v1/rerank", json={"query": "a", "documents": ["b", "c"]})
        client.post("/v1/search", json={"query": "a"})
        client.get("/some/where")
        client.request("WOMBAT", "/v1/rerank")
        text = client.get("/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert lines['resrank_requests_total{method="POST",route="/v1/rerank",status="200"}'] == "2.0"
    assert lines['resrank_requests_total{method="GET",route="other",status="404"}'] == "1.0"
    assert any('method="other"' in line for line in lines)
    assert "WOMBAT" not in text
    assert lines['resrank_candidates_total{kind="rerank"}'] == "4.0"
    assert lines['resrank_candidates_total{kind="search"}'] == "12.0"
    assert float(lines['resrank_encoded_tokens_total{kind="passage"}']) > 0
    assert lines['resrank_request_seconds_count{route="/v1/search"}'] == "1.0"
    assert lines["resrank_requests_in_flight"] == "0.0"
    assert lines["resrank_ready"] == "1.0"
    assert float(lines['resrank_requests_per_pass_count{lane="lists"}']) >= 3


def test_openapi_describes_each_endpoint_with_examples(client):
    described = client.get("/openapi.json").json()
    for path in ("/v1/search", "/v1/ask", "/v1/rerank", "/v2/rerank", "/rerank"):
        post = described["paths"][path]["post"]
        assert {"200", "401", "413", "422", "503", "504"} <= set(post["responses"])
        name = post["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
        assert described["components"]["schemas"][name]["examples"]
    assert {"/health", "/ready", "/metrics"} <= set(described["paths"])
    assert client.get("/docs").status_code == 404


def test_requests_at_once_give_what_each_gives_alone(client, corpus, queries):
    bodies = [{"query": f"{queries[n % 4]} {n}", "documents": list(corpus[: 2 + n % 10])} for n in range(24)]

    def results(body):
        response = client.post("/v1/rerank", json=body)
        assert response.status_code == 200, response.text
        return response.json()["results"]

    alone = [results(body) for body in bodies]
    with ThreadPoolExecutor(24) as pool:
        together = list(pool.map(results, bodies))
    for mine, theirs in zip(together, alone, strict=True):
        assert [result["index"] for result in mine] == [result["index"] for result in theirs]
        assert [r["relevance_score"] for r in mine] == pytest.approx([r["relevance_score"] for r in theirs], abs=1e-5)


def test_limits_must_be_positive():
    with pytest.raises(ValueError, match="the limit documents must be positive, got 0"):
        Limits(documents=0)


def test_the_served_name_is_that_of_the_folder():
    assert ServeSettings(model={"model": "/some/where/mine"}).model_name == "mine"
