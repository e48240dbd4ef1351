# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
What rankings are worth to whoever reads them: answers from each system's passages, within the same budgets.

Rankings come from the harness, from the same results folder. Two bounds stand beside the systems: the reader's answers
from the relevant passages alone, and without any passage.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from resrank.sources import sha256_of
from resrank_pipelines.indexing import Progress
from resrank_pipelines.information import package_version

from . import measures
from .answer_results import (
    GOLD_PASSAGE,
    NO_CONTEXT,
    AnswerResult,
    Given,
    QueryAnswers,
    answers_path,
    read_answers,
    write_answers,
)
from .answers import answer_in_context, exact_match, normalize_answer, token_f1
from .collection import Collection
from .contexts import Context, pack
from .environment import describe_environment
from .gold_answers import GoldAnswers, read_gold_answers
from .harness import Settings, run
from .judging import Judge, JudgedResult, Sample
from .lines import DuplicateIds
from .loading import CollectionSource
from .memory import PeakMemory
from .readers import Answer, Reader
from .results import RUN, check_different, folder_name, latencies
from .systems import System, describe
from .trec import Run, read_run

MEASURES = ("F1", "EM", "answer in context", "no answer")
_PACKING = 1  # rises when contexts are made otherwise
_VERSIONS = ("resrank", "transformers", "tokenizers")


@dataclass(frozen=True)
class Answered:
    """
    One system's answers on one collection.

    :param result: what was measured.
    :param kept: whether it was there already.
    :param judged: what a judge thinks of it; `None` without one, and of answers without a context.
    """

    result: AnswerResult
    kept: bool
    judged: JudgedResult | None = None


def check_budgets(budgets: Sequence[int]) -> tuple[int, ...]:
    """
    Check sizes of contexts.

    :param budgets: in tokens.
    :returns: ascending.
    :raises ValueError: when there is none, one twice, or one below 1.
    """
    if not budgets or len(set(budgets)) < len(budgets) or min(budgets) < 1:
        msg = f"budgets must be different numbers of tokens from 1 on, got {', '.join(map(str, budgets)) or 'none'}"
        raise ValueError(msg)
    return tuple(sorted(budgets))


def answer(  # noqa: PLR0917
    sources: Sequence[CollectionSource],
    systems: Sequence[System],
    settings: Settings,
    reader: Reader,
    budgets: Sequence[int],
    progress: Progress,
    *,
    duplicate_ids: DuplicateIds = "error",
    judge: Judge | None = None,
    judged_budget: int | None = None,
) -> Iterator[Answered]:
    """
    Let a reader answer from every system's ranking of every collection.

    :param sources: collections with gold answers.
    :param systems: that rank.
    :param settings: of the rankings.
    :param reader: who answers.
    :param budgets: tokens of context.
    :param progress: told (what, done, total).
    :param duplicate_ids: of gold answers, as `read_gold_answers`.
    :param judge: of the answers.
    :param judged_budget: within which answers are judged; `None` is the smallest.
    :returns: results as they come, the two bounds last; each is on disk when it is given.
    :raises FileNotFoundError: when a collection has no gold answers.
    :raises ValueError: as `run`, and when none of a collection's evaluated queries has a gold answer.
    """
    budgets = check_budgets(budgets)
    check_different("collections", [source.label for source in sources], "measure them separately")
    golds = [read_gold_answers(each.folder, each.label, duplicate_ids=duplicate_ids) for each in sources]
    for source, gold in zip(sources, golds, strict=True):
        whole = source.load()
        held = replace(source, load=partial(_itself, whole))
        for _ in run([held], systems, settings, progress, any_measures=True):
            pass  # rankings are kept as they come
        sampled = replace(whole, name=source.label).sample(settings.queries, settings.seed)
        reading = _Reading(sampled, gold, settings.out, reader, budgets, progress)
        for answered, ranked in reading.results(systems):
            judged = None
            if judge is not None and answered.result.system != NO_CONTEXT:
                budget = budgets[0] if judged_budget is None else judged_budget
                progress(f"{source.label}: judging {answered.result.system}", 0, 0)
                judged = judge.judge(settings.out, answered.result, budget, reading.samples(answered, ranked, budget))
            yield replace(answered, judged=judged)


def measure_answers(answered: Answer, context: Context, golds: Sequence[str], budget: int) -> dict[str, float]:
    """
    Measure one answer.

    :param answered: by the reader.
    :param context: that it was given.
    :param golds: what is right.
    :param budget: of the context, for the names.
    :returns: `F1@…`, `EM@…`, `answer in context@…`, and `no answer@…` where the reader says how sure it is.
    """
    values = {
        f"F1@{budget}": token_f1(answered.text, golds),
        f"EM@{budget}": exact_match(answered.text, golds),
        f"answer in context@{budget}": float(answer_in_context("\n".join(context.texts), golds)),
    }
    if answered.no_answer is not None:
        values[f"no answer@{budget}"] = answered.no_answer
    return values


class _Reading:
    """One collection."""

    def __init__(  # noqa: PLR0917
        self,
        collection: Collection,
        gold: GoldAnswers,
        out: Path,
        reader: Reader,
        budgets: tuple[int, ...],
        progress: Progress,
    ) -> None:
        self._collection = collection
        self._out = out
        self._reader = reader
        self._budgets = budgets
        self._progress = progress
        self._golds = {id_: gold.by_query[id_] for id_ in collection.queries if id_ in gold.by_query}
        if not self._golds:
            msg = (
                f"{gold.path} has no answer to any of the {len(collection.queries)} evaluated queries of "
                f"{collection.name}: expected ids like {next(iter(collection.queries))!r}"
            )
            raise ValueError(msg)

    def results(self, systems: Sequence[System]) -> Iterator[tuple[Answered, Run]]:
        for system in systems:
            path = self._out / folder_name(self._collection.name) / folder_name(system.name) / RUN
            ranked = read_run(path) if path.stat().st_size else {}
            yield self._result(system.name, describe(system), ranked, sha256_of(path)), ranked
        relevant: Run = {
            query: sorted(((id_, float(grade)) for id_, grade in grades.items() if grade > 0), key=_best_first)
            for query, grades in self._collection.qrels.items()
        }
        for name, bound in ((GOLD_PASSAGE, relevant), (NO_CONTEXT, {})):
            yield self._result(name, {"kind": name}, bound, None), bound

    def samples(self, answered: Answered, ranked: Run, budget: int) -> dict[str, Sample]:
        return {
            query: Sample(
                query=self._collection.queries[query],
                answer=of.given[str(budget)].answer,
                gold=next(filter(normalize_answer, of.gold)),  # there is one: queries without are left out
                passages=self._context(ranked, query, budget).texts,
            )
            for query, of in answered.result.answers.items()
        }

    def _result(self, name: str, system: dict[str, Any], ranked: Run, run_hash: str | None) -> Answered:
        wanted = {
            "system": system,
            "collection": self._collection.fingerprint,
            "run": run_hash,
            "gold": hashlib.sha256(json.dumps(self._golds, sort_keys=True).encode()).hexdigest()[:16],
            "budgets": list(self._budgets),
            "packing": _PACKING,
            "reader": self._reader.describe(),
            "versions": {package: package_version(package) for package in _VERSIONS},
        }
        path = answers_path(self._out, self._collection.name, name, self._reader.name)
        if path.is_file():
            with suppress(ValueError):  # damaged or of another version: made anew
                kept = read_answers(path)
                if kept.settings == wanted:
                    return Answered(kept, kept=True)
        result = self._measure(name, wanted, ranked)
        write_answers(self._out, result)
        return Answered(result, kept=False)

    def _measure(self, name: str, wanted: dict[str, Any], ranked: Run) -> AnswerResult:
        started = time.perf_counter()
        per_query: dict[str, dict[str, float]] = {}
        answers: dict[str, QueryAnswers] = {}
        times: dict[str, list[float]] = {f"read@{budget}": [] for budget in self._budgets}
        tokens = dict.fromkeys(self._budgets, 0)
        cut = dict.fromkeys(self._budgets, 0)
        failed = 0
        generated: dict[int, list[int | None]] = {budget: [] for budget in self._budgets}
        with PeakMemory() as peak:
            for query_id, golds in self._golds.items():
                per_query[query_id], given = {}, {}
                before: tuple[Context, Answer, float] | None = None
                for budget in self._budgets:
                    context = self._context(ranked, query_id, budget)
                    if before is None or before[0].texts != context.texts:  # the same context has the same answer
                        asked = time.perf_counter()
                        said = self._reader.answer(self._collection.queries[query_id], context.texts)
                        before = context, said, (time.perf_counter() - asked) * 1_000
                    _, said, milliseconds = before
                    times[f"read@{budget}"].append(milliseconds)
                    tokens[budget] += context.tokens
                    cut[budget] += context.cut_tokens > 0
                    generated[budget].append(said.generated_tokens)
                    failed += said.failed
                    per_query[query_id] |= measure_answers(said, context, golds, budget)
                    source = None if said.passage is None else context.ids[said.passage]
                    given[str(budget)] = Given(said.text, source)
                answers[query_id] = QueryAnswers(golds, given)
                self._progress(f"{self._collection.name}: answers from {name}", len(answers), len(self._golds))
        count = len(self._golds)
        return AnswerResult(
            collection=self._collection.name,
            system=name,
            reader=self._reader.name,
            settings=wanted,
            means=measures.mean(per_query),
            per_query=per_query,
            answers=answers,
            latency={stage: time_ for stage, time_ in latencies(times).items() if stage in times},
            tokens={f"context@{budget}": amount / count for budget, amount in tokens.items()},
            generated_tokens={str(budget): _mean_if_known(amounts) for budget, amounts in generated.items()},
            cut={str(budget): contexts for budget, contexts in cut.items()},
            without_gold=len(self._collection.queries) - count,
            missing_queries=0 if name == NO_CONTEXT else sum(1 for id_ in self._golds if not ranked.get(id_)),
            failed=failed,
            peak_memory_mb=round(peak.megabytes, 1),
            environment={**describe_environment(None), **self._reader.environment()},
            seconds=round(time.perf_counter() - started, 3),
        )

    def _context(self, ranked: Mapping[str, Sequence[tuple[str, float]]], query_id: str, budget: int) -> Context:
        of = self._collection.passages
        # A judged passage may be missing where the user allowed it.
        passages = ((id_, of[id_].content) for id_, _ in ranked.get(query_id, ()) if id_ in of)
        return pack(passages, budget, self._reader.tokenizer)


def _itself(collection: Collection) -> Collection:
    return collection


def _mean_if_known(amounts: Sequence[int | None]) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) / len(known) if len(known) == len(amounts) else None


def _best_first(hit: tuple[str, float]) -> tuple[float, str]:
    return -hit[1], hit[0]
