# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""First stages on real collections against independent computations: BM25 with bm25s, dense and fused with numpy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import bm25s
import numpy as np
import pytest
import Stemmer
from haystack import Document
from haystack.dataclasses import SparseEmbedding

from haystack_integrations.common.resrank import ResRankModel
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
from resrank import ResRank
from resrank.lexical import LexicalEncoder
from resrank_evals.beir import load_beir
from resrank_evals.collection import Collection
from resrank_evals.harness import Settings, run
from resrank_evals.loading import CollectionSource
from resrank_evals.measures import evaluate, mean
from resrank_evals.results import RUN
from resrank_evals.systems import parse_system
from resrank_evals.trec import Run, read_run

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


def test_dense_and_fused_agree_with_numpy(data_folder, tmp_path):
    """On a real collection; `test_harness` has a small one."""
    collection = load_beir(data_folder / "medline")
    model = ResRankModel("resrank-mini", dtype="float32", device="cpu")
    systems = ("bm25", "dense", "rrf")
    source = CollectionSource("medline", "test", lambda: collection)
    settings = Settings(out=tmp_path / "out", stores=tmp_path / "stores", model=model)
    outcomes = run([source], [parse_system(system) for system in systems], settings, lambda *_: None)
    means = {outcome.result.system: outcome.result.means for outcome in outcomes}

    engine = ResRank.from_pretrained("resrank-mini", dtype="float32", device="cpu")
    ids = [id_ for id_, passage in collection.passages.items() if passage.content.strip()]
    passages = engine.encode_passages([collection.passages[id_].content for id_ in ids]).astype(np.float64)
    cosines = engine.encode_queries(list(collection.queries.values())).astype(np.float64) @ passages.T
    dense = {
        query_id: best(zip(ids, row, strict=True)) for query_id, row in zip(collection.queries, cosines, strict=True)
    }
    assert means["dense"] == pytest.approx(mean(evaluate(dense, collection.qrels)), abs=1e-4)

    bm25 = read_run(tmp_path / "out" / "medline" / "bm25" / RUN)
    fused: Run = {}
    for query_id in collection.queries:
        scores: dict[str, float] = {}
        for ranking in (bm25.get(query_id, []), dense[query_id]):
            for rank, (id_, _) in enumerate(ranking, 1):
                scores[id_] = scores.get(id_, 0.0) + 1 / (60 + rank)
        fused[query_id] = best(scores.items())
    assert means["rrf"] == pytest.approx(mean(evaluate(fused, collection.qrels)), abs=1e-4)


def best(hits: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    return sorted(((id_, float(score)) for id_, score in hits), key=lambda hit: (-hit[1], hit[0]))[:100]
