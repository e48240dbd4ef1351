# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Which answers and judgments of a results folder belong to the rankings that are there now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from resrank.sources import sha256_of

from .answer_results import BOUNDS, AnswerResult
from .judging import JudgedResult, given_hash
from .results import RUN, CollectionCard, folder_name


@dataclass(frozen=True)
class Present:
    """
    What may stand side by side.

    :param answers: from the present rankings.
    :param judged: of these answers.
    :param left_out: a sentence for each reader and each judge of whom something is left out.
    """

    answers: list[AnswerResult]
    judged: list[JudgedResult]
    left_out: list[str]


def present(
    results: Path,
    cards: Mapping[str, CollectionCard],
    answers: Sequence[AnswerResult],
    judged: Sequence[JudgedResult] = (),
) -> Present:
    """
    Leave out answers from rankings that were made anew since, and judgments of answers that were.

    :param results: the results folder.
    :param cards: its collections by name.
    :param answers: stored there.
    :param judged: likewise.
    :returns: what is left, in the same order, and what is not.
    """
    runs: dict[tuple[str, str], str | None] = {}

    def run_of(result: AnswerResult) -> str | None:
        key = result.collection, result.system
        if key not in runs:
            path = results / folder_name(result.collection) / folder_name(result.system) / RUN
            runs[key] = sha256_of(path) if path.is_file() else None
        return runs[key]

    def current(result: AnswerResult) -> bool:
        if result.system not in BOUNDS:
            run = run_of(result)
            return run is not None and result.settings.get("run") == run
        # A bound has no ranking, but is of certain passages and queries.
        card = cards.get(result.collection)
        return card is None or result.settings.get("collection", card.fingerprint) == card.fingerprint

    kept = [result for result in answers if current(result)]
    by_place = {(each.collection, each.system, each.reader): each for each in kept}

    def meant(each: JudgedResult) -> bool:
        of = by_place.get((each.collection, each.system, each.reader))
        return (
            of is not None
            and each.budget in of.budgets
            and each.settings.get("answers") == of.settings
            and each.settings.get("given") == given_hash(of, each.budget)
        )

    opinions = [each for each in judged if meant(each)]
    old: dict[str, list[str]] = {}
    for result in answers:
        if result not in kept:
            old.setdefault(f"answers of {result.reader} from older rankings", []).append(_place(result))
    texts = [f"Left out: {_all(what, of)}. `resrank-eval rag` makes them anew." for what, of in old.items()]
    old = {}
    for each in judged:
        if each not in opinions:
            old.setdefault(f"judgments by {each.judge} of older answers of {each.reader}", []).append(_place(each))
    texts += [f"Left out: {_all(what, of)}. `resrank-eval rag --judge` makes them anew." for what, of in old.items()]
    return Present(kept, opinions, texts)


def _place(result: AnswerResult | JudgedResult) -> str:
    return f"{result.system} on {result.collection}"


def _all(what: str, places: Sequence[str]) -> str:
    return f"{what} ({', '.join(places)})"
