# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import qdrant_client
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

from resrank_pipelines.bulk.indexer import BulkIndexer

WORDS = "dates are parsed with a format string and bread needs flour water salt yeast while the capital sleeps".split()


def passages(count: int) -> list[dict[str, Any]]:
    """Rows whose texts all differ, every third with a title."""
    made = []
    for n in range(count):
        text = f"Passage {n}: " + " ".join(WORDS[(n + i * 7) % len(WORDS)] for i in range(n % 5 + 4))
        made.append({"_id": f"d{n}", "text": text, **({"title": f"Title {n}"} if n % 3 == 0 else {})})
    return made


@pytest.fixture(scope="session")
def rows() -> Callable[[int], list[dict[str, Any]]]:
    """Return a function that makes rows of a corpus."""
    return passages


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes rows, or lines as they are, to a JSONL file."""

    def write_lines(rows: list[Any], name: str = "corpus.jsonl") -> Path:
        path = tmp_path / name
        lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return path

    return write_lines


@pytest.fixture
def bulk(parameters: dict[str, Any], tmp_path: Path) -> Iterator[Callable[..., BulkIndexer]]:
    """Return a function that makes an indexer on a store of the test's own."""
    made: list[BulkIndexer] = []

    def make(**settings: Any) -> BulkIndexer:
        model = {**parameters["model"], "dtype": "float32"}
        defaults = {"model": model, "store": dict(parameters["store"]), "batch_size": 8, "state": tmp_path / "state"}
        made.append(BulkIndexer(**{**defaults, **settings}))
        return made[-1]

    yield make
    for indexer in made:
        indexer.close()


@pytest.fixture(scope="session")
def server(qdrant_stand_in: str) -> str:
    """The URL of a stand-in for a Qdrant server."""
    return qdrant_stand_in


@pytest.fixture(scope="session")
def remote(server: str) -> Callable[[str], QdrantDocumentStore]:
    """Return a function that opens a collection of the server."""

    def open_collection(collection: str) -> QdrantDocumentStore:
        return QdrantDocumentStore(
            url=server,
            index=collection,
            embedding_dim=32,
            similarity="dot_product",
            use_sparse_embeddings=True,
            client_kwargs={"check_compatibility": False},
        )

    return open_collection


@pytest.fixture
def collection(server: str) -> Iterator[str]:
    """The name of a collection that is not there, and is deleted after the test."""
    name = f"bulk-{uuid.uuid4().hex}"
    yield name
    client = qdrant_client.QdrantClient(url=server, check_compatibility=False)
    client.delete_collection(name)
    client.close()
