# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import inspect
import json
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from haystack import Document
from haystack.components.embedders.types import DocumentEmbedder
from haystack.core.serialization import component_from_dict, component_to_dict
from haystack.dataclasses import ByteStream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from haystack_integrations.common.resrank import ResRankModel, StoredEmbedding
from haystack_integrations.components.embedders.resrank import ResRankDocumentEmbedder

TYPE = "haystack_integrations.components.embedders.resrank.document_embedder.ResRankDocumentEmbedder"


@pytest.fixture
def embedder(tiny: ResRankModel) -> ResRankDocumentEmbedder:
    return ResRankDocumentEmbedder(model=tiny, progress_bar=False)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {
            "meta_fields_to_embed": ["title", "part"],
            "embedding_separator": " | ",
            "sparse": False,
            "tokens_per_batch": 128,
            "progress_bar": False,
        },
    ],
    ids=["defaults", "all"],
)
def test_round_trip_keeps_every_parameter(parameters: dict[str, Any]):
    defaults = {
        "meta_fields_to_embed": None,
        "embedding_separator": "\n",
        "sparse": True,
        "tokens_per_batch": None,
        "progress_bar": True,
    }
    first = component_to_dict(ResRankDocumentEmbedder(model="org/name", **parameters), "embedder")
    assert first["type"] == TYPE
    expected = {**defaults, **parameters, "model": ResRankModel("org/name").to_dict()}
    assert first["init_parameters"] == expected
    assert component_to_dict(component_from_dict(ResRankDocumentEmbedder, first, "embedder"), "embedder") == first


def test_construction_loads_nothing(loads: dict[str, int], fresh_checkpoint: Any):
    ResRankDocumentEmbedder(model=str(fresh_checkpoint))
    assert loads == {"encoder": 0, "reranker": 0}


def test_indexing_never_loads_the_reranker(
    loads: dict[str, int], fresh_checkpoint: Any, handle: Any, make_documents: Callable[..., Any]
):
    embedder = ResRankDocumentEmbedder(model=handle(fresh_checkpoint), progress_bar=False)
    embedder.warm_up()
    embedder.run(documents=make_documents(["bread"]))
    assert loads == {"encoder": 1, "reranker": 0}


def test_vectors_are_the_models(embedder: ResRankDocumentEmbedder, tiny: ResRankModel, corpus: Any, embedded: Any):
    assert np.array_equal(np.float32([d.embedding for d in embedded]), tiny.load("encoder").encode_passages(corpus))


def test_vectors_are_unit_length_python_floats(embedded: list[Document]):
    for document in embedded:
        assert all(type(value) is float for value in document.embedding)
        assert math.fsum(value * value for value in document.embedding) == pytest.approx(1.0, abs=1e-5)


def test_vectors_are_cheap_to_copy_between_components(embedded: list[Document]):
    assert all(isinstance(document.embedding, StoredEmbedding) for document in embedded)


def test_output_is_json(embedded: list[Document]):
    json.dumps([document.to_dict() for document in embedded])


def test_order_ids_and_content_stay(embedded: list[Document], corpus: tuple[str, ...]):
    assert [(d.id, d.content) for d in embedded] == [(f"doc-{i:03}", text) for i, text in enumerate(corpus)]


def test_id_made_from_the_content_stays(embedder: ResRankDocumentEmbedder):
    document = Document(content="bread", meta={"a": 1})
    assert embedder.run(documents=[document])["documents"][0].id == document.id


def test_every_document_is_stamped_with_the_models_fingerprint(embedded: list[Document], tiny: ResRankModel):
    fingerprint = tiny.load("encoder").fingerprint
    assert {document.meta["resrank"]["fingerprint"] for document in embedded} == {fingerprint}
    assert all(set(document.meta["resrank"]) == {"fingerprint", "embedded_as"} for document in embedded)


def test_settings_that_decide_what_is_stored_are_stamped(tiny: ResRankModel):
    def stamp(**settings: Any) -> str:
        embedder = ResRankDocumentEmbedder(model=tiny, progress_bar=False, **settings)
        document = Document(content="bread", meta={"title": "t"})
        return embedder.run(documents=[document])["documents"][0].meta["resrank"]["embedded_as"]

    plain = stamp()
    # A release must not change it: every collection would be embedded again.
    assert plain == "2a6745d1e3e59156"
    assert stamp(embedding_separator=" ", meta_fields_to_embed=[]) == plain
    different = [
        stamp(sparse=False),
        stamp(meta_fields_to_embed=["title"]),
        stamp(meta_fields_to_embed=["title"], embedding_separator=" "),
        stamp(meta_fields_to_embed=["title", "year"]),
    ]
    assert len({plain, *different}) == 5


def test_stamp_replaces_another_models_and_keeps_other_meta(embedder: ResRankDocumentEmbedder, tiny: ResRankModel):
    meta = {"title": "t", "resrank": {"fingerprint": "another", "kept": 1}}
    document = embedder.run(documents=[Document(content="bread", meta=meta)])["documents"][0]
    fingerprint = tiny.load("encoder").fingerprint
    assert document.meta["title"] == "t"
    assert document.meta["resrank"].items() >= {"fingerprint": fingerprint, "kept": 1}.items()


def test_another_vector_is_replaced(embedder: ResRankDocumentEmbedder, embedded: list[Document]):
    stale = [replace(document, embedding=[1.0], sparse_embedding=None) for document in embedded]
    again = embedder.run(documents=stale)["documents"]
    assert [d.embedding for d in again] == [d.embedding for d in embedded]
    assert [d.sparse_embedding for d in again] == [d.sparse_embedding for d in embedded]


def test_inputs_are_not_changed(
    embedder: ResRankDocumentEmbedder, unchanged: Callable[[Any], None], make_documents: Callable[..., Any]
):
    documents = make_documents(["bread", "date"], title="t", resrank={"fingerprint": "another"}, nested={"a": [1]})
    unchanged(documents)
    embedder.run(documents=documents)


def test_sparse_vectors_are_the_models_bm25(tiny: ResRankModel, corpus: tuple[str, ...], embedded: list[Document]):
    expected = tiny.load("encoder").lexical.encode_passages(corpus)
    assert [(d.sparse_embedding.indices, d.sparse_embedding.values) for d in embedded] == expected


def test_sparse_vectors_can_be_left_out(tiny: ResRankModel, make_documents: Callable[..., Any]):
    embedder = ResRankDocumentEmbedder(model=tiny, sparse=False, progress_bar=False)
    assert embedder.run(documents=make_documents(["bread"]))["documents"][0].sparse_embedding is None


def test_passage_of_stop_words_has_a_dense_vector_and_no_terms(embedder: ResRankDocumentEmbedder):
    document = embedder.run(documents=[Document(content="the of and")])["documents"][0]
    assert document.sparse_embedding.indices == []
    assert len(document.embedding) == 32


def test_empty_input_gives_empty_output_without_loading(loads: dict[str, int], fresh_checkpoint: Any):
    outcome = ResRankDocumentEmbedder(model=str(fresh_checkpoint)).run(documents=[])
    assert outcome == {"documents": [], "meta": {"truncated_documents": 0, "cut_tokens": 0}}
    assert loads["encoder"] == 0


def test_duplicates_are_all_embedded(embedder: ResRankDocumentEmbedder):
    twice = embedder.run(documents=[Document(content="bread")] * 2)["documents"]
    assert twice[0].embedding == twice[1].embedding


def test_batch_size_does_not_change_the_vectors(tiny: ResRankModel, embedded: list[Document], make_documents: Any):
    documents = make_documents([document.content for document in embedded])
    small = ResRankDocumentEmbedder(model=tiny, tokens_per_batch=1, progress_bar=False).run(documents=documents)
    np.testing.assert_allclose(
        [d.embedding for d in small["documents"]], [d.embedding for d in embedded], rtol=0, atol=2e-6
    )


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        (Document(id="odd", content=None), "no content"),
        (Document(id="odd", blob=ByteStream(b"x")), "no content"),
        (Document(id="odd", content=""), "blank content"),
        (Document(id="odd", content=" \n\t"), "blank content"),
    ],
)
def test_document_without_text_is_refused_by_name(embedder: ResRankDocumentEmbedder, document: Document, kind: str):
    with pytest.raises(
        ValueError, match=f"document odd has {kind}: there is nothing to embed; give it a text or leave"
    ):
        embedder.run(documents=[Document(content="fine"), document])


def test_meta_alone_is_text_enough(tiny: ResRankModel):
    embedder = ResRankDocumentEmbedder(model=tiny, meta_fields_to_embed=["title"], progress_bar=False)
    assert embedder.run(documents=[Document(meta={"title": "bread"})])["documents"][0].embedding


@pytest.mark.parametrize(
    ("meta", "text"),
    [
        ({"title": "Dates", "part": 3}, "Dates ~ 3 ~ bread"),
        ({"part": 0}, "0 ~ bread"),
        ({"title": False}, "False ~ bread"),
        ({"title": None}, "bread"),
        ({}, "bread"),
    ],
)
def test_meta_fields_come_before_the_content(tiny: ResRankModel, meta: dict[str, Any], text: str):
    embedder = ResRankDocumentEmbedder(
        model=tiny, meta_fields_to_embed=["title", "part"], embedding_separator=" ~ ", progress_bar=False
    )
    with_meta = embedder.run(documents=[Document(content="bread", meta=meta)])["documents"][0]
    plain = ResRankDocumentEmbedder(model=tiny, progress_bar=False).run(documents=[Document(content=text)])
    assert with_meta.embedding == plain["documents"][0].embedding
    assert with_meta.sparse_embedding == plain["documents"][0].sparse_embedding


def test_truncation_is_counted_in_meta_and_output(
    embedder: ResRankDocumentEmbedder, make_documents: Callable[..., Any], caplog: pytest.LogCaptureFixture
):
    documents = make_documents(["date " * 100, "bread", "date " * 60])
    with caplog.at_level(logging.WARNING):
        outcome = embedder.run(documents=documents)
    # 48 tokens with [CLS] and [SEP]: 46 words stay.
    assert outcome["meta"] == {"truncated_documents": 2, "cut_tokens": 54 + 14}
    assert [d.meta["resrank"].get("truncated_tokens") for d in outcome["documents"]] == [54, None, 14]
    assert "2 of 3 documents were longer than 48 tokens and were cut (68 tokens in all)" in caplog.text


def test_document_that_fits_now_loses_its_old_truncation_mark(embedder: ResRankDocumentEmbedder):
    long = embedder.run(documents=[Document(id="a", content="date " * 100)])["documents"][0]
    short = embedder.run(documents=[replace(long, content="date")])["documents"][0]
    assert "truncated_tokens" not in short.meta["resrank"]


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ("a text", "str"),
        (None, "NoneType"),
        (Document(content="one"), "Document"),
        (("a",), "tuple"),
        (["a text"], "a list with str"),
        ([Document(content="one"), None], "a list with NoneType"),
    ],
)
def test_wrong_type_is_refused_with_a_hint(embedder: ResRankDocumentEmbedder, wrong: Any, found: str):
    message = f"documents must be a list of haystack Documents, got {found}. For a query text use ResRankTextEmbedder"
    with pytest.raises(TypeError, match=message):
        embedder.run(documents=wrong)


def test_hostile_text_is_embedded(embedder: ResRankDocumentEmbedder, hostile_text: str):
    document = embedder.run(documents=[Document(content=hostile_text)])["documents"][0]
    assert math.fsum(value * value for value in document.embedding) == pytest.approx(1.0, abs=1e-5)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(max_size=80), max_size=5), meta=st.dictionaries(st.text(max_size=5), st.integers()))
def test_any_text_is_embedded_or_refused_as_blank(
    embedder: ResRankDocumentEmbedder, texts: list[str], meta: dict[str, int]
):
    documents = [Document(id=str(i), content=text, meta=meta) for i, text in enumerate(texts)]
    try:
        outcome = embedder.run(documents=documents)["documents"]
    except ValueError as error:
        assert "blank content" in str(error)
        assert any(not text.strip() for text in texts)
    else:
        assert [d.id for d in outcome] == [d.id for d in documents]
        assert np.isfinite([d.embedding for d in outcome]).all()


def test_satisfies_haystacks_protocol():
    ours = list(inspect.signature(ResRankDocumentEmbedder.run).parameters.values())[1:]
    theirs = list(inspect.signature(DocumentEmbedder.run).parameters.values())[1:]
    assert [(p.name, p.default) for p in ours] == [(p.name, p.default) for p in theirs]
