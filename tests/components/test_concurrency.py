# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from haystack import Document, Pipeline

from haystack_integrations.common.resrank import ResRankModel
from haystack_integrations.components.embedders.resrank import ResRankDocumentEmbedder
from haystack_integrations.components.rankers.resrank import ResRankRanker
from haystack_integrations.components.retrievers.resrank import ResRankRetriever
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore

THREADS = 16
SUBJECTS = ("dates", "bread", "the capital of France", "listwise reranking", "penicillin", "nginx", "cats", "Qdrant")
QUERIES = [
    f"{verb} {subject}?" for subject in SUBJECTS for verb in ("what is", "how do I use", "who found", "where is")
]

Result = list[tuple[str, float]]


@pytest.fixture(scope="module")
def make_pipeline(
    make_store: Callable[..., Any], corpus: tuple[str, ...]
) -> Iterator[Callable[[ResRankModel], Pipeline]]:
    """Return a function that makes a search pipeline with a store object of its own on a model's one folder."""
    stores: dict[str, QdrantEdgeDocumentStore] = {}
    made: list[Pipeline] = []
    texts = [f"{text} {note}" for text in corpus for note in ("", "In short.", "See also: dates.", "By Alexander.")]

    def make(model: ResRankModel) -> Pipeline:
        if model.model not in stores:
            documents = [Document(id=f"doc-{i:02}", content=text) for i, text in enumerate(texts)]
            embedder = ResRankDocumentEmbedder(model=model, progress_bar=False)
            store = stores[model.model] = make_store(embedding_dim=model.load("encoder").dimension)
            store.write_documents(embedder.run(documents=documents)["documents"])
        pipeline = Pipeline()
        own = QdrantEdgeDocumentStore.from_dict(stores[model.model].to_dict())
        pipeline.add_component("retriever", ResRankRetriever(document_store=own, model=model))
        pipeline.add_component("ranker", ResRankRanker(model=model, top_k=None))
        pipeline.connect("retriever.documents", "ranker.documents")
        pipeline.connect("retriever.query_embedding", "ranker.query_embedding")
        made.append(pipeline)
        return pipeline

    yield make
    for pipeline in made:
        pipeline.close()


def ranked(outcome: dict[str, Any]) -> Result:
    return [(document.id, document.score) for document in outcome["ranker"]["documents"]]


def in_threads(work: Callable[[str], Result], queries: list[str] = QUERIES) -> list[Result]:
    barrier = threading.Barrier(THREADS)

    def run(mine: list[str]) -> list[Result]:
        barrier.wait(timeout=60)
        return [work(query) for query in mine]

    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(pool.map(run, [queries[i::THREADS] for i in range(THREADS)]))
    return [parts[i % THREADS][i // THREADS] for i in range(len(queries))]


@pytest.mark.parametrize(("name", "queries"), [("mini", QUERIES[::2]), ("tiny", QUERIES)], ids=["mini", "tiny"])
def test_sixteen_threads_on_one_pipeline_give_the_results_of_one(
    make_pipeline: Callable[..., Pipeline], name: str, queries: list[str], request: pytest.FixtureRequest
):
    pipeline = make_pipeline(request.getfixturevalue(name))
    expected = [ranked(pipeline.run({"query": query})) for query in queries]
    assert len({tuple(result) for result in expected}) == len(queries)
    assert in_threads(lambda query: ranked(pipeline.run({"query": query})), queries) == expected


def test_sixteen_threads_with_a_pipeline_each_give_the_results_of_one(
    make_pipeline: Callable[..., Pipeline], tiny: ResRankModel
):
    single = make_pipeline(tiny)
    expected = [ranked(single.run({"query": query})) for query in QUERIES]
    local = threading.local()

    def work(query: str) -> Result:
        if not hasattr(local, "pipeline"):
            local.pipeline = make_pipeline(tiny)
        return ranked(local.pipeline.run({"query": query}))

    assert in_threads(work) == expected


def test_run_async_gives_the_results_of_run(make_pipeline: Callable[..., Pipeline], tiny: ResRankModel):
    pipeline = make_pipeline(tiny)
    expected = [ranked(pipeline.run({"query": query})) for query in QUERIES]

    async def run_all() -> list[dict[str, Any]]:
        return await asyncio.gather(*(pipeline.run_async({"query": query}) for query in QUERIES))

    assert [ranked(outcome) for outcome in asyncio.run(run_all())] == expected


def test_closing_while_others_run_harms_nobody(make_pipeline: Callable[..., Pipeline], tiny: ResRankModel):
    pipeline = make_pipeline(tiny)
    expected = [ranked(pipeline.run({"query": query})) for query in QUERIES]
    done = threading.Event()

    def close_often() -> None:
        while not done.wait(0.02):
            pipeline.close()

    closer = threading.Thread(target=close_often)
    closer.start()
    try:
        found = in_threads(lambda query: ranked(pipeline.run({"query": query})))
    finally:
        done.set()
        closer.join()
    assert found == expected


def test_embedding_in_threads_gives_the_results_of_one(tiny: ResRankModel, corpus: tuple[str, ...]):
    embedder = ResRankDocumentEmbedder(model=tiny, progress_bar=False)

    def work(query: str) -> Result:
        documents = embedder.run(documents=[Document(content=f"{query} {text}") for text in corpus[:3]])["documents"]
        return [(d.id, value) for d in documents for value in d.embedding]

    assert in_threads(work) == [work(query) for query in QUERIES]
