# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Lists and ranks over a store of made-up vectors, against sorting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from haystack import Document
from haystack.dataclasses import SparseEmbedding

from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
from resrank.lexical import LexicalEncoder
from resrank_training.exact_search import ExactSearch


@pytest.fixture
def square(tmp_path: Path) -> Iterator[ExactSearch]:
    """Nine documents in the plane, of which three are equal and two others too."""
    angles = {"c": 0.3, "a": 0.3, "b": 0.3, "d": 0.0, "e": 1.0, "f": 1.0, "g": 2.0, "h": -0.1, "i": 3.0}
    lexical = LexicalEncoder()
    documents = []
    for (id_, angle), (indices, values) in zip(
        angles.items(), lexical.encode_passages([f"word x{id_}" for id_ in angles]), strict=True
    ):
        vector = np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)
        sparse = SparseEmbedding(indices=indices, values=values)
        documents.append(Document(id=id_, content=id_, embedding=vector.tolist(), sparse_embedding=sparse))
    store = QdrantEdgeDocumentStore(path=str(tmp_path / "square"), embedding_dim=2)
    store.write_documents(documents)
    yield ExactSearch(store, lexical, list(angles))
    store.close()


def test_dense_lists_and_ranks_agree_with_sorting(square):
    queries = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, -0.8]], dtype=np.float32)
    cosines = square.cosines(queries)
    assert cosines.shape == (3, 9)
    for row in cosines:
        assert row[square.position["a"]] == row[square.position["b"]] == row[square.position["c"]]
        everything = sorted(zip(square.ids, row.tolist(), strict=True), key=lambda hit: (-hit[1], hit[0]))
        for depth in (1, 2, 3, 4, 8, 9, 100):
            assert square.dense(row, depth) == everything[:depth]
        assert [square.dense_rank(row, id_) for id_, _ in everything] == list(range(1, 10))


def test_ties_for_the_last_place_go_by_id(square):
    (row,) = square.cosines(np.array([[np.cos(0.3), np.sin(0.3)]], dtype=np.float32))
    assert [id_ for id_, _ in square.dense(row, 2)] == ["a", "b"]
    assert [square.dense_rank(row, id_) for id_ in "abc"] == [1, 2, 3]


def test_lexical_lists_are_the_store_s(square):
    assert [id_ for id_, _ in square.bm25("xg", 5)] == ["g"]
    assert [id_ for id_, _ in square.bm25("word", 100)] == sorted("abcdefghi")
    assert square.bm25("the", 5) == []


def test_a_store_without_a_passage_is_refused(square):
    with pytest.raises(ValueError, match=r"lacks the vector of passage 'z': remove its folder and index anew"):
        ExactSearch(square._store, square._lexical, ["a", "z"])
