# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from haystack import Document
from haystack.components.retrievers.types import TextRetriever
from haystack.core.serialization import component_from_dict, component_to_dict
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.document_stores.types import DuplicatePolicy, FilterPolicy

from haystack_integrations.common.resrank import ResRankModel, StoredEmbedding
from haystack_integrations.components.rankers.resrank import ResRankRanker
from haystack_integrations.components.retrievers.resrank import ResRankRetriever
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
from resrank import ResRank
from resrank.evidence import query_hash

TYPE = "haystack_integrations.components.retrievers.resrank.retriever.ResRankRetriever"
QUERY = "How do I parse dates with a format string?"
MODES = ["hybrid", "dense", "bm25"]
NOTHING = {"field": "meta.topic", "operator": "==", "value": "no such topic"}


@pytest.fixture(scope="module", params=["edge", "server"])
def filled(request: pytest.FixtureRequest, make_store: Callable[..., Any], corpus_embedded: list[Document]) -> Any:
    """A store of each kind with the corpus in it, every second document about `odd`. Do not write to it."""
    store = make_store(request.param)
    topics = ["even", "odd"]
    store.write_documents([replace(d, meta={**d.meta, "topic": topics[i % 2]}) for i, d in enumerate(corpus_embedded)])
    return store


def retriever(store: Any, model: ResRankModel, **parameters: Any) -> ResRankRetriever:
    return ResRankRetriever(document_store=store, model=model, **parameters)


def ids(documents: list[Document]) -> list[str]:
    return [document.id for document in documents]


# ------------------------------------------------------------------------------------------------------ construction


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {
            "mode": "dense",
            "top_k": 7,
            "list_depth": 9,
            "filters": {"field": "meta.topic", "operator": "==", "value": "odd"},
            "filter_policy": "merge",
            "return_query_embedding": False,
        },
    ],
    ids=["defaults", "all"],
)
@pytest.mark.parametrize("kind", ["edge", "server"])
def test_round_trip_keeps_every_parameter(kind: str, parameters: dict[str, Any], open_store: Callable[..., Any]):
    defaults = {
        "mode": "hybrid",
        "top_k": 100,
        "list_depth": None,
        "filters": None,
        "filter_policy": "replace",
        "return_query_embedding": True,
    }
    store = open_store(kind)
    first = component_to_dict(ResRankRetriever(document_store=store, model="org/name", **parameters), "retriever")
    expected = {
        **defaults,
        **parameters,
        "model": ResRankModel("org/name").to_dict(),
        "document_store": store.to_dict(),
    }
    assert first == {"type": TYPE, "init_parameters": expected}
    assert component_to_dict(component_from_dict(ResRankRetriever, first, "retriever"), "retriever") == first


def test_construction_loads_and_opens_nothing(loads: dict[str, int], fresh_checkpoint: Any, tmp_path: Path):
    store = QdrantEdgeDocumentStore(path=str(tmp_path / "unopened"), embedding_dim=32)
    ResRankRetriever(document_store=store, model=str(fresh_checkpoint))
    assert loads == {"encoder": 0, "reranker": 0}
    assert not (tmp_path / "unopened").exists()


@pytest.mark.parametrize("parameter", ["top_k", "list_depth"])
@pytest.mark.parametrize("value", [0, -3, True, 2.5])
def test_bad_numbers_are_refused(open_store: Callable[..., Any], parameter: str, value: Any):
    with pytest.raises(ValueError, match=f"must be a positive integer or None, got {value!r}"):
        ResRankRetriever(document_store=open_store(), **{parameter: value})


def test_unknown_mode_is_refused(open_store: Callable[..., Any]):
    with pytest.raises(ValueError, match="mode must be 'hybrid', 'dense' or 'bm25', got 'sparse'"):
        ResRankRetriever(document_store=open_store(), mode="sparse")  # type: ignore[arg-type]


@pytest.mark.parametrize("store", [InMemoryDocumentStore(), None, "a-folder"])
def test_another_kind_of_store_is_refused(store: Any):
    message = "document_store must be a QdrantEdgeDocumentStore or a QdrantDocumentStore, got"
    with pytest.raises(TypeError, match=message):
        ResRankRetriever(document_store=store)


@pytest.mark.parametrize("kind", ["edge", "server"])
def test_a_store_that_does_not_score_by_cosine_is_refused(open_store: Callable[..., Any], kind: str):
    with pytest.raises(ValueError, match="the store needs similarity dot_product"):
        ResRankRetriever(document_store=open_store(kind, similarity="l2"))


@pytest.mark.parametrize("kind", ["edge", "server"])
@pytest.mark.parametrize("mode", ["hybrid", "bm25"])
def test_lexical_modes_need_sparse_vectors(open_store: Callable[..., Any], kind: str, mode: Any):
    with pytest.raises(ValueError, match=f"{mode} retrieval needs a store with use_sparse_embeddings=True"):
        ResRankRetriever(document_store=open_store(kind, use_sparse_embeddings=False), mode=mode)


def test_bm25_on_a_server_needs_idf(open_store: Callable[..., Any]):
    with pytest.raises(ValueError, match="BM25 needs a QdrantDocumentStore with sparse_idf=True"):
        ResRankRetriever(document_store=open_store("server", sparse_idf=False))


@pytest.mark.parametrize("kind", ["edge", "server"])
def test_dense_mode_needs_no_sparse_vectors(
    open_store: Callable[..., Any], kind: str, tiny: ResRankModel, embedded: list[Document]
):
    store = open_store(kind, use_sparse_embeddings=False)
    store.write_documents([replace(document, sparse_embedding=None) for document in embedded])
    assert len(retriever(store, tiny, mode="dense").run(query=QUERY)["documents"]) == 12


def test_satisfies_haystacks_protocol():
    ours = list(inspect.signature(ResRankRetriever.run).parameters.values())[1:]
    theirs = list(inspect.signature(TextRetriever.run).parameters.values())[1:]
    assert [(p.name, p.default) for p in ours] == [(p.name, p.default) for p in theirs]


# --------------------------------------------------------------------------------------------------------- retrieving


@pytest.mark.parametrize("mode", MODES)
def test_answer_is_found_first(filled: Any, tiny: ResRankModel, corpus: tuple[str, ...], mode: Any):
    # A passage's own words: even a random encoder finds them.
    found = retriever(filled, tiny, mode=mode).run(query=corpus[0])["documents"]
    assert found[0].id == "doc-000"


@pytest.mark.parametrize("mode", MODES)
def test_order_is_by_score_then_id_and_scores_are_python_floats(filled: Any, tiny: ResRankModel, mode: Any):
    found = retriever(filled, tiny, mode=mode).run(query="dates error penicillin cats")["documents"]
    assert len(found) > 3
    assert found == sorted(found, key=lambda d: (-d.score, d.id))
    assert all(type(document.score) is float for document in found)


@pytest.mark.parametrize("mode", MODES)
def test_documents_come_with_vectors_and_without_terms(
    filled: Any, tiny: ResRankModel, embedded: list[Document], mode: Any
):
    by_id = {document.id: document for document in embedded}
    for document in retriever(filled, tiny, mode=mode).run(query=QUERY)["documents"]:
        np.testing.assert_allclose(document.embedding, by_id[document.id].embedding, rtol=0, atol=1e-6)
        assert document.sparse_embedding is None
        assert document.content == by_id[document.id].content


@pytest.mark.parametrize("mode", ["hybrid", "dense"])
def test_query_embedding_is_the_models(filled: Any, tiny: ResRankModel, mode: Any):
    vector = retriever(filled, tiny, mode=mode).run(query=QUERY)["query_embedding"]
    assert isinstance(vector, StoredEmbedding)
    assert np.array_equal(np.float32(vector), tiny.load("encoder").encode_queries([QUERY])[0])


def test_bm25_mode_encodes_no_query(filled: Any, tiny: ResRankModel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ResRank, "encode_queries", None)
    assert set(retriever(filled, tiny, mode="bm25").run(query=QUERY)) == {"documents"}


def test_dense_scores_are_cosines(filled: Any, tiny: ResRankModel, embedded: list[Document]):
    query = tiny.load("encoder").encode_queries([QUERY])[0]
    found = retriever(filled, tiny, mode="dense").run(query=QUERY)["documents"]
    expected = {document.id: float(np.float32(document.embedding) @ query) for document in embedded}
    assert {document.id: document.score for document in found} == pytest.approx(expected, abs=1e-6)


def test_bm25_finds_only_documents_with_the_words(filled: Any, tiny: ResRankModel):
    assert ids(retriever(filled, tiny, mode="bm25").run(query="penicillin")["documents"]) == ["doc-010"]


def test_hybrid_is_the_fusion_of_the_two_lists(filled: Any, tiny: ResRankModel):
    ranks = {
        mode: {d.id: i for i, d in enumerate(retriever(filled, tiny, mode=mode).run(query=QUERY)["documents"], 1)}
        for mode in ("dense", "bm25")
    }
    for document in retriever(filled, tiny).run(query=QUERY)["documents"]:
        parts = [1 / (60 + ranks[mode][document.id]) for mode in ranks if document.id in ranks[mode]]
        assert document.score == pytest.approx(sum(parts))


def test_hybrid_leaves_the_evidence_in_the_meta(filled: Any, tiny: ResRankModel):
    found = {
        mode: retriever(filled, tiny, mode=mode).run(query=QUERY)["documents"] for mode in ("hybrid", "dense", "bm25")
    }
    bm25 = {document.id: (i, document.score) for i, document in enumerate(found["bm25"], 1)}
    dense = {document.id: (i, document.score) for i, document in enumerate(found["dense"], 1)}
    best = found["bm25"][0].score
    for document in found["hybrid"]:
        evidence = document.meta["resrank"]
        assert evidence["query"] == query_hash(QUERY)
        assert evidence["fingerprint"] == tiny.load().fingerprint
        assert (evidence["dense_rank"], evidence["dense_score"]) == dense[document.id]
        rank, score = bm25.get(document.id, (0, 0.0))
        assert (evidence["bm25_rank"], evidence["bm25_score"]) == (rank, pytest.approx(score / best))
        assert evidence["rrf_score"] == pytest.approx(document.score * 61 / 2)


@pytest.mark.parametrize(("mode", "known", "unknown"), [("bm25", "bm25", "dense"), ("dense", "dense", "bm25")])
def test_a_list_alone_leaves_its_own_evidence(filled: Any, tiny: ResRankModel, mode: Any, known: str, unknown: str):
    documents = ResRankRetriever(document_store=filled, model=tiny, mode=mode).run(query=QUERY)["documents"]
    entries = [document.meta["resrank"] for document in documents]
    assert [entry[f"{known}_rank"] for entry in entries] == list(range(1, len(documents) + 1))
    assert all(entry[f"{unknown}_rank"] is None and entry[f"{unknown}_score"] is None for entry in entries)
    assert entries[0]["rrf_score"] == pytest.approx(1.0)


def test_stored_evidence_of_an_earlier_query_is_replaced(any_store: Any, tiny: ResRankModel, embedded: list[Document]):
    old = {"query": "x", "dense_score": 0.99, "dense_rank": 1, "bm25_rank": 1, "bm25_score": 1.0, "rrf_score": 1.0}
    any_store.write_documents([replace(d, meta={"resrank": {**d.meta["resrank"], **old}}) for d in embedded])
    # Only one document is in the dense list, all others with the word are lexical.
    found = retriever(any_store, tiny, list_depth=1).run(query="penicillin")["documents"]
    for document in found:
        evidence = document.meta["resrank"]
        assert (evidence["dense_score"] is not None) == (evidence["dense_rank"] > 0)


@pytest.mark.parametrize("mode", MODES)
def test_meta_and_id_come_back(filled: Any, tiny: ResRankModel, mode: Any):
    for document in retriever(filled, tiny, mode=mode).run(query=QUERY)["documents"]:
        assert document.meta["topic"] == ["even", "odd"][int(document.id[4:]) % 2]


@pytest.mark.parametrize("mode", MODES)
def test_ranker_takes_what_comes(filled: Any, tiny: ResRankModel, mode: Any):
    found = retriever(filled, tiny, mode=mode).run(query=QUERY)
    ranked = ResRankRanker(model=tiny, top_k=None, on_missing_embedding="raise").run(query=QUERY, **found)["documents"]
    assert sorted(ids(ranked)) == sorted(ids(found["documents"]))
    before = {d.id: (i, d.score) for i, d in enumerate(found["documents"], 1)}
    for document in ranked:
        entry = document.meta["resrank"]
        assert (entry["retrieval_rank"], entry["retrieval_score"]) == before[document.id]


@pytest.mark.parametrize("mode", ["hybrid", "dense"])
def test_ranker_at_safe_start_keeps_the_order(filled: Any, safe: ResRankModel, queries: tuple[str, ...], mode: Any):
    for query in queries:
        found = retriever(filled, safe, mode=mode).run(query=query)
        ranked = ResRankRanker(model=safe, top_k=None).run(query=query, **found)["documents"]
        assert ids(ranked) == ids(found["documents"])


# ------------------------------------------------------------------------------------------------- numbers and filters


@pytest.mark.parametrize("mode", MODES)
def test_top_k_of_the_constructor_and_at_run_time(filled: Any, tiny: ResRankModel, mode: Any):
    everything = retriever(filled, tiny, mode=mode).run(query=QUERY)["documents"]
    two = retriever(filled, tiny, mode=mode, top_k=2)
    assert two.run(query=QUERY)["documents"] == everything[:2]
    assert two.run(query=QUERY, top_k=1)["documents"] == everything[:1]
    assert two.run(query=QUERY, top_k=50)["documents"] == everything


@pytest.mark.parametrize("top_k", [0, -1, True, 1.5])
def test_bad_top_k_at_run_time_is_refused(filled: Any, tiny: ResRankModel, top_k: Any):
    with pytest.raises(ValueError, match=f"top_k must be a positive integer or None, got {top_k!r}"):
        retriever(filled, tiny).run(query=QUERY, top_k=top_k)


def test_list_depth_limits_what_is_fused(filled: Any, tiny: ResRankModel):
    found = retriever(filled, tiny, list_depth=1).run(query="penicillin")["documents"]
    assert 1 <= len(found) <= 2


@pytest.mark.parametrize("mode", MODES)
def test_filters_at_run_time(filled: Any, tiny: ResRankModel, mode: Any):
    odd = {"field": "meta.topic", "operator": "==", "value": "odd"}
    found = retriever(filled, tiny, mode=mode).run(query="dates error penicillin cats", filters=odd)["documents"]
    assert found
    assert {document.meta["topic"] for document in found} == {"odd"}


@pytest.mark.parametrize("mode", MODES)
def test_filter_that_matches_nothing(filled: Any, tiny: ResRankModel, mode: Any):
    assert retriever(filled, tiny, mode=mode).run(query=QUERY, filters=NOTHING)["documents"] == []


def test_filters_replace_by_default(filled: Any, tiny: ResRankModel):
    odd = {"field": "meta.topic", "operator": "==", "value": "odd"}
    component = retriever(filled, tiny, mode="dense", filters=NOTHING)
    assert component.run(query=QUERY)["documents"] == []
    assert len(component.run(query=QUERY, filters=odd)["documents"]) == 6


@pytest.mark.parametrize("policy", ["merge", FilterPolicy.MERGE])
def test_filters_can_be_merged(filled: Any, tiny: ResRankModel, policy: Any):
    odd = {"field": "meta.topic", "operator": "==", "value": "odd"}
    one = {"field": "id", "operator": "==", "value": "doc-003"}
    component = retriever(filled, tiny, mode="dense", filters=odd, filter_policy=policy)
    assert ids(component.run(query=QUERY, filters=one)["documents"]) == ["doc-003"]


def test_filters_are_not_changed(filled: Any, tiny: ResRankModel, unchanged: Callable[[Any], None]):
    filters = {"operator": "AND", "conditions": [{"field": "meta.topic", "operator": "==", "value": "odd"}]}
    unchanged(filters)
    retriever(filled, tiny, filters=filters).run(query=QUERY)


# ------------------------------------------------------------------------------------------------------- awkward input


@pytest.mark.parametrize("mode", MODES)
def test_empty_store(any_store: Any, tiny: ResRankModel, mode: Any):
    assert retriever(any_store, tiny, mode=mode).run(query=QUERY)["documents"] == []


@pytest.mark.parametrize("mode", MODES)
def test_one_document(any_store: Any, tiny: ResRankModel, embedded: list[Document], mode: Any):
    any_store.write_documents(embedded[:1])
    assert ids(retriever(any_store, tiny, mode=mode).run(query=QUERY)["documents"]) == ["doc-000"]


@pytest.mark.parametrize("query", ["the of and", "is it", "?!"])
@pytest.mark.parametrize(("mode", "count"), [("hybrid", 12), ("dense", 12), ("bm25", 0)])
def test_query_of_stop_words_is_answered_by_the_dense_list(
    filled: Any, tiny: ResRankModel, query: str, mode: Any, count: int
):
    found = retriever(filled, tiny, mode=mode).run(query=query)["documents"]
    assert len(found) == count
    if mode == "hybrid":
        dense = retriever(filled, tiny, mode="dense").run(query=query)["documents"]
        assert ids(found) == ids(dense)
        assert {document.meta["resrank"]["bm25_rank"] for document in found} == {0}


@pytest.mark.parametrize("query", ["zzzunknownword", "qwertzuiop"])
def test_query_of_unknown_words(filled: Any, tiny: ResRankModel, query: str):
    assert retriever(filled, tiny, mode="bm25").run(query=query)["documents"] == []
    assert len(retriever(filled, tiny).run(query=query)["documents"]) == 12


@pytest.mark.parametrize("blank", ["", " ", "\n\t", "\u3000"])
def test_blank_query_is_refused(filled: Any, tiny: ResRankModel, blank: str):
    with pytest.raises(ValueError, match="the query is blank"):
        retriever(filled, tiny).run(query=blank)


@pytest.mark.parametrize(("query", "name"), [(None, "NoneType"), (["a"], "list"), (1, "int")])
def test_query_of_another_type_is_refused(filled: Any, tiny: ResRankModel, query: Any, name: str):
    with pytest.raises(TypeError, match=f"the query must be a string, got {name}"):
        retriever(filled, tiny).run(query=query)


def test_hostile_query_is_answered(filled: Any, tiny: ResRankModel, hostile_text: str):
    assert len(retriever(filled, tiny).run(query=hostile_text)["documents"]) == 12


def test_ties_go_by_id(any_store: Any, tiny: ResRankModel, embedded: list[Document]):
    same = [replace(embedded[0], id=id_) for id_ in ("d", "b", "a", "c")]
    any_store.write_documents(same)
    for mode in MODES:
        found = retriever(any_store, tiny, mode=mode).run(query=QUERY)["documents"]
        assert ids(found) == ["a", "b", "c", "d"]


def test_documents_without_content_are_found_by_their_vector(any_store: Any, tiny: ResRankModel, embedded: Any):
    any_store.write_documents([replace(document, content=None) for document in embedded])
    found = retriever(any_store, tiny).run(query=QUERY)["documents"]
    assert {document.content for document in found} == {None}
    assert len(found) == 12


# ------------------------------------------------------------------------------------------------------ another model


def test_an_embedded_store_with_another_models_stamp_is_refused(
    open_store: Callable[..., Any], tiny: ResRankModel, embedded: list[Document]
):
    store = open_store()
    store.write_documents([replace(d, meta={"resrank": {"fingerprint": "feedfeedfeedfeed"}}) for d in embedded])
    component = retriever(store, tiny)
    message = (
        r"holds vectors of another model \(expected fingerprint [0-9a-f]{16}, got feedfeedfeedfeed\): run `resrank"
    )
    with pytest.raises(ValueError, match=message):
        component.run(query=QUERY)
    with pytest.raises(ValueError, match=message):
        component.warm_up()


@pytest.mark.parametrize("mode", MODES)
def test_a_server_with_another_models_vectors_is_refused(
    open_store: Callable[..., Any], tiny: ResRankModel, embedded: list[Document], mode: Any
):
    store = open_store("server")
    foreign = {"resrank": {"fingerprint": "feedfeedfeedfeed"}}
    store.write_documents([replace(embedded[0], meta=foreign), *embedded[1:]])
    with pytest.raises(ValueError, match=r"1 of \d+ documents carry vectors of another model \(document doc-000"):
        retriever(store, tiny, mode=mode).run(query=QUERY)


def test_a_store_of_another_dimension_is_refused(open_store: Callable[..., Any], tiny: ResRankModel):
    store = open_store(embedding_dim=8)
    store.write_documents([Document(content="a", embedding=[1.0] * 8)])
    with pytest.raises(ValueError, match="32"):
        retriever(store, tiny, mode="dense").run(query=QUERY)


# ---------------------------------------------------------------------------------------------------------- lifecycle


def test_warm_up_loads_the_encoder_only(loads: dict[str, int], fresh_checkpoint: Any, handle: Any, any_store: Any):
    component = retriever(any_store, handle(fresh_checkpoint))
    component.warm_up()
    component.warm_up()
    assert loads == {"encoder": 1, "reranker": 0}


def test_usable_again_after_close(open_store: Callable[..., Any], tiny: ResRankModel, embedded: list[Document]):
    store = open_store()
    store.write_documents(embedded)
    component = retriever(store, tiny)
    before = component.run(query=QUERY)
    component.close()
    component.close()
    assert component.run(query=QUERY) == before


def test_close_frees_the_folder(open_store: Callable[..., Any], tiny: ResRankModel, embedded: list[Document]):
    store = open_store()
    store.write_documents(embedded)
    component = retriever(QdrantEdgeDocumentStore(path=store.path, embedding_dim=32), tiny)
    component.run(query=QUERY)
    component.close()
    store.close()
    # Nothing holds it: the engine itself can open it.
    again = QdrantEdgeDocumentStore(path=store.path, embedding_dim=32)
    assert again.count_documents() == 12
    again.close()


def test_document_deleted_while_searching_is_left_out(
    open_store: Callable[..., Any], tiny: ResRankModel, embedded: list[Document], monkeypatch: pytest.MonkeyPatch
):
    store = open_store()
    store.write_documents(embedded)
    search = QdrantEdgeDocumentStore.search_ids

    def search_then_delete(self: QdrantEdgeDocumentStore, **arguments: Any) -> Any:
        found = search(self, **arguments)
        self.delete_documents(["doc-003"])
        return found

    monkeypatch.setattr(QdrantEdgeDocumentStore, "search_ids", search_then_delete)
    for mode in ("hybrid", "dense"):
        store.write_documents(embedded[3:4], policy=DuplicatePolicy.OVERWRITE)
        found = retriever(store, tiny, mode=mode).run(query=QUERY)["documents"]
        assert sorted(ids(found)) == [d.id for d in embedded if d.id != "doc-003"]


def test_long_query_is_cut_with_a_warning(filled: Any, tiny: ResRankModel, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        found = retriever(filled, tiny).run(query="penicillin " * 200)["documents"]
    assert "were longer than 48 tokens and were cut" in caplog.text
    assert all(math.isfinite(document.score) for document in found)
