# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
What a reader answered from one system's rankings of one collection, and how it is kept on disk.

Beside `result.json` of a system is `answers-<reader>.json`, one a reader. The two bounds have folders of their own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .report_costs import TOTAL
from .results import FORMAT, Latency, SystemResult, damaged, folder_name, read_record, write_whole

GOLD_PASSAGE = "gold passage"
NO_CONTEXT = "no context"
BOUNDS = frozenset({GOLD_PASSAGE, NO_CONTEXT})
_COMMAND = "rag"


@dataclass(frozen=True)
class Given:
    """
    What was answered within one budget.

    :param answer: as the reader gave it.
    :param passage: id of the passage that it was taken from; `None` when it was not taken from one.
    """

    answer: str
    passage: str | None = None


@dataclass(frozen=True)
class QueryAnswers:
    """
    Answers to one query.

    :param gold: what is right.
    :param given: by budget in tokens, e.g. `256`.
    """

    gold: list[str]
    given: dict[str, Given]


@dataclass(frozen=True)
class AnswerResult:
    """
    A reader's answers from one system's rankings of one collection.

    :param collection: name of the collection.
    :param system: name of the system, or one of `BOUNDS`.
    :param reader: name of the reader.
    :param settings: everything that decides the result; a stored one with other settings is made anew.
    :param means: measure name, e.g. `F1@256`, to mean over all queries with gold answers.
    :param per_query: query id to measure name to value.
    :param answers: by query id.
    :param latency: `read@256` to the time of reading within that budget.
    :param tokens: `context@256` to tokens of the contexts, on average.
    :param generated_tokens: `256` to tokens generated a query, on average; `None` when not known.
    :param cut: `256` to the number of contexts whose last passage was cut.
    :param without_gold: evaluated queries without gold answers, which are left out.
    :param missing_queries: queries with gold answers for which the system gave no passage.
    :param failed: answers that the reader refused or did not come to, of all budgets; they are empty.
    :param peak_memory_mb: most resident memory of the process meanwhile.
    :param environment: machine, versions, device, dtype, date.
    :param seconds: wall-clock time.
    """

    collection: str
    system: str
    reader: str
    settings: dict[str, Any]
    means: dict[str, float]
    per_query: dict[str, dict[str, float]]
    answers: dict[str, QueryAnswers]
    latency: dict[str, Latency] = field(default_factory=dict)
    tokens: dict[str, float] = field(default_factory=dict)
    generated_tokens: dict[str, float | None] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    without_gold: int = 0
    missing_queries: int = 0
    failed: int = 0
    peak_memory_mb: float | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def budgets(self) -> list[int]:
        """
        Tokens of context.

        :returns: ascending.
        """
        return sorted(int(budget) for budget in self.cut)

    def as_system_result(self, budget: int | None = None) -> SystemResult:
        """
        The form that tables and charts take.

        :param budget: whose reading costs to show as the total; `None` gives those of all budgets by name.
        :returns: the same measures.
        """
        latency, tokens, generated = self.latency, self.tokens, None
        if budget is not None:
            latency = {TOTAL: self.latency[f"read@{budget}"]}
            tokens = {"context": self.tokens[f"context@{budget}"]}
            generated = self.generated_tokens.get(str(budget))
        return SystemResult(
            collection=self.collection,
            system=self.system,
            settings=self.settings,
            means=self.means,
            per_query=self.per_query,
            latency=latency,
            tokens=tokens,
            generated_tokens=generated,
            peak_memory_mb=self.peak_memory_mb,
            missing_queries=self.missing_queries,
            environment=self.environment,
            seconds=self.seconds,
        )


def answers_path(results: Path, collection: str, system: str, reader: str) -> Path:
    """
    Where answers are kept.

    :param results: the results folder.
    :param collection: name of the collection.
    :param system: name of the system.
    :param reader: name of the reader.
    :returns: the file.
    """
    return results / folder_name(collection) / folder_name(system) / f"answers-{folder_name(reader)}.json"


def write_answers(results: Path, result: AnswerResult) -> Path:
    """
    Keep answers.

    :param results: the results folder.
    :param result: what was answered.
    :returns: the file.
    """
    path = answers_path(results, result.collection, result.system, result.reader)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"format": FORMAT, **asdict(result)}, indent=1, ensure_ascii=False) + "\n")
    return path


def read_answers(path: Path) -> AnswerResult:
    """
    Read an `answers-<reader>.json`.

    :param path: the file.
    :returns: the answers.
    :raises ValueError: when it holds none, naming the file.
    """
    values = read_record(path, AnswerResult, _COMMAND)
    try:
        latency = {stage: Latency(**times) for stage, times in values.pop("latency", {}).items()}
        answers = {
            query: QueryAnswers(of["gold"], {budget: Given(**given) for budget, given in of["given"].items()})
            for query, of in values.pop("answers").items()
        }
        return AnswerResult(**values, latency=latency, answers=answers)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(path, error, _COMMAND) from error


def read_all_answers(results: Path) -> list[AnswerResult]:
    """
    Read the answers in a results folder.

    :param results: the folder.
    :returns: in the order in which they were made; empty when there are none.
    :raises ValueError: for a damaged file, naming it.
    """
    paths = sorted(results.glob("*/*/answers-*.json"), key=lambda path: (path.stat().st_mtime_ns, path))
    return [read_answers(path) for path in paths]


def by_reader(results: Sequence[AnswerResult]) -> dict[str, list[AnswerResult]]:
    """
    Answers of different readers do not stand in one table.

    :param results: any.
    :returns: by name of the reader, in the order of the results.
    """
    found: dict[str, list[AnswerResult]] = {}
    for result in results:
        found.setdefault(result.reader, []).append(result)
    return found
