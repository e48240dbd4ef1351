# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
What a span reader learns from: windows of passages with the places where an answer stands, or with none.

Collections give questions, their relevant passages and answers as texts. An answer is looked for in the passage as
whole words, whatever the case; every place where one of a question's answers stands is right. Answers that stand
nowhere (people wrote them in their own words) teach nothing here and are counted. Passages that a first stage found for
the question, that are not judged relevant and hold no answer, teach to say so.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from resrank.reader import SpanReader, Window
from resrank_evals.answers import answer_in_context
from resrank_evals.collection import Collection

from .lists import ListSet, TrainingList

NO_ANSWER = ((0, 0),)  # start and end at the first token
_FROM_FIRST = 10  # unanswerable passages are drawn from so many first candidates: those that a reader meets


@dataclass(frozen=True)
class Example:
    """
    A window to learn from.

    :param window: question and piece of a passage.
    :param spans: (first token, last token) of each right span; `NO_ANSWER` where there is none.
    """

    window: Window
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Examples:
    """
    Windows of one or more collections.

    :param windows: in the order of the questions.
    :param counts: `questions`, `answered` ones, `without_span` (an answer that does not stand in the passage),
        `without_answer` (none is known), `unanswerable` passages, `windows`, `cut_questions`.
    """

    windows: list[Example] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def make_examples(
    reader: SpanReader,
    collections: Sequence[tuple[Collection, Mapping[str, Sequence[str]]]],
    lists: Sequence[ListSet] = (),
    *,
    unanswerable: float = 0.25,
    seed: int = 0,
) -> Examples:
    """
    Make examples of every question.

    :param reader: cuts passages into windows.
    :param collections: each with the answers by query id.
    :param lists: mined for the same questions, for unanswerable passages.
    :param unanswerable: share of the questions that get one, where their list has one.
    :param seed: of the draw.
    :returns: the examples.
    """
    found = Examples()
    names = ("questions", "answered", "without_span", "without_answer", "unanswerable", "windows")
    found.counts.update(dict.fromkeys(names, 0))
    candidates = {(of.name, each.query_id): (of, each) for of in lists for each in of.lists}
    for collection, answers in collections:
        for query_id, query in collection.queries.items():
            found.counts["questions"] += 1
            golds = [answer for answer in answers.get(query_id, ()) if answer.strip()]
            if not golds:
                found.counts["without_answer"] += 1
                continue
            relevant = [id_ for id_, grade in collection.qrels[query_id].items() if grade > 0]
            texts = [collection.passages[id_].content for id_ in relevant if id_ in collection.passages]
            answered = [text for text in texts if occurrences(text, golds)]
            found.counts["answered" if answered else "without_span"] += 1
            for text in answered:
                _add(found, reader, query, text, occurrences(text, golds))
            # A string as the seed: the same draw on every machine, whatever else is trained on.
            rng = random.Random(f"{seed} {collection.name} {query_id}")  # noqa: S311
            of = candidates.get((collection.name, query_id))
            if of is None or rng.random() >= unanswerable:
                continue
            other = _without_answer(*of, golds, rng)
            if other is not None:
                found.counts["unanswerable"] += 1
                _add(found, reader, query, other, [])
    return found


def occurrences(text: str, answers: Sequence[str]) -> list[tuple[int, int]]:
    """
    Find answers in a passage.

    :param text: the passage.
    :param answers: texts; runs of white space match any.
    :returns: (first character, one past the last) of each place where one stands as whole words, whatever the case;
        each once, in order.
    """
    found: set[tuple[int, int]] = set()
    for answer in answers:
        words = r"\s+".join(re.escape(word) for word in answer.split())
        if words:
            matches = re.finditer(rf"(?<!\w){words}(?!\w)", text, re.IGNORECASE)
            found.update(match.span() for match in matches)
    return sorted(found)


def _add(found: Examples, reader: SpanReader, query: str, text: str, places: Sequence[tuple[int, int]]) -> None:
    (windows,) = reader.windows(query, [text])
    for window in windows:
        spans = tuple(filter(None, (_tokens(window, place) for place in places)))
        found.windows.append(Example(window, spans or NO_ANSWER))
        found.counts["windows"] += 1


def _tokens(window: Window, place: tuple[int, int]) -> tuple[int, int] | None:
    """The tokens that hold a span; `None` when the window holds only a part of it, or nothing."""
    start, end = place
    first = next((i for i, at in enumerate(window.offsets) if at is not None and at[0] <= start < at[1]), None)
    last = next((i for i, at in enumerate(window.offsets) if at is not None and at[0] < end <= at[1]), None)
    return None if first is None or last is None else (first, last)


def _without_answer(of: ListSet, each: TrainingList, golds: Sequence[str], rng: random.Random) -> str | None:
    pool = []
    for id_, grade in list(zip(each.passages, each.grades, strict=True))[: each.first_stage(_FROM_FIRST)]:
        text = of.passages[id_].content
        if not (grade or 0) > 0 and text.strip() and not answer_in_context(text, golds):
            pool.append(text)
    return rng.choice(pool) if pool else None
