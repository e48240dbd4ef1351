# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

import math
from typing import Any

import numpy as np
import qdrant_edge as edge
from haystack.dataclasses import Document, SparseEmbedding

from . import converters
from .access import EdgeAccess
from .engine_config import DENSE_VECTORS_NAME, SPARSE_VECTORS_NAME, PointId, check_positive_int
from .shard import QdrantEdgeStoreError, SharedShard

# After so many searches, each overtaken by a deletion, the documents that are left are the answer.
_FIND_ATTEMPTS = 8


def _scaled(score: float, *, similarity: str) -> float:
    """Map a score to 0..1 as qdrant-haystack does."""
    if similarity == "cosine":
        return (score + 1) / 2
    decay = math.exp(-abs(score) / 100)
    return 1 / (1 + decay) if score >= 0 else decay / (1 + decay)


def _ranked(scores: list[tuple[PointId, float]], names: dict[PointId, str], sign: float) -> list[tuple[str, float]]:
    """Order points by score, then by the id of their document; without those that were deleted meanwhile."""
    ranked = [(names[point], sign * score) for point, score in scores if point in names]
    ranked.sort(key=lambda pair: (-pair[1], pair[0]))
    return ranked


def _engine_threshold(score_threshold: float | None, *, is_distance: bool) -> float | None:
    """Give the engine, which leaves out scores equal to its threshold, one that is a step further away."""
    if score_threshold is None:
        return None
    limit = np.float32(-score_threshold if is_distance else score_threshold)
    return float(np.nextafter(limit, np.float32(math.inf if is_distance else -math.inf)))


class EdgeSearch(EdgeAccess):
    """How a store searches. Scores are Python floats, a higher one is better, and ties are ordered by document id."""

    return_embedding: bool
    _search_parameters: edge.SearchParams

    def search_ids(
        self,
        *,
        query_embedding: list[float] | None,
        query_sparse_embedding: SparseEmbedding | None,
        filters: dict[str, Any] | None = None,
        top_k: int = 100,
    ) -> tuple[list[tuple[str, float]] | None, list[tuple[str, float]] | None]:
        """
        Search the dense and the sparse vectors in one call of the engine, for ids and scores only.

        :param query_embedding: `embedding_dim` finite floats, or `None` to leave the dense search out.
        :param query_sparse_embedding: Distinct indices and finite values, or `None` to leave the sparse search out. One
            without indices finds nothing.
        :param filters: A Haystack filter for both.
        :param top_k: How many documents each search returns at most.
        :returns: The dense and the sparse results, each a list of document id and score, best first, then by id; `None`
            for a search that was left out.
        :raises ValueError: If a vector is malformed, or `top_k` is below 1.
        :raises QdrantEdgeStoreError: If the store keeps no sparse vectors and a sparse search was asked for.
        :raises FilterError: If the filter is malformed.
        """

        def search(
            shard: SharedShard,
        ) -> tuple[list[tuple[str, float]] | None, list[tuple[str, float]] | None]:
            wanted = self._engine_filter(shard, filters)
            requests = []
            if query_embedding is not None:
                requests.append(self._dense_request(query_embedding, top_k, filter=wanted))
            if query_sparse_embedding is not None and query_sparse_embedding.indices:
                requests.append(self._sparse_request(query_sparse_embedding, top_k, filter=wanted))
            scores: list[list[tuple[PointId, float]]] = []
            names: dict[PointId, str] = {}
            if requests:
                scores, names = self._find(shard, edge.QueryBatchRequest(requests))
            sign = -1.0 if self.similarity == "l2" else 1.0
            dense = None if query_embedding is None else _ranked(scores.pop(0), names, sign)
            sparse = None if query_sparse_embedding is None else _ranked(scores.pop() if scores else [], names, 1.0)
            return dense, sparse

        if query_sparse_embedding is not None:
            self._check_sparse()
        return self._read(search)

    @staticmethod
    def _find(
        shard: SharedShard, request: edge.QueryBatchRequest
    ) -> tuple[list[list[tuple[PointId, float]]], dict[PointId, str]]:
        """Search and name what was found. Searches again where another thread deleted one of them in between."""
        for _ in range(_FIND_ATTEMPTS):
            found = shard.call(lambda engine: engine.query_batch(request))
            # A search returns no payload: reading one costs more than finding the point.
            scores = [[(point.id, point.score) for point in points] for points in found]
            points = {point for pairs in scores for point, _ in pairs}
            names = shard.names_of(list(points))
            if len(names) == len(points):
                break
        return scores, names

    def _query_by_embedding(  # noqa: PLR0917  the parameters of qdrant-haystack
        self,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        scale_score: bool = False,
        return_embedding: bool | None = None,
        score_threshold: float | None = None,
    ) -> list[Document]:
        """
        Find the documents with the most similar dense vectors.

        :param query_embedding: `embedding_dim` finite floats.
        :param filters: A Haystack filter.
        :param top_k: How many documents to return at most.
        :param scale_score: Whether to map scores to 0..1, as `qdrant-haystack` does.
        :param return_embedding: Whether the documents get their vectors; `None` for the store's setting.
        :param score_threshold: Leave out documents with a lower score (before scaling).
        :returns: The documents with their scores, best first, then by id.
        :raises ValueError: If the vector has another dimension, or `top_k` is below 1.
        :raises FilterError: If the filter is malformed.
        """
        is_distance = self.similarity == "l2"

        def search(shard: SharedShard) -> list[edge.ScoredPoint]:
            request = self._dense_request(
                query_embedding,
                top_k,
                filter=self._engine_filter(shard, filters),
                with_payload=True,
                with_vector=self.return_embedding if return_embedding is None else return_embedding,
                score_threshold=_engine_threshold(score_threshold, is_distance=is_distance),
            )
            return shard.call(lambda engine: engine.query(request))

        return self._to_documents(self._read(search), score_threshold, scale_score=scale_score, is_distance=is_distance)

    def _query_by_sparse(  # noqa: PLR0917  the parameters of qdrant-haystack
        self,
        query_sparse_embedding: SparseEmbedding,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        scale_score: bool = False,
        return_embedding: bool | None = None,
        score_threshold: float | None = None,
    ) -> list[Document]:
        """
        Find the documents with the best matching sparse vectors.

        :param query_sparse_embedding: Distinct indices and finite values; one without indices finds nothing.
        :param filters: A Haystack filter.
        :param top_k: How many documents to return at most.
        :param scale_score: Whether to map scores to 0..1, as `qdrant-haystack` does.
        :param return_embedding: Whether the documents get their vectors; `None` for the store's setting.
        :param score_threshold: Leave out documents with a lower score (before scaling).
        :returns: The documents with their scores, best first, then by id.
        :raises ValueError: If the vector is malformed, or `top_k` is below 1.
        :raises QdrantEdgeStoreError: If the store keeps no sparse vectors.
        :raises FilterError: If the filter is malformed.
        """
        self._check_sparse()

        def search(shard: SharedShard) -> list[edge.ScoredPoint]:
            wanted = self._engine_filter(shard, filters)
            if not query_sparse_embedding.indices:
                return []
            request = self._sparse_request(
                query_sparse_embedding,
                top_k,
                filter=wanted,
                with_payload=True,
                with_vector=self.return_embedding if return_embedding is None else return_embedding,
                score_threshold=_engine_threshold(score_threshold, is_distance=False),
            )
            return shard.call(lambda engine: engine.query(request))

        return self._to_documents(self._read(search), score_threshold, scale_score=scale_score, is_distance=False)

    def _check_sparse(self) -> None:
        if not self.use_sparse_embeddings:
            msg = (
                f"The store in {self.path!r} keeps no sparse vectors (use_sparse_embeddings=False). Search its dense "
                "vectors, or index into another folder with use_sparse_embeddings=True."
            )
            raise QdrantEdgeStoreError(msg)

    def _dense_request(self, query_embedding: list[float], top_k: int, **options: Any) -> edge.QueryRequest:
        check_positive_int("top_k", top_k)
        vector = converters.dense_vector(query_embedding, embedding_dim=self.embedding_dim, name="query_embedding")
        query = edge.Query.Nearest(vector, using=DENSE_VECTORS_NAME)
        return edge.QueryRequest(limit=top_k, query=query, params=self._search_parameters, **options)

    @staticmethod
    def _sparse_request(query_sparse_embedding: SparseEmbedding, top_k: int, **options: Any) -> edge.QueryRequest:
        check_positive_int("top_k", top_k)
        vector = converters.sparse_vector(query_sparse_embedding, name="query_sparse_embedding")
        return edge.QueryRequest(limit=top_k, query=edge.Query.Nearest(vector, using=SPARSE_VECTORS_NAME), **options)

    def _to_documents(
        self, points: list[edge.ScoredPoint], score_threshold: float | None, *, scale_score: bool, is_distance: bool
    ) -> list[Document]:
        lowest = -math.inf if score_threshold is None else np.float32(score_threshold)
        ranked = []
        for point in points:
            score = -point.score if is_distance else point.score
            if score >= lowest:
                shown = _scaled(score, similarity=self.similarity) if scale_score else score
                ranked.append((-score, converters.to_document(point, score=shown)))
        ranked.sort(key=lambda pair: (pair[0], pair[1].id))
        return [document for _, document in ranked]
