# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
The connection to a Qdrant server refused, cut, stalled, and back again.

Behind the proxy is the server that QDRANT_URL names, or a stand-in on the loopback.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import qdrant_client

from resrank_pipelines.indexing import Indexer
from resrank_pipelines.migration import Migration

from .processes import Resrank, wait_for
from .proxy import Proxy

pytestmark = pytest.mark.slow

FAILURES = ("refuse", "cut", "stall", "hang up")
QUERY = {"query": "paragraph 3", "top_k": 5}
# A little more than the client's own 5 seconds of patience for each of two lists.
PATIENCE_S = 30


@pytest.fixture(scope="module")
def qdrant(request) -> str:
    """The server behind the proxy."""
    url = os.environ.get("QDRANT_URL")
    if url and urlsplit(url).scheme == "http":
        return url
    return request.getfixturevalue("qdrant_stand_in")


@pytest.fixture(scope="module")
def collection(qdrant, write_files, tiny_mini_checkpoint, tmp_path_factory) -> Iterator[str]:
    """A filled collection, removed afterwards."""
    name = f"resrank-test-{uuid.uuid4().hex}"
    parameters = {"url": qdrant, "index": name, "embedding_dim": 32}
    indexer = Indexer("index_server", model={"model": str(tiny_mini_checkpoint)}, store=parameters)
    assert indexer.run([write_files(tmp_path_factory.mktemp("files"), 2)]).written
    indexer.close()
    yield name
    client = qdrant_client.QdrantClient(url=qdrant, api_key=os.environ.get("QDRANT_API_KEY"))
    client.delete_collection(name)
    client.close()


@pytest.fixture
def proxy(qdrant) -> Iterator[Proxy]:
    parts = urlsplit(qdrant)
    made = Proxy((str(parts.hostname), parts.port or 6333))
    yield made
    made.close()


@pytest.fixture
def server(resrank, proxy, collection, tiny_mini_checkpoint, tiny_reader_folder):
    """Start a server that searches through the proxy."""
    models = ["--model", str(tiny_mini_checkpoint), "--reader", str(tiny_reader_folder), "--dtype", "float32"]
    return lambda: resrank("serve", "--port", "0", "--qdrant", proxy.url, "--collection", collection, *models)


def results(running: Resrank) -> list[tuple[str, float]]:
    response = httpx.post(f"{running.url}/v1/search", json=QUERY, timeout=PATIENCE_S)
    assert response.status_code == 200, response.text
    return [(found["id"], found["score"]) for found in response.json()["results"]]


def refused(response: httpx.Response) -> None:
    assert response.status_code == 503, response.text
    said = response.json()["error"]["message"]
    assert "the Qdrant server does not answer" in said
    assert "start it, or mend the connection" in said
    assert response.headers["retry-after"]


def ready(running: Resrank) -> bool:
    return httpx.get(f"{running.url}/ready", timeout=PATIENCE_S).status_code == 200


@pytest.mark.timeout(600)
def test_a_server_outlives_each_failure_and_goes_on_by_itself(server, proxy):
    running = server().ready()
    expected = results(running)
    assert len(expected) == 5
    for failure in FAILURES:
        proxy.fail(failure)
        for path in ("/v1/search", "/v1/ask"):
            refused(httpx.post(f"{running.url}{path}", json={"query": f"paragraph 4 {failure}"}, timeout=PATIENCE_S))
        time.sleep(1.1)  # a probe's answer stays fresh for a second
        refused(httpx.get(f"{running.url}/ready", timeout=PATIENCE_S))
        assert httpx.get(f"{running.url}/health", timeout=5).status_code == 200
        texts = {"query": "a", "documents": ["b", "c"]}  # needs no store
        assert httpx.post(f"{running.url}/rerank", json=texts, timeout=PATIENCE_S).status_code == 200
        proxy.fail("pass")
        assert results(running) == expected
        wait_for(lambda: ready(running), running)
    assert running.exit_code is None
    assert "Traceback" not in running.log
    assert proxy.url not in running.log


@pytest.mark.timeout(300)
def test_a_server_may_start_before_qdrant_does(server, proxy):
    proxy.fail("refuse")
    running = server()
    wait_for(lambda: "running on" in running.log, running)
    running.url = running.log.split("running on ")[1].split()[0]
    wait_for(lambda: "Qdrant" in httpx.get(f"{running.url}/ready", timeout=PATIENCE_S).text, running)
    refused(httpx.get(f"{running.url}/ready", timeout=PATIENCE_S))
    refused(httpx.post(f"{running.url}/v1/search", json=QUERY, timeout=PATIENCE_S))
    proxy.fail("pass")
    wait_for(lambda: ready(running), running)
    assert len(results(running)) == 5


@pytest.fixture
def store(tmp_path, write_files, tiny_mini_checkpoint) -> Path:
    """An embedded store of 64 passages."""
    parameters = {"path": str(tmp_path / "store"), "embedding_dim": 32}
    indexer = Indexer(model={"model": str(tiny_mini_checkpoint)}, store=parameters)
    assert indexer.run([write_files(tmp_path / "files", 4)]).written == 64
    indexer.close()
    return tmp_path / "store"


@pytest.mark.parametrize("failure", FAILURES)
def test_a_migration_says_what_to_do_and_goes_on(failure, proxy, qdrant, store):
    name = f"resrank-test-{uuid.uuid4().hex}"

    def copy(progress=lambda *_: None):
        migration = Migration(store, proxy.url, name, batch_size=16, timeout_s=3, progress=progress)
        try:
            return migration.run()
        finally:
            migration.close()

    def fail_half_way(what, done, _total):
        if what == "Copying" and done >= 32:
            proxy.fail(failure)

    with pytest.raises(ConnectionError, match=r"no Qdrant server answers at .*running the same command again goes on"):
        copy(fail_half_way)
    proxy.fail("pass")
    report = copy()
    assert report.verified
    assert report.unchanged >= 32
    qdrant_client.QdrantClient(url=qdrant, api_key=os.environ.get("QDRANT_API_KEY")).delete_collection(name)
