# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from typing import Any

import pytest
from haystack import Document

from haystack_integrations.common.resrank.documents import (
    check_documents,
    check_query,
    check_top_k,
    check_vectors,
    document_text,
    entry,
    joined_text,
    score_or_lowest,
    unique_documents,
    with_entry,
)


@pytest.mark.parametrize("value", [None, 5, "text", [1], True])
def test_entry_of_another_kind_is_empty(value: Any):
    assert entry(Document(content="a", meta={"resrank": value})) == {}


def test_entry_is_what_is_there():
    assert entry(Document(content="a", meta={"resrank": {"x": 1}})) == {"x": 1}
    assert entry(Document(content="a")) == {}


def test_with_entry_adds_and_replaces_without_changing_the_document():
    document = Document(content="a", meta={"k": 1, "resrank": {"x": 1, "y": 2}})
    assert with_entry(document, {"y": 3, "z": 4}) == {"k": 1, "resrank": {"x": 1, "y": 3, "z": 4}}
    assert document.meta == {"k": 1, "resrank": {"x": 1, "y": 2}}


def test_with_entry_replaces_a_value_of_another_kind():
    assert with_entry(Document(content="a", meta={"resrank": 5}), {"x": 1}) == {"resrank": {"x": 1}}


def test_vectors_of_this_model_pass():
    check_vectors([Document(embedding=[0.0] * 4, meta={"resrank": {"fingerprint": "f"}})], "f", 4)


@pytest.mark.parametrize("document", [Document(content="a"), Document(meta={"resrank": {"fingerprint": "other"}})])
def test_documents_without_a_vector_pass(document: Document):
    check_vectors([document], "f", 4)


def test_an_unstamped_vector_passes():
    check_vectors([Document(embedding=[0.0] * 4)], "f", 4)


@pytest.mark.parametrize("stamp", ["g", None, 5])
def test_another_stamp_is_refused(stamp: Any):
    documents = [Document(id="a", embedding=[0.0] * 4, meta={"resrank": {"fingerprint": stamp}})]
    with pytest.raises(ValueError, match=rf"1 of 1 .* another model \(document a: expected fingerprint f, got {stamp}"):
        check_vectors(documents, "f", 4)


@pytest.mark.parametrize(("vector", "size"), [([], 0), ([0.0] * 3, 3), ([0.0] * 5, 5), (1.0, "float")])
def test_another_size_is_refused(vector: Any, size: Any):
    documents = [Document(id="a", embedding=vector), Document(id="b", embedding=[0.0] * 4)]
    with pytest.raises(ValueError, match=rf"1 of 2 .* another size \(document a: expected 4, got {size}\)"):
        check_vectors(documents, "f", 4)


def test_text_is_the_content_with_the_meta_fields_that_are_set():
    document = Document(content="body", meta={"title": "T", "zero": 0, "none": None, "empty": ""})
    assert document_text(document, ["title", "none", "zero", "missing", "empty"], "|") == "T|0||body"
    assert document_text(document, [], "|") == "body"


def test_joined_text_may_be_empty():
    document = Document(content="body", meta={"title": "T", "none": None})
    assert joined_text(document, ["title", "none", "missing"], "|") == "T|body"
    assert joined_text(Document(content=None, meta={"title": "T"}), ["title"], "|") == "T|"
    assert joined_text(Document(content=None), ["title"], "|") == ""
    assert joined_text(Document(id="a", content="half \ud83d"), [], "|") == "half \ud83d"


@pytest.mark.parametrize(("content", "kind"), [(None, "no content"), ("", "blank content"), (" \u3000", "blank")])
def test_no_text_is_refused(content: str | None, kind: str):
    with pytest.raises(ValueError, match=f"document a has {kind}"):
        document_text(Document(id="a", content=content), [], "\n")


def test_text_with_half_an_emoji_is_refused_by_name():
    document = Document(id="a", content="it is \ud83d here")
    message = r"document a has a lone surrogate \('\\ud83d' at character 6\).*encode\('utf-8', 'replace'\)"
    with pytest.raises(ValueError, match=message):
        document_text(document, [], "\n")


def test_documents_pass_through_unchanged():
    documents = [Document(content="a")]
    assert check_documents(documents) is documents
    assert check_documents([]) == []


@pytest.mark.parametrize(
    ("value", "found"), [(None, "NoneType"), (Document(content="a"), "Document"), ([1], "a list with int")]
)
def test_other_documents_are_refused(value: Any, found: str):
    with pytest.raises(TypeError, match=f"got {found}. For a query text use ResRankTextEmbedder"):
        check_documents(value)


def test_a_query_passes_unchanged():
    assert check_query(" a query ") == " a query "


@pytest.mark.parametrize("value", [None, 1, ["a"], b"a"])
def test_other_queries_are_refused(value: Any):
    with pytest.raises(TypeError, match=f"the query must be a string, got {type(value).__name__}"):
        check_query(value)


@pytest.mark.parametrize("value", ["", " ", "\u2003\n"])
def test_blank_queries_are_refused(value: str):
    with pytest.raises(ValueError, match="the query is blank"):
        check_query(value)


@pytest.mark.parametrize("value", [None, 1, 10**9])
def test_good_numbers_of_results_pass(value: int | None):
    check_top_k(value)


@pytest.mark.parametrize("value", [0, -1, True, False, 1.0, "1", float("nan")])
def test_bad_numbers_of_results_are_refused(value: Any):
    with pytest.raises(ValueError, match=f"top_k must be a positive integer or None, got {value!r}"):
        check_top_k(value)


def test_of_documents_with_one_id_the_best_stays_at_the_first_place():
    scores = [("a", None), ("b", 0.2), ("a", float("nan")), ("b", 0.3), ("b", 0.3), ("a", -1.0)]
    documents = [Document(id=id_, content=str(n), score=score) for n, (id_, score) in enumerate(scores)]
    assert [document.content for document in unique_documents(documents)] == ["5", "3"]
    assert [score_or_lowest(document) for document in documents[:2]] == [-math.inf, 0.2]
    assert unique_documents([]) == []
