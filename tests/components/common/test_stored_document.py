# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import pytest
from haystack import Document
from haystack.dataclasses import ByteStream, SparseEmbedding

from haystack_integrations.common.resrank.stored_document import StoredDocument

PLAIN = Document(
    id="a",
    content="alpha",
    blob=ByteStream(b"x", meta={"n": [1]}),
    meta={"tags": ["x"], "resrank": {"rank": 1}},
    score=0.5,
    embedding=[1.0, 0.0],
    sparse_embedding=SparseEmbedding(indices=[3], values=[0.5]),
)


def test_equals_a_plain_document_from_both_sides():
    stored = StoredDocument.of(PLAIN)
    assert stored == PLAIN
    assert PLAIN == stored
    assert stored != dataclasses.replace(PLAIN, score=1.0)
    assert dataclasses.replace(PLAIN, score=1.0) != stored
    assert stored != "alpha"
    with pytest.raises(TypeError, match="unhashable"):
        hash(stored)


def test_of_changes_only_what_is_named_and_not_the_original():
    stored = StoredDocument.of(PLAIN, score=2.0, meta={"n": 1})
    assert (stored.score, stored.meta, stored.content) == (2.0, {"n": 1}, "alpha")
    assert (PLAIN.score, PLAIN.meta["tags"]) == (0.5, ["x"])


@pytest.mark.parametrize("document", [PLAIN, Document(id="b", content=None)])
def test_a_deep_copy_shares_nothing_that_can_change(document):
    stored = StoredDocument.of(document)
    copied = copy.deepcopy(stored)
    assert type(copied) is StoredDocument
    assert copied == stored == document
    for name in ("meta", "embedding", "sparse_embedding", "blob"):
        value = getattr(stored, name)
        assert value is None or getattr(copied, name) is not value
    if document is PLAIN:
        copied.meta["tags"].append("y")
        copied.meta["resrank"]["rank"] = 2
        copied.embedding.append(2.0)
        copied.blob.meta["n"].append(2)
    assert stored == document


def test_a_shared_document_is_copied_once():
    stored = StoredDocument.of(PLAIN)
    first, second = copy.deepcopy([stored, stored])
    assert first is second


def test_works_wherever_a_document_does():
    stored = StoredDocument.of(PLAIN)
    assert isinstance(stored, Document)
    assert dataclasses.replace(stored, score=1.0).score == 1.0
    assert pickle.loads(pickle.dumps(stored)) == PLAIN
    assert stored.to_dict() == PLAIN.to_dict()
    assert Document.from_dict(json.loads(json.dumps(stored.to_dict()))) == PLAIN
