# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The dense and lexical lists that `ResRankRetriever` fuses, alike on the embedded store and on a Qdrant server."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

from haystack import Document
from haystack.dataclasses import SparseEmbedding
from haystack_integrations.components.retrievers.qdrant import QdrantEmbeddingRetriever, QdrantSparseEmbeddingRetriever
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

from haystack_integrations.common.resrank.embedding import StoredEmbedding
from haystack_integrations.common.resrank.stored_document import StoredDocument
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore

Hits = list[tuple[str, float]]


@dataclass(frozen=True)
class Lists:
    """
    What one query found.

    :param dense: (id, cosine) by (score descending, id); `None` when it was not asked for.
    :param bm25: (id, BM25 score) by (score descending, id); `None` when it was not asked for.
    """

    dense: Hits | None
    bm25: Hits | None


class FirstStage(Protocol):
    """Searches one store. Documents come back with their vectors."""

    def search(
        self, dense: list[float] | None, sparse: SparseEmbedding | None, filters: dict[str, Any] | None, depth: int
    ) -> Lists:
        """
        Search.

        :param dense: the query vector; `None` leaves out the dense list.
        :param sparse: the query terms; `None` leaves out the lexical list.
        :param filters: Haystack filters.
        :param depth: length of each list.
        :returns: both lists.
        """

    def documents(self, ids: list[str]) -> list[Document]:
        """
        Get what was found.

        :param ids: from the lists of the last search by this object.
        :returns: documents in that order, without those that were deleted meanwhile.
        """

    def completed(self, document: Document, score: float, meta: dict[str, Any]) -> Document:
        """
        Give a document what the search found about it.

        :param document: from `documents`.
        :param score: of the first stage.
        :param meta: with the evidence.
        :returns: a document that is cheap to copy, without its sparse vector, which no later component needs.
        """


def first_stage(store: QdrantEdgeDocumentStore | QdrantDocumentStore) -> FirstStage:
    """
    The search for one query on a store.

    :param store: either of the two.
    :returns: a fresh searcher; it keeps what it found until it goes.
    """
    return _EdgeStage(store) if isinstance(store, QdrantEdgeDocumentStore) else _ServerStage(store)


class _EdgeStage:
    def __init__(self, store: QdrantEdgeDocumentStore) -> None:
        self._store = store

    def search(
        self, dense: list[float] | None, sparse: SparseEmbedding | None, filters: dict[str, Any] | None, depth: int
    ) -> Lists:
        found, lexical = self._store.search_ids(
            query_embedding=dense, query_sparse_embedding=sparse, filters=filters, top_k=depth
        )
        return Lists(found, lexical)

    def documents(self, ids: list[str]) -> list[Document]:
        return self._store.get_documents_by_id(ids, return_embedding=True, return_sparse_embedding=False)

    def completed(self, document: Document, score: float, meta: dict[str, Any]) -> Document:
        return StoredDocument.of(document, score=score, meta=meta)


class _ServerStage:
    def __init__(self, store: QdrantDocumentStore) -> None:
        self._store = store
        self._found: dict[str, Document] = {}

    def search(
        self, dense: list[float] | None, sparse: SparseEmbedding | None, filters: dict[str, Any] | None, depth: int
    ) -> Lists:
        semantic, lexical = None, None
        if dense is not None:
            by_vector = QdrantEmbeddingRetriever(self._store, top_k=depth, return_embedding=True)
            semantic = self._hits(_tied(by_vector.run(query_embedding=dense, filters=filters)["documents"]))
        if sparse is not None and not sparse.indices:
            lexical = []  # only stop words: Qdrant refuses an empty vector
        elif sparse is not None:
            by_terms = QdrantSparseEmbeddingRetriever(self._store, top_k=depth, return_embedding=True)
            lexical = self._hits(by_terms.run(query_sparse_embedding=sparse, filters=filters)["documents"])
        return Lists(semantic, lexical)

    def documents(self, ids: list[str]) -> list[Document]:
        return [self._found[id_] for id_ in ids]

    def completed(self, document: Document, score: float, meta: dict[str, Any]) -> Document:
        embedding = None if document.embedding is None else StoredEmbedding(document.embedding)
        return StoredDocument.of(document, score=score, meta=meta, embedding=embedding, sparse_embedding=None)

    def _hits(self, documents: list[Document]) -> Hits:
        self._found.update((document.id, document) for document in documents)
        return sorted(((d.id, float(d.score or 0.0)) for d in documents), key=lambda hit: (-hit[1], hit[0]))


def _tied(documents: list[Document]) -> list[Document]:
    # The client's local mode multiplies matrices, whose rows are rounded differently: equal vectors would be ordered by
    # that noise. A server's scores of equal vectors are equal already.
    first: dict[tuple[float, ...], float | None] = {}
    return [replace(d, score=first.setdefault(tuple(d.embedding or ()), d.score)) for d in documents]
