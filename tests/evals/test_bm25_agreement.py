# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""BM25 through the store against bm25s, on every collection of the data folder."""

from __future__ import annotations

from pathlib import Path

import bm25s
import numpy as np
import pytest
import Stemmer
from haystack import Document
from haystack.dataclasses import SparseEmbedding

from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
from resrank.lexical import LexicalEncoder
from resrank_evals.beir import load_beir
from resrank_evals.collection import Collection
from resrank_evals.measures import evaluate, mean
from resrank_evals.trec import Run

pytestmark = pytest.mark.slow


def ours(collection: Collection, folder: Path) -> Run:
    lexical = LexicalEncoder()
    store = QdrantEdgeDocumentStore(path=str(folder), embedding_dim=2)
    try:
        ids = list(collection.passages)
        terms = lexical.encode_passages([passage.content for passage in collection.passages.values()])
        store.write_documents(
            [
                Document(id=id_, content="x", sparse_embedding=SparseEmbedding(indices=indices, values=values))
                for id_, (indices, values) in zip(ids, terms, strict=True)
            ]
        )
        run: Run = {}
        for query_id, query in collection.queries.items():
            indices, values = lexical.encode_query(query)
            wanted = SparseEmbedding(indices=indices, values=values)
            run[query_id] = store.search_ids(query_embedding=None, query_sparse_embedding=wanted, top_k=100)[1] or []
        return run
    finally:
        store.close()


def theirs(collection: Collection) -> Run:
    stemmer = Stemmer.Stemmer("english")
    ids = list(collection.passages)

    def tokens(texts: list[str]) -> list[list[str]]:
        return bm25s.tokenize(texts, stopwords="en_plus", stemmer=stemmer, return_ids=False, show_progress=False)

    index = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    index.index(tokens([passage.content for passage in collection.passages.values()]), show_progress=False)
    found, scores = index.retrieve(tokens(list(collection.queries.values())), k=min(100, len(ids)), show_progress=False)
    return {
        query_id: [(ids[row], float(score)) for row, score in zip(rows, values, strict=True) if score > 0]
        for query_id, rows, values in zip(collection.queries, found, scores, strict=True)
    }


def test_bm25_is_near_bm25s(data_folder, data_set, tmp_path):
    collection = load_beir(data_folder / data_set, duplicate_ids="first").sample(400)
    found = [
        mean(evaluate(run, collection.qrels))["nDCG@10"] for run in (ours(collection, tmp_path), theirs(collection))
    ]
    assert np.abs(found[0] - found[1]) <= 0.02, found
