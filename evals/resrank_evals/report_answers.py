# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Answers for the report: quality against the size of the context, what reading costs, and answers side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from . import report_settings
from .answer_results import BOUNDS, AnswerResult, by_reader
from .boards import Board
from .judging import JudgedResult
from .report_charts import Lines, Series, lines
from .report_costs import over
from .results import CollectionCard, Latency, SystemResult

KINDS = {
    "F1": "the overlap of words between the reader's answer and the gold answer that is nearest to it, between 0 and 1",
    "EM": "exact match: the share of answers that are a gold answer, apart from case, punctuation and articles",
    "answer in context": "the share of contexts that a gold answer stands in, whatever the reader makes of it",
}
_PAGE_BUDGET = 200_000  # answers in the page: some 20 MB

# Makes a board: results, measure, whether it is the first.
MakeBoard = Callable[[Sequence[SystemResult], str, bool], Board]


@dataclass(frozen=True)
class ReadingCost:
    """
    What reading takes within one budget, over all collections.

    :param tokens: of the context, mean.
    :param cut: share of contexts whose last passage was cut.
    :param time: medians over collections.
    :param no_answer: mean confidence that the context has no answer; `None` when the reader does not say.
    :param generated: tokens, mean; `None` when not known.
    """

    tokens: float
    cut: float
    time: Latency
    no_answer: float | None
    generated: float | None


@dataclass(frozen=True)
class Section:
    """
    Answers of one reader.

    :param reader: its name.
    :param collections: names, sorted.
    :param systems: in the order of the first board.
    :param baseline: the system that others are compared with.
    :param budgets: ascending.
    :param boards: by kind of measure, then by budget.
    :param chart: of F1; `None` when no system has a mean.
    :param costs: by system, then by budget.
    :param without_gold: queries left out, by collection.
    :param warnings: what a reader must know before comparing.
    :param other_budgets: systems whose answers were read within other budgets only.
    :param facts: settings of the reader and its environment.
    :param shown_budgets: whose answers are in the page.
    :param blocks: answers of each collection, for the script.
    :param judged: what judges think of them.
    """

    reader: str
    collections: list[str]
    systems: list[str]
    baseline: str
    budgets: list[int]
    boards: dict[str, dict[int, Board]]
    chart: Lines | None
    costs: dict[str, dict[int, ReadingCost]]
    without_gold: dict[str, int]
    warnings: list[str]
    other_budgets: list[str]
    facts: dict[str, str]
    shown_budgets: list[int]
    blocks: list[dict[str, Any]]
    judged: list[JudgedResult]


def sections(
    cards: Mapping[str, CollectionCard],
    answers: Sequence[AnswerResult],
    judged: Sequence[JudgedResult],
    board: MakeBoard,
) -> list[Section]:
    """
    Make the section of each reader.

    :param cards: collections by name; one may be missing.
    :param answers: any.
    :param judged: what judges think of them.
    :param board: makes boards.
    :returns: one a reader.
    """
    return [
        _section(cards, of, [each for each in judged if each.reader == reader], board)
        for reader, of in by_reader(answers).items()
    ]


def _section(
    cards: Mapping[str, CollectionCard],
    every: Sequence[AnswerResult],
    judged: Sequence[JudgedResult],
    board: MakeBoard,
) -> Section:
    budgets = every[-1].budgets  # of the newest: what was read within others does not stand beside it
    answers = [result for result in every if result.budgets == budgets]
    results = [result.as_system_result() for result in answers]
    boards = {kind: {budget: board(results, f"{kind}@{budget}", kind == "F1") for budget in budgets} for kind in KINDS}
    first = boards["F1"][budgets[len(budgets) // 2]]
    amount = sum(len(result.answers) for result in answers) * len(budgets)
    shown = budgets if amount <= _PAGE_BUDGET else [budgets[len(budgets) // 2]]
    days = report_settings.dates(results)
    facts = {
        name: value
        for name, value in {
            **report_settings.flat(answers[-1].settings),
            **report_settings.flat(answers[-1].environment),
        }.items()
        if not name.startswith(("system.", "collection", "run", "gold"))
    }
    return Section(
        reader=every[-1].reader,
        collections=first.collections,
        systems=first.systems,
        baseline=first.baseline,
        budgets=budgets,
        boards=boards,
        chart=_chart(boards["F1"], first.systems),
        costs={
            system: _costs([each for each in answers if each.system == system], budgets) for system in first.systems
        },
        without_gold={each.collection: each.without_gold for each in answers if each.without_gold},
        warnings=_warnings(answers),
        other_budgets=sorted({each.system for each in every} - {each.system for each in answers}),
        facts={**facts, "measured": " to ".join(days)} if days else facts,
        shown_budgets=shown,
        blocks=[_block(cards, answers, name, first.systems, shown) for name in first.collections],
        judged=sorted(judged, key=lambda each: (each.judge, each.collection, each.system)),
    )


def _warnings(answers: Sequence[AnswerResult]) -> list[str]:
    """Of the reader alone: what differs by collection or system, such as the run's hash, is meant to differ."""
    results = [
        replace(each.as_system_result(), settings={name: each.settings.get(name) for name in ("reader", "versions")})
        for each in answers
    ]
    readers = {str(result.settings) for result in results}
    found = report_settings.warnings(results, report_settings.environments(results))
    for each in answers:
        if each.failed:
            amount = sum(len(of.given) for of in each.answers.values())
            found.append(
                f"{each.failed:,} of {amount:,} answers from {each.system} on {each.collection} were refused, cut "
                "short or empty, and count as empty."
            )
    if len(readers) > 1:
        found.append("These answers come from different weights or versions of the reader: make the older ones anew.")
    return found


def _chart(boards: Mapping[int, Board], systems: Sequence[str]) -> Lines | None:
    found = []
    for system in systems:
        means = {budget: board.means[system] for budget, board in boards.items()}
        known = {budget: mean for budget, mean in means.items() if mean is not None}
        if len(known) == len(means):
            found.append(Series(system, known, bound=system in BOUNDS))
    return lines(found) if found else None


def _costs(own: Sequence[AnswerResult], budgets: Sequence[int]) -> dict[int, ReadingCost]:
    found = {}
    for budget in budgets:
        times = [result.latency[f"read@{budget}"] for result in own]
        found[budget] = ReadingCost(
            tokens=statistics.fmean(result.tokens[f"context@{budget}"] for result in own),
            cut=sum(result.cut[str(budget)] for result in own) / sum(len(result.per_query) for result in own),
            time=Latency(
                *(statistics.median(getattr(each, name) for each in times) for name in ("p50_ms", "p95_ms", "mean_ms"))
            ),
            no_answer=over(statistics.fmean, (result.means.get(f"no answer@{budget}") for result in own)),
            generated=over(statistics.fmean, (result.generated_tokens.get(str(budget)) for result in own)),
        )
    return found


def _block(
    cards: Mapping[str, CollectionCard],
    answers: Sequence[AnswerResult],
    collection: str,
    systems: Sequence[str],
    budgets: Sequence[int],
) -> dict[str, Any]:
    """Queries once; by budget and system the answer, its passage and its F1 in ten-thousandths."""
    own = [result for result in answers if result.collection == collection]
    texts = dict(cards[collection].queries) if collection in cards else {}
    queries = {query: of.gold for result in own for query, of in result.answers.items()}
    return {
        "queries": [[query, texts.get(query, ""), gold] for query, gold in queries.items()],
        "given": {
            str(budget): {
                systems.index(result.system): [_shown(result, query, budget) for query in queries] for result in own
            }
            for budget in budgets
        },
    }


def _shown(result: AnswerResult, query: str, budget: int) -> list[Any] | None:
    if query not in result.answers:
        return None
    given = result.answers[query].given[str(budget)]
    return [given.answer, given.passage or "", round(result.per_query[query][f"F1@{budget}"] * 10_000)]
