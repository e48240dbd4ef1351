# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Statements and titles as queries: what is taken out of the passages, and what may be relevant."""

import pytest

from resrank_evals.collection import Collection, Passage
from resrank_training.deriving import derive

PARTS = (
    "The lighthouse was built of granite in 1811.",
    'Its keeper wrote "nobody comes here in winter."',
    "Ships far out at sea still saw it.",
)
PASSAGES = {
    "long": Passage(" ".join(PARTS), "Lighthouses"),
    "short": Passage("Two sentences only are in here. It stays as it is.", "Lighthouses"),
    "words": Passage("Far. Too. Short.", "Words"),
    "elsewhere": Passage(" ".join(PARTS).replace("1811", "1911"), "Lighthouses"),
    "other": Passage("It has a title of its own. Nobody asks for it. So it stays here as well.", "Others"),
}


@pytest.fixture
def collection():
    qrels = {"q0": {"long": 1, "short": 2, "other": 0}, "q1": {"words": 1, "absent": 1}}
    return Collection("lights", "train", PASSAGES, {"q0": "granite", "q1": "far"}, qrels)


def test_a_sentence_looks_for_the_passage_that_it_was_taken_out_of(collection):
    seen = set()
    for seed in range(20):
        made = derive(collection, "sentences", seed)
        assert made.name == "lights-sentences"
        assert made.qrels == {"long#sentence": {"long": 1}}
        sentence = made.queries["long#sentence"]
        assert sentence in PARTS
        assert made.passages["long"].text == " ".join(part for part in PARTS if part != sentence)
        assert {id_: p for id_, p in made.passages.items() if id_ != "long"} == {
            id_: p for id_, p in PASSAGES.items() if id_ != "long"
        }
        seen.add(sentence)
    assert seen == set(PARTS)
    assert derive(collection, "sentences", 3) == derive(collection, "sentences", 3)


def test_a_title_looks_for_the_relevant_passages_under_it(collection):
    made = derive(collection, "titles")
    assert made.queries == {"long#title": "Lighthouses", "words#title": "Words"}
    assert made.qrels == {"long#title": {"long": 1, "short": 1}, "words#title": {"words": 1}}
    # The third lighthouse may be relevant in another split: it is neither a positive nor a negative.
    assert list(made.passages) == ["long", "short", "words", "other"]
    assert all(passage.title == "" for passage in made.passages.values())


def test_nothing_to_derive_is_said(collection):
    bare = Collection("bare", "train", {"a": Passage("One sentence.")}, {"q": "a"}, {"q": {"a": 1}})
    with pytest.raises(ValueError, match="bare: none of 1 relevant passages is one of 3 sentences or more"):
        derive(bare, "sentences")
    with pytest.raises(ValueError, match="bare: none of 1 relevant passages is one with a title"):
        derive(bare, "titles")
    with pytest.raises(ValueError, match="expected one of sentences, titles, got 'words'"):
        derive(collection, "words")
