# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""First stages, each computed once on a collection and shared by all systems that rerank its candidates."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from haystack import Document

from haystack_integrations.common.resrank import ResRankModel
from haystack_integrations.common.resrank.documents import entry, with_entry
from haystack_integrations.common.resrank.stored_document import StoredDocument
from haystack_integrations.components.retrievers.resrank import ResRankRetriever
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
from resrank.evidence import META_KEYS

from .systems import Pool
from .trec import Run

_MODES: dict[Pool, Any] = {"bm25": "bm25", "dense": "dense", "rrf": "hybrid"}
_WARM_UP = 3  # queries before the clock counts


@dataclass
class PoolResult:
    """
    What a first stage found for every query.

    :param run: (passage id, score) by query id, best first.
    :param evidence: what it left with each of them, in the same order.
    :param latency_ms: of each query, in the order of the run.
    :param query_tokens: that the encoder processed, all queries together.
    """

    run: Run = field(default_factory=dict)
    evidence: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    latency_ms: list[float] = field(default_factory=list)
    query_tokens: int = 0


def retrieve(
    pool: Pool,
    queries: dict[str, str],
    store: QdrantEdgeDocumentStore,
    model: ResRankModel,
    *,
    depth: int,
    progress: Callable[[int, int], None],
) -> PoolResult:
    """
    Run a first stage through `ResRankRetriever`, a query at a time.

    :param pool: which.
    :param queries: text by id.
    :param store: with the collection.
    :param model: that embedded it.
    :param depth: candidates a query.
    :param progress: told (done, total).
    :returns: what it found.
    """
    retriever = ResRankRetriever(
        document_store=store, model=model, mode=_MODES[pool], top_k=depth, return_query_embedding=False
    )
    engine = model.load("encoder")
    found = PoolResult()
    try:
        retriever.warm_up()
        for query in list(queries.values())[:_WARM_UP]:
            retriever.run(query=query)
        for query_id, query in queries.items():
            engine.forget_queries()
            started = time.perf_counter()
            documents = retriever.run(query=query)["documents"]
            found.latency_ms.append((time.perf_counter() - started) * 1_000)
            found.run[query_id] = [(document.id, float(document.score or 0.0)) for document in documents]
            found.evidence[query_id] = [
                {key: value for key, value in entry(document).items() if key in META_KEYS} for document in documents
            ]
            if pool != "bm25":
                found.query_tokens += query_tokens(engine, query)
            progress(len(found.run), len(queries))
    finally:
        retriever.close()
    return found


def candidates(found: PoolResult, query_id: str, store: QdrantEdgeDocumentStore) -> list[Document]:
    """
    The documents that the first stage gave for a query, as it gave them.

    :param found: the first stage's results.
    :param query_id: of the query.
    :param store: that it searched.
    :returns: documents with vectors, scores and evidence, best first.
    """
    hits = found.run[query_id]
    documents = store.get_documents_by_id([id_ for id_, _ in hits], return_sparse_embedding=False)
    return [
        StoredDocument.of(document, score=score, meta=with_entry(document, evidence))
        for document, (_, score), evidence in zip(documents, hits, found.evidence[query_id], strict=True)
    ]


def query_tokens(engine: Any, query: str) -> int:
    """
    How many tokens the encoder reads of a query.

    :param engine: a `ResRank`.
    :param query: its text.
    :returns: tokens, with prompt and special ones.
    """
    ids, _ = engine.encoder.tokenize([query], is_query=True)
    return len(ids[0])
