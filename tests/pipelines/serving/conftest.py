# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("prometheus_client", reason="needs the extra serve")

import httpx
import uvicorn
from starlette.testclient import TestClient

from resrank_pipelines.indexing import Indexer
from resrank_pipelines.serving.app import create_app
from resrank_pipelines.serving.settings import Limits, ServeSettings

BASE = "http://127.0.0.1:8000"
LIMITS = Limits(body_bytes=50_000, query_characters=300, documents=20, document_characters=1_000, top_k=8, timeout_s=60)


@pytest.fixture(scope="module")
def store(
    tmp_path_factory: pytest.TempPathFactory, tiny_mini_checkpoint: Path, corpus: tuple[str, ...]
) -> dict[str, Any]:
    """A store with a passage a file; what `ServeSettings` takes."""
    folder = tmp_path_factory.mktemp("serving")
    for number, text in enumerate(corpus):
        (folder / f"{number:02}.txt").write_text(text, encoding="utf-8")
    parameters = {"path": str(folder / "store"), "embedding_dim": 32}
    indexer = Indexer(model={"model": str(tiny_mini_checkpoint)}, store=parameters)
    assert indexer.run([folder]).written == len(corpus)
    indexer.close()
    return parameters


@pytest.fixture(scope="module")
def settings(
    store: dict[str, Any], tiny_mini_checkpoint: Path, tiny_reader_folder: Path
) -> Callable[..., ServeSettings]:
    """Return a function that makes settings with tiny models; takes the fields of `ServeSettings`."""

    def make(**changes: Any) -> ServeSettings:
        own: dict[str, Any] = {
            "model": {"model": str(tiny_mini_checkpoint), "dtype": "float32", "device": "cpu"},
            "store": store,
            "reader": {"model": str(tiny_reader_folder), "dtype": "float32", "device": "cpu"},
            "limits": LIMITS,
        }
        return ServeSettings(**{**own, **changes})

    return make


@contextmanager
def running(settings: ServeSettings, **options: Any) -> Iterator[TestClient]:
    """An app that is ready, in this process."""
    failures: list[BaseException] = []
    with TestClient(create_app(settings, failures.append), base_url=BASE, **options) as client:
        until = time.monotonic() + 60
        while client.get("/ready").status_code != 200:
            assert not failures, failures
            assert time.monotonic() < until
            time.sleep(0.01)
        yield client


@pytest.fixture(scope="module")
def client(settings: Callable[..., ServeSettings]) -> Iterator[TestClient]:
    """A server without a token."""
    with running(settings()) as client:
        yield client


@contextmanager
def listening(settings: ServeSettings) -> Iterator[str]:
    """A server in a thread of this process, and its address."""
    config = uvicorn.Config(create_app(settings), port=0, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    until = time.monotonic() + 60
    try:
        while not server.started:
            assert time.monotonic() < until
            time.sleep(0.01)
        address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        while httpx.get(f"{address}/ready").status_code != 200:
            assert time.monotonic() < until
            time.sleep(0.01)
        yield address
    finally:
        server.should_exit = True
        thread.join(30)


def message(response: Any, status: int) -> str:
    """What an error says; its shape is the same everywhere."""
    assert response.status_code == status, response.text
    body = response.json()
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "type", "code"}
    assert body["error"]["code"] == status
    return body["error"]["message"]
