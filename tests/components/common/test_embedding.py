# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

import copy
import dataclasses
import json
import pickle

import pytest
from haystack import Document

from haystack_integrations.common.resrank.embedding import StoredEmbedding


def test_copies_keep_type_and_values():
    embedding = StoredEmbedding([0.5, -1.0])
    for copied in (copy.deepcopy(embedding), copy.copy(embedding), pickle.loads(pickle.dumps(embedding))):
        assert type(copied) is StoredEmbedding
        assert copied == embedding == [0.5, -1.0]


@pytest.mark.parametrize(
    "change",
    [
        lambda e: e.append(2.0),
        lambda e: e.extend([2.0]),
        lambda e: e.insert(0, 2.0),
        lambda e: e.pop(),
        lambda e: e.remove(0.5),
        lambda e: e.clear(),
        lambda e: e.sort(),
        lambda e: e.reverse(),
        lambda e: e.__setitem__(0, 2.0),
        lambda e: e.__delitem__(0),
        lambda e: e.__iadd__([2.0]),
        lambda e: e.__imul__(2),
    ],
)
def test_copies_are_safe_because_nothing_changes_one_in_place(change):
    embedding = StoredEmbedding([0.5, -1.0])
    with pytest.raises(TypeError, match=r"cannot be changed in place; change a copy: list\(embedding\)"):
        change(embedding)
    assert embedding == [0.5, -1.0]
    changed = list(embedding)
    changed.append(2.0)
    assert type(embedding.copy()) is list


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


def test_ids_do_not_depend_on_the_type():
    assert Document(content="a", embedding=StoredEmbedding([0.5])).id == Document(content="a", embedding=[0.5]).id
