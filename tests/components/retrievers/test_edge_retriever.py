# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

import math
from collections.abc import Iterator

import pytest
from haystack import Document, Pipeline, component
from haystack.components.embedders import MockTextEmbedder
from haystack.components.retrievers import TextEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.document_stores.types import FilterPolicy
from haystack.errors import FilterError
from haystack_integrations.components.retrievers.qdrant import QdrantEmbeddingRetriever

from haystack_integrations.components.retrievers.resrank import QdrantEdgeEmbeddingRetriever
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore

YEAR = {"field": "meta.year", "operator": ">=", "value": 2001}
EVEN = {"field": "meta.even", "operator": "==", "value": True}


@pytest.fixture
def store(tmp_path) -> Iterator[QdrantEdgeDocumentStore]:
    store = QdrantEdgeDocumentStore(path=str(tmp_path / "store"), embedding_dim=2)
    store.write_documents(
        [
            Document(id=f"d{n}", content=f"{n}", meta={"year": 2000 + n, "even": n % 2 == 0}, embedding=[1.0, n / 10])
            for n in range(6)
        ]
    )
    yield store
    store.close()


def names(result: dict) -> list[str]:
    return [document.id for document in result["documents"]]


def test_round_trip_through_yaml(store):
    retriever = QdrantEdgeEmbeddingRetriever(
        document_store=store,
        filters=YEAR,
        top_k=3,
        scale_score=True,
        return_embedding=True,
        filter_policy="merge",
        score_threshold=0.0,
    )
    dumped = retriever.to_dict()
    assert dumped == {
        "type": "haystack_integrations.components.retrievers.resrank.edge_retriever.QdrantEdgeEmbeddingRetriever",
        "init_parameters": {
            "document_store": store.to_dict(),
            "filters": YEAR,
            "top_k": 3,
            "scale_score": True,
            "return_embedding": True,
            "filter_policy": "merge",
            "score_threshold": 0.0,
        },
    }
    pipeline = Pipeline()
    pipeline.add_component("retriever", retriever)
    loaded = Pipeline.loads(pipeline.dumps())
    assert loaded.get_component("retriever").to_dict() == dumped
    assert loaded.get_component("retriever").filter_policy == FilterPolicy.MERGE
    result = loaded.run({"retriever": {"query_embedding": [0.0, 1.0]}})["retriever"]
    assert names(result) == ["d5", "d4", "d3"]
    loaded.get_component("retriever").close()


def test_defaults(store):
    retriever = QdrantEdgeEmbeddingRetriever(document_store=store)
    assert retriever.to_dict()["init_parameters"] == {
        "document_store": store.to_dict(),
        "filters": None,
        "top_k": 10,
        "scale_score": False,
        "return_embedding": False,
        "filter_policy": "replace",
        "score_threshold": None,
    }
    documents = retriever.run(query_embedding=[0.0, 1.0])["documents"]
    assert [document.id for document in documents] == ["d5", "d4", "d3", "d2", "d1", "d0"]
    assert documents[0].score == pytest.approx(0.5)
    assert documents[0].embedding is None


def test_has_the_parameters_of_its_twin():
    import inspect

    left = inspect.signature(QdrantEmbeddingRetriever.__init__).parameters
    right = inspect.signature(QdrantEdgeEmbeddingRetriever.__init__).parameters
    assert [name for name in left if not name.startswith("group_")] == list(right)
    left = inspect.signature(QdrantEmbeddingRetriever.run).parameters
    right = inspect.signature(QdrantEdgeEmbeddingRetriever.run).parameters
    assert [name for name in left if not name.startswith("group_")] == list(right)


def test_values_given_to_run_win_even_when_they_are_falsy(store):
    retriever = QdrantEdgeEmbeddingRetriever(
        document_store=store, scale_score=True, return_embedding=True, score_threshold=0.3, filters=YEAR
    )
    query = [0.0, 1.0]
    found = retriever.run(query_embedding=query)["documents"]
    assert [document.id for document in found] == ["d5", "d4", "d3"]  # a score equal to the threshold stays
    assert found[0].score == pytest.approx(1 / (1 + math.exp(-0.005)))
    assert found[0].embedding == pytest.approx([1.0, 0.5])
    found = retriever.run(query_embedding=query, scale_score=False, return_embedding=False, score_threshold=0.0)
    assert names(found) == ["d5", "d4", "d3", "d2", "d1"]
    assert found["documents"][0].score == pytest.approx(0.5)
    assert found["documents"][0].embedding is None
    assert names(retriever.run(query_embedding=query, top_k=1)) == ["d5"]
    assert names(retriever.run(query_embedding=query, filters=EVEN)) == ["d4"]
    merging = QdrantEdgeEmbeddingRetriever(document_store=store, filters=YEAR, filter_policy=FilterPolicy.MERGE)
    assert names(merging.run(query_embedding=query, filters=EVEN)) == ["d4", "d2"]


def test_refuses_bad_values(store):
    with pytest.raises(ValueError, match="must be a QdrantEdgeDocumentStore, got InMemoryDocumentStore"):
        QdrantEdgeEmbeddingRetriever(document_store=InMemoryDocumentStore())
    for top_k in (0, -1):
        with pytest.raises(ValueError, match=f"top_k must be a positive integer or None, got {top_k}"):
            QdrantEdgeEmbeddingRetriever(document_store=store, top_k=top_k)
        with pytest.raises(ValueError, match=f"top_k must be a positive integer or None, got {top_k}"):
            QdrantEdgeEmbeddingRetriever(document_store=store).run(query_embedding=[1.0, 0.0], top_k=top_k)
    retriever = QdrantEdgeEmbeddingRetriever(document_store=store)
    # What a pipeline passes on when query_embedding is connected and given at run time: the two lists joined.
    with pytest.raises(ValueError, match=r"query_embedding must have 2 dimensions .*, got 4"):
        retriever.run(query_embedding=[1.0, 0.0, 1.0, 0.0])
    with pytest.raises(FilterError, match="Unknown comparison operator"):
        retriever.run(query_embedding=[1.0, 0.0], filters={"field": "a", "operator": "~", "value": 1})


def test_warm_up_and_close(store, tmp_path):
    retriever = QdrantEdgeEmbeddingRetriever(document_store=QdrantEdgeDocumentStore(path=store.path, embedding_dim=2))
    retriever.warm_up()
    retriever.warm_up()
    assert store._shard().users == 2
    retriever.close()
    assert store._shard().users == 1
    assert len(names(retriever.run(query_embedding=[1.0, 0.0]))) == 6
    retriever.close()


def test_inside_haystacks_text_embedding_retriever(store):
    inner = QdrantEdgeEmbeddingRetriever(document_store=store)
    pipeline = Pipeline()
    pipeline.add_component(
        "retriever", TextEmbeddingRetriever(retriever=inner, text_embedder=MockTextEmbedder(dimension=2))
    )
    loaded = Pipeline.loads(pipeline.dumps())
    result = loaded.run({"retriever": {"query": "a", "top_k": 2, "filters": EVEN}})
    assert len(result["retriever"]["documents"]) == 2
    loaded.close()


def test_an_embedder_feeds_it(store):
    @component
    class Embedder:
        @component.output_types(embedding=list[float])
        def run(self, text: str) -> dict:
            return {"embedding": [0.0, float(len(text))]}

    pipeline = Pipeline()
    pipeline.add_component("embedder", Embedder())
    pipeline.add_component("retriever", QdrantEdgeEmbeddingRetriever(document_store=store, top_k=1))
    pipeline.connect("embedder.embedding", "retriever.query_embedding")
    assert names(pipeline.run({"text": "abc"})["retriever"]) == ["d5"]
