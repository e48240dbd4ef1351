# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

import copy
import dataclasses
import json
import pickle

from haystack import Document

from haystack_integrations.common.resrank.embedding import StoredEmbedding


def test_copies_keep_type_and_isolation():
    embedding = StoredEmbedding([0.5, -1.0])
    for copied in (copy.deepcopy(embedding), copy.copy(embedding), pickle.loads(pickle.dumps(embedding))):
        assert type(copied) is StoredEmbedding
        assert copied == embedding == [0.5, -1.0]
        copied.append(2.0)
        assert embedding == [0.5, -1.0]


def test_works_inside_documents():
    document = Document(id="a", embedding=StoredEmbedding([0.5, -1.0]))
    assert document.embedding == [0.5, -1.0]
    assert document == Document(id="a", embedding=[0.5, -1.0])
    assert type(copy.deepcopy(document).embedding) is StoredEmbedding
    replaced = dataclasses.replace(document, score=1.0)
    assert replaced.embedding is document.embedding
    dumped = document.to_dict()
    assert json.loads(json.dumps(dumped))["embedding"] == [0.5, -1.0]
    assert Document.from_dict(dumped) == document
    assert json.dumps(StoredEmbedding([0.5])) == "[0.5]"


def test_a_shared_embedding_is_copied_once():
    embedding = StoredEmbedding([0.5])
    first, second = copy.deepcopy([embedding, embedding])
    assert first is second
    assert first is not embedding


def test_ids_do_not_depend_on_the_type():
    assert Document(content="a", embedding=StoredEmbedding([0.5])).id == Document(content="a", embedding=[0.5]).id
