# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Contexts, counted by hand with words as tokens, and with a real tokenizer of each family."""

from __future__ import annotations

import re
from typing import Any

import pytest
from transformers import AutoTokenizer

from resrank_evals.contexts import Context, pack


def words(text: str, **_: Any) -> dict[str, list[tuple[int, int]]]:
    return {"offset_mapping": [found.span() for found in re.finditer(r"\S+", text)]}


PASSAGES = [("a", "one two three"), ("blank", " "), ("b", "four five"), ("c", "six seven eight")]


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (1, Context(("a",), ("one",), 1, 2)),
        (2, Context(("a",), ("one two",), 2, 1)),
        (3, Context(("a",), ("one two three",), 3, 0)),
        (4, Context(("a", "b"), ("one two three", "four"), 4, 1)),
        (5, Context(("a", "b"), ("one two three", "four five"), 5, 0)),
        (7, Context(("a", "b", "c"), ("one two three", "four five", "six seven"), 7, 1)),
        (99, Context(("a", "b", "c"), ("one two three", "four five", "six seven eight"), 8, 0)),
    ],
)
def test_whole_passages_and_the_rest_of_the_budget(budget, expected):
    assert pack(PASSAGES, budget, words) == expected


def test_no_passage_is_no_context():
    assert pack([], 5, words) == Context()
    assert pack([("blank", " \n")], 5, words) == Context()


def test_no_more_passages_are_read_than_needed():
    def passages():
        yield from PASSAGES[:3]
        pytest.fail("read on")

    assert pack(passages(), 5, words).tokens == 5


@pytest.mark.parametrize("family", ["mini", "qwen"])
def test_cut_texts_are_beginnings_and_within_the_budget(request, family, corpus, hostile_text):
    tokenizer = AutoTokenizer.from_pretrained(request.getfixturevalue(f"{family}_encoder_folder"))
    passages = [("hostile", hostile_text), *((str(n), text) for n, text in enumerate(corpus))]
    texts = dict(passages)
    for budget in (1, 2, 3, 7, 64):
        context = pack(passages, budget, tokenizer)
        assert context.tokens <= budget
        for id_, text in zip(context.ids, context.texts, strict=True):
            assert texts[id_].startswith(text)
            assert text.strip()
        assert all(text == texts[id_] for id_, text in list(zip(context.ids, context.texts, strict=True))[:-1])
