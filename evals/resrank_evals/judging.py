# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
What a language model thinks of answers and contexts: four metrics of ragas, each asked several times.

* faithfulness: the share of the answer's statements that the context supports
* answer correctness: F1 of the answer's statements against those of the gold answer (ragas' factuality part alone; its
  similarity part needs an embedding model and rewards any text on the subject)
* context precision: average precision of the passages that are useful for the gold answer
* context recall: the share of the gold answer's statements that the context supports

The gold answer is the first one that is more than articles and punctuation. Answer and gold answer are put as
sentences, because ragas takes texts apart into statements, and finds none in a bare phrase. Without a context all but
answer correctness are 0, without an answer that is 0 and there is no faithfulness to judge; none of these is asked.
What the judge fails to answer is left out and counted, and asked again by the next run.

A judge's opinion is not a measurement: report its name, the spread over repeats and what was not judged.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resrank_pipelines.information import package_version

from .answer_results import AnswerResult
from .generation import RETRIES, TIMEOUT_S, server_of
from .results import FORMAT, damaged, folder_name, read_record, write_whole

FAITHFULNESS = "faithfulness"
CORRECTNESS = "answer correctness"
PRECISION = "context precision"
RECALL = "context recall"
METRICS = (FAITHFULNESS, CORRECTNESS, PRECISION, RECALL)
_CONCURRENCY = 4
_ASKING = 2  # raised when what is asked changes: it decides the scores
_VERSIONS = ("resrank", "ragas")


@dataclass(frozen=True)
class Sample:
    """
    What is judged.

    :param query: the question.
    :param answer: by the reader.
    :param gold: what is right.
    :param passages: the context.
    """

    query: str
    answer: str
    gold: str
    passages: tuple[str, ...]


Metric = Callable[[Sample], Awaitable[float]]
OpenMetrics = Callable[[], AbstractAsyncContextManager[Mapping[str, Metric]]]


@dataclass(frozen=True)
class JudgedResult:
    """
    What a judge thinks of one reader's answers from one system's rankings of one collection.

    :param collection: name of the collection.
    :param system: name of the system.
    :param reader: name of the reader.
    :param judge: name of the judge.
    :param budget: of the contexts, in tokens.
    :param settings: everything that decides what is asked; a stored result with other settings is made anew.
    :param means: by metric, the mean over repeats of the means over judged queries; `None` when none was judged.
    :param spreads: by metric, the standard deviation of these means; `None` below two repeats.
    :param failed: by metric, how many questions to the judge gave no value.
    :param not_asked: by metric, how many were not asked because there is nothing to judge, repeats included.
    :param per_query: query id to metric to the value of each repeat, `None` where there is none.
    :param seconds: wall-clock time.
    """

    collection: str
    system: str
    reader: str
    judge: str
    budget: int
    settings: dict[str, Any]
    means: dict[str, float | None]
    spreads: dict[str, float | None]
    failed: dict[str, int]
    not_asked: dict[str, int]
    per_query: dict[str, dict[str, list[float | None]]]
    seconds: float = 0.0


class Judge:
    """
    Asks several times and sums up.

    :param name: of the judge.
    :param open_metrics: opens what scores a sample, by the names in `METRICS`; within one event loop.
    :param repeats: how often everything is asked.
    :raises ValueError: when `repeats` is below 1.
    """

    def __init__(self, name: str, open_metrics: OpenMetrics, repeats: int = 3) -> None:
        if repeats < 1:
            msg = f"repeats must be at least 1, got {repeats}"
            raise ValueError(msg)
        self.name = name
        self._open = open_metrics
        self._repeats = repeats

    def judge(self, out: Path, result: AnswerResult, budget: int, samples: Mapping[str, Sample]) -> JudgedResult:
        """
        Judge a system's answers, or take what is there; what failed then is asked again.

        :param out: the results folder, where it is kept.
        :param result: the answers.
        :param budget: of the contexts.
        :param samples: by query id, the same as in the result.
        :returns: the judgment.
        :raises RuntimeError: when the judge gives no value at all.
        """
        wanted = {
            "answers": result.settings,
            # A model's answers may differ with the same settings.
            "given": given_hash(result, budget),
            "budget": budget,
            "asking": _ASKING,
            "judge": self.name,
            "repeats": self._repeats,
            "versions": {package: package_version(package) for package in _VERSIONS},
        }
        path = judged_path(out, result.collection, result.system, result.reader, self.name)
        kept: JudgedResult | None = None
        if path.is_file():
            with suppress(ValueError):  # damaged or of another version: made anew
                stored = read_judged(path)
                kept = stored if stored.settings == wanted else None
        if kept is not None and not any(kept.failed.values()):
            return kept
        started = time.perf_counter()
        per_query = asyncio.run(self._scores(samples, {} if kept is None else kept.per_query))
        means, spreads, missing = sum_up(list(per_query.values()))
        not_asked = {
            name: self._repeats * sum(1 for sample in samples.values() if _is_nothing(without_asking(name, sample)))
            for name in METRICS
        }
        judged = JudgedResult(
            collection=result.collection,
            system=result.system,
            reader=result.reader,
            judge=self.name,
            budget=budget,
            settings=wanted,
            means=means,
            spreads=spreads,
            failed={name: count - not_asked[name] for name, count in missing.items()},
            not_asked=not_asked,
            per_query=per_query,
            seconds=round((0.0 if kept is None else kept.seconds) + time.perf_counter() - started, 3),
        )
        write_whole(path, json.dumps({"format": FORMAT, **asdict(judged)}, indent=1, ensure_ascii=False) + "\n")
        return judged

    async def _scores(
        self, samples: Mapping[str, Sample], known: Mapping[str, Mapping[str, Sequence[float | None]]]
    ) -> dict[str, dict[str, list[float | None]]]:
        """`known`: what an earlier run has left; only what it lacks is asked."""
        found: dict[str, dict[str, list[float | None]]] = {
            query: {name: list(known.get(query, {}).get(name, [None] * self._repeats)) for name in METRICS}
            for query in samples
        }
        errors: list[Exception] = []
        heard = 0
        gate = asyncio.Semaphore(_CONCURRENCY)
        async with self._open() as metrics:

            async def ask(query: str, name: str, repeat: int) -> None:
                nonlocal heard
                async with gate:
                    try:
                        value = await metrics[name](samples[query])
                    except Exception as error:  # any failure of a judge is counted, whatever its kind
                        errors.append(error)
                        return
                heard += 1
                found[query][name][repeat] = value if math.isfinite(value) else None

            asked = []
            for query, sample in samples.items():
                for name in METRICS:
                    clear = without_asking(name, sample)
                    if clear is not None:
                        found[query][name] = [None if _is_nothing(clear) else clear] * self._repeats
                    else:
                        slots = enumerate(found[query][name])
                        asked += [ask(query, name, repeat) for repeat, value in slots if value is None]
            await asyncio.gather(*asked)
        if errors and not heard and not known:
            msg = f"the judge {self.name} gave no value at all: {errors[-1]}"
            raise RuntimeError(msg) from errors[-1]
        return found


def ragas_judge(model: str, repeats: int = 3) -> Judge:
    """
    A judge that asks a language model through ragas.

    :param model: its name on the server in OPENAI_BASE_URL.
    :param repeats: how often everything is asked.
    :returns: the judge.
    :raises ImportError: when the extra `rag` is not installed.
    :raises ValueError: when OpenAI is asked without a key.
    """
    os.environ["RAGAS_DO_NOT_TRACK"] = "true"  # before ragas is imported: it sends nothing anywhere
    try:
        import ragas.metrics.collections  # noqa: F401
    except ImportError as error:
        msg = f"a judge needs ragas: pip install 'resrank[rag]' in an environment of its own ({error})"
        raise ImportError(msg) from error
    server = server_of(model)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Mapping[str, Metric]]:
        from openai import AsyncOpenAI
        from ragas.llms import llm_factory
        from ragas.metrics.collections import AnswerCorrectness, ContextPrecision, ContextRecall, Faithfulness

        async with AsyncOpenAI(**server, max_retries=RETRIES, timeout=TIMEOUT_S) as client:
            llm = llm_factory(model, client=client)
            faithfulness, precision, recall = Faithfulness(llm=llm), ContextPrecision(llm=llm), ContextRecall(llm=llm)
            correctness = AnswerCorrectness(llm=llm, weights=[1.0, 0.0])

            async def faithful(of: Sample) -> float:
                scored = await faithfulness.ascore(of.query, sentence(of.query, of.answer), list(of.passages))
                return float(scored.value)

            async def correct(of: Sample) -> float:
                said, right = sentence(of.query, of.answer), sentence(of.query, of.gold)
                return float((await correctness.ascore(of.query, said, right)).value)

            async def precise(of: Sample) -> float:
                scored = await precision.ascore(of.query, sentence(of.query, of.gold), list(of.passages))
                return float(scored.value)

            async def recalled(of: Sample) -> float:
                scored = await recall.ascore(of.query, list(of.passages), sentence(of.query, of.gold))
                return float(scored.value)

            yield {FAITHFULNESS: faithful, CORRECTNESS: correct, PRECISION: precise, RECALL: recalled}

    return Judge(model, opened, repeats)


def sentence(query: str, answer: str) -> str:
    """
    Put a short answer so that it states something.

    :param query: the question.
    :param answer: to it.
    :returns: a sentence.
    """
    return f"The answer to the question '{query}' is: {answer}"


def without_asking(metric: str, sample: Sample) -> float | None:
    """
    What is clear without a judge.

    :param metric: one of `METRICS`.
    :param sample: what would be judged.
    :returns: the value, NaN when there is nothing to judge; `None` when the judge is to be asked.
    """
    if metric == CORRECTNESS:
        return None if sample.answer else 0.0
    if metric == FAITHFULNESS and not sample.answer:
        return math.nan
    return None if sample.passages else 0.0


def given_hash(result: AnswerResult, budget: int) -> str:
    """
    Identify answers by what was said.

    :param result: the answers.
    :param budget: of their contexts.
    :returns: 16 hexadecimal digits.
    """
    given = {query: of.given[str(budget)].answer for query, of in result.answers.items()}
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:16]


def sum_up(
    rows: Sequence[Mapping[str, Sequence[float | None]]],
) -> tuple[dict[str, float | None], dict[str, float | None], dict[str, int]]:
    """
    Sum up what a judge said.

    :param rows: one a query: the values of each repeat by metric.
    :returns: means, spreads and numbers of missing values, as `JudgedResult` has them.
    """
    means: dict[str, float | None] = {}
    spreads: dict[str, float | None] = {}
    missing: dict[str, int] = {}
    for name in METRICS:
        of_queries = zip(*(row[name] for row in rows), strict=True)
        columns = [[value for value in column if value is not None] for column in of_queries]
        of_repeats = [statistics.fmean(column) for column in columns if column]
        means[name] = statistics.fmean(of_repeats) if of_repeats else None
        spreads[name] = statistics.stdev(of_repeats) if len(of_repeats) > 1 else None
        missing[name] = sum(len(rows) - len(column) for column in columns)
    return means, spreads, missing


def _is_nothing(value: float | None) -> bool:
    return value is not None and math.isnan(value)


def judged_path(results: Path, collection: str, system: str, reader: str, judge: str) -> Path:
    """
    Where a judgment is kept.

    :param results: the results folder.
    :param collection: name of the collection.
    :param system: name of the system.
    :param reader: name of the reader.
    :param judge: name of the judge.
    :returns: the file.
    """
    name = f"judged-{folder_name(reader)}-{folder_name(judge)}.json"
    return results / folder_name(collection) / folder_name(system) / name


def read_judged(path: Path) -> JudgedResult:
    """
    Read a judgment.

    :param path: the file.
    :returns: the judgment.
    :raises ValueError: when it holds none, naming the file.
    """
    try:
        return JudgedResult(**read_record(path, JudgedResult, "rag --judge"))
    except TypeError as error:
        raise damaged(path, error, "rag --judge") from error


def read_all_judged(results: Path) -> list[JudgedResult]:
    """
    Read the judgments in a results folder.

    :param results: the folder.
    :returns: sorted by file; empty when there are none.
    :raises ValueError: for a damaged file, naming it.
    """
    return [read_judged(path) for path in sorted(results.glob("*/*/judged-*.json"))]
