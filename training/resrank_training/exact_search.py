# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
The two lists of the first stage for many queries over one collection, and where any passage stands in them.

They are the lists that `ResRankRetriever` fuses. BM25 comes from the same search of the same store. Cosines are
computed by matrix products over all vectors: faster than one search a query, and exact where the index of a large store
is approximate.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from haystack.dataclasses import SparseEmbedding

from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
from resrank.evidence import Float32Array
from resrank.lexical import LexicalEncoder
from resrank_pipelines.indexing import batches

Hits = list[tuple[str, float]]

_PASSAGES_PER_READ = 1_024
_MOST_SCORES = 2**26  # 256 MB of float32 at a time


class ExactSearch:
    """
    Searches a store for queries whose vectors are known.

    :param store: with dense and sparse vectors.
    :param lexical: BM25 of the model that filled it.
    :param ids: of all its documents.
    :raises ValueError: when the store lacks one of them, or its vector.
    """

    def __init__(self, store: QdrantEdgeDocumentStore, lexical: LexicalEncoder, ids: Sequence[str]) -> None:
        self._store = store
        self._lexical = lexical
        # In the order of ids, so that a lower position wins a tie, as everywhere.
        self.ids = sorted(ids)
        self.position = {id_: position for position, id_ in enumerate(self.ids)}
        self._vectors = np.empty((len(self.ids), store.embedding_dim), dtype=np.float32)
        for batch in batches(self.ids, _PASSAGES_PER_READ):
            documents = store.get_documents_by_id(batch, return_sparse_embedding=False)
            found = {document.id: document.embedding for document in documents}
            for id_ in batch:
                if found.get(id_) is None:
                    msg = (
                        f"the store {store.path} lacks the vector of passage {id_!r}: remove its folder and index anew"
                    )
                    raise ValueError(msg)
                self._vectors[self.position[id_]] = found[id_]
        first: dict[bytes, int] = {}
        equal = [first.setdefault(vector.tobytes(), row) for row, vector in enumerate(self._vectors)]
        self._first_equal = np.array(equal, dtype=np.intp) if len(first) < len(equal) else None

    @property
    def queries_at_once(self) -> int:
        """
        How many queries to give to `cosines` at once.

        :returns: as many as a quarter of a gigabyte of scores allows, at least one.
        """
        return max(1, _MOST_SCORES // max(1, len(self.ids)))

    def vectors(self, ids: Sequence[str]) -> Float32Array:
        """
        Stored vectors.

        :param ids: of passages.
        :returns: (ids, d) float32, a copy.
        """
        found: Float32Array = self._vectors[[self.position[id_] for id_ in ids]]
        return found

    def cosines(self, queries: Float32Array) -> Float32Array:
        """
        Score all passages.

        :param queries: (queries, d) unit vectors.
        :returns: (queries, passages) float32, by position. Passages with equal vectors have equal scores.
        """
        scores: Float32Array = queries @ self._vectors.T
        # Products round the columns of a matrix differently: equal vectors would be ordered by that noise.
        return scores if self._first_equal is None else scores[:, self._first_equal]

    def dense(self, cosines: Float32Array, depth: int) -> Hits:
        """
        The dense list of a query.

        :param cosines: (passages,) its row of `cosines`.
        :param depth: how many.
        :returns: (id, cosine) by (cosine descending, id).
        """
        count = len(cosines)
        if depth < count:
            last = np.partition(cosines, count - depth)[count - depth]
            rows = np.flatnonzero(cosines >= last)  # more than asked for when several tie for the last place
        else:
            rows = np.arange(count)
        best = rows[np.argsort(-cosines[rows], kind="stable")][:depth]
        return [(self.ids[row], score) for row, score in zip(best.tolist(), cosines[best].tolist(), strict=True)]

    def dense_rank(self, cosines: Float32Array, id_: str) -> int:
        """
        Where a passage stands among all.

        :param cosines: (passages,) the query's row of `cosines`.
        :param id_: of the passage.
        :returns: its rank in `dense` of any depth, from 1.
        """
        position = self.position[id_]
        score = cosines[position]
        better = np.count_nonzero(cosines > score)
        return 1 + int(better) + int(np.count_nonzero(cosines[:position] == score))

    def bm25(self, query: str, depth: int) -> Hits:
        """
        The lexical list of a query.

        :param query: its text.
        :param depth: how many at most.
        :returns: (id, BM25 score) by (score descending, id); empty when the query holds only stop words.
        """
        indices, values = self._lexical.encode_query(query)
        terms = SparseEmbedding(indices=indices, values=values)
        _, found = self._store.search_ids(query_embedding=None, query_sparse_embedding=terms, top_k=depth)
        return found or []
