# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""A results folder made of random numbers: three collections, five systems, and everything that a report must survive."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from resrank_evals.answer_results import BOUNDS, AnswerResult, Given, QueryAnswers, write_answers
from resrank_evals.judging import METRICS, JudgedResult, given_hash, judged_path
from resrank_evals.results import CollectionCard, Latency, SystemResult, write_collection, write_result

DATA_SETS = (
    "cacm",
    "climate_fever_sent",
    "cranfield",
    "fairytaleqa",
    "lisa",
    "medline",
    "medquad",
    "nq_gold",
    "qamr",
    "scifact",
    "squad",
    "squadshifts",
    "vaswani",
)
HOSTILE = (
    "</script><img src=x onerror=\"document.title='owned'\">",
    "<!--<script>alert(1)</script>",
    "line\u2028and paragraph\u2029separators & &lt;entities&gt; 'quotes' \"both\"",
    "{{ 7 * 7 }}{% raw %}${7*7}",
    "right to left \u202e override, NUL-free, \U0001f600 and a lone surrogate \ud800",
    "averyveryverylongwordwithoutanyspace" * 8,
)
QUERIES = {"scifact": 60, "nfcorpus": 45, "a collection with a rather long name": 40}
SYSTEMS = {
    "bm25": (0.55, 3.0, None),
    "dense(all-MiniLM-L6-v2)": (0.57, 9.0, None),
    "resrank(pool=bm25)": (0.68, 30.0, "bm25"),
    "cross-encoder(pool=bm25)": (0.67, 400.0, "bm25"),
    "run:elsewhere": (0.60, 0.0, None),
}
MODELS = {"dense(all-MiniLM-L6-v2)": "tiny", "resrank(pool=bm25)": "tiny", "cross-encoder(pool=bm25)": "other-model"}
MEASURES = ("nDCG@10", "RR@10", "R@100", "AP", "P@1")
BUDGETS = (128, 256, 512)


def make_results() -> tuple[dict[str, CollectionCard], list[SystemResult]]:
    """`run:elsewhere` has no times and lacks nfcorpus; the cross-encoder ran on another machine on scifact."""
    cards, results = {}, []
    for collection, count in QUERIES.items():
        texts = {f"q{i}": f"what is known about subject {i}" for i in range(count)}
        texts |= {f"q{i}": text for i, text in enumerate(HOSTILE)}
        cards[collection] = CollectionCard(
            collection, "test", "ab12" * 4, 5183, texts, dict.fromkeys(texts, 2), 300, f"beir:{collection}"
        )
        for system, (quality, time, pool) in SYSTEMS.items():
            if (system, collection) == ("run:elsewhere", "nfcorpus"):
                continue
            rng = random.Random(f"{system}/{collection}")
            per_query = {
                query: {measure: min(1.0, max(0.0, rng.gauss(quality, 0.25))) for measure in MEASURES}
                for query in texts
            }
            means = {m: sum(row[m] for row in per_query.values()) / count for m in MEASURES}
            environment = {
                "machine": "x86_64, 2 cores",
                "device": "cpu",
                "versions": {"resrank": "0.1.0", "torch": "2.13.0"},
                "date": f"2026-11-{20 + (pool is not None)}T10:00:00Z",
            }
            if system.startswith("cross") and collection == "scifact":
                environment |= {"machine": "x86_64, 16 cores", "device": "cuda"}
            latency = {}
            if time:
                stages = {"retrieve": time * 0.2, "rerank" if pool else "embed": time * 0.8, "total": time}
                latency = {stage: Latency(ms, ms * 1.7, ms * 1.1) for stage, ms in stages.items()}
            results.append(
                SystemResult(
                    collection,
                    system,
                    {
                        "system": system,
                        "top_k": 100,
                        "model": MODELS.get(system),
                        "depth": 20 + count if pool == "bm25" else 100,
                    },
                    means,
                    per_query,
                    latency,
                    {"query": 12.5, "slots": 100.0} if pool else {},
                    0.0,
                    123_456,
                    812.3,
                    None,
                    pool,
                    100 if pool else None,
                    dict.fromkeys(MEASURES, 0.93) if pool else {},
                    0,
                    environment,
                    4.2,
                )
            )
    return cards, results


def make_answers() -> list[AnswerResult]:
    """Of two systems and the two bounds, on all collections; every seventh query has no gold answer."""
    cards, _ = make_results()
    qualities = {"bm25": 0.4, "resrank(pool=bm25)": 0.6, "gold passage": 0.8, "no context": 0.0}
    found = []
    for collection, card in cards.items():
        for system, quality in qualities.items():
            rng = random.Random(f"{system}/{collection}")
            queries = [query for number, query in enumerate(card.queries) if number % 7]
            per_query, answers = {}, {}
            for query in queries:
                row, given = {}, {}
                for budget in BUDGETS:
                    f1 = min(1.0, max(0.0, rng.gauss(quality + budget / 2_000, 0.2))) if quality else 0.0
                    row |= {f"F1@{budget}": f1, f"EM@{budget}": float(f1 > 0.9)}
                    row |= {f"answer in context@{budget}": float(f1 > 0.1), f"no answer@{budget}": 1 - f1}
                    given[str(budget)] = Given(f"{f1:.2f} {rng.choice(HOSTILE)}" if quality else "", f"p{budget}")
                per_query[query] = row
                answers[query] = QueryAnswers([HOSTILE[0], f"gold of {query}"], given)
            found.append(
                AnswerResult(
                    collection,
                    system,
                    "tiny-reader",
                    {
                        "system": {"kind": system},
                        "run": None if system in BOUNDS else hashlib.sha256(b"").hexdigest(),
                        "reader": {"name": "tiny-reader"},
                        "budgets": list(BUDGETS),
                    },
                    {name: sum(row[name] for row in per_query.values()) / len(queries) for name in row},
                    per_query,
                    answers,
                    {f"read@{budget}": Latency(budget / 10, budget / 5, budget / 8) for budget in BUDGETS},
                    {f"context@{budget}": budget - 1.5 for budget in BUDGETS},
                    {str(budget): 0.0 for budget in BUDGETS},
                    {str(budget): 20 for budget in BUDGETS},
                    without_gold=len(card.queries) - len(queries),
                    environment={"device": "cpu", "date": "2026-11-22"},
                )
            )
    return found


def make_judged() -> list[JudgedResult]:
    """Of one system on one collection; the judge failed at faithfulness."""
    values = dict(zip(METRICS, (None, 0.5, 0.25, 1.0), strict=True))
    spreads = dict.fromkeys(METRICS, 0.125) | {METRICS[0]: None}
    missing = dict.fromkeys(METRICS, 0) | {METRICS[0]: 102}
    return [
        JudgedResult(
            *("scifact", "bm25", "tiny-reader", HOSTILE[0], 256, {"repeats": 2}, values, spreads, missing),
            not_asked=dict.fromkeys(METRICS, 0) | {METRICS[0]: 4},
            per_query={},
        )
    ]


@pytest.fixture
def made_judged() -> list[JudgedResult]:
    return make_judged()


@pytest.fixture
def made():
    return make_results()


@pytest.fixture
def made_answers() -> list[AnswerResult]:
    return make_answers()


@pytest.fixture(scope="session")
def results_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    cards, results = make_results()
    for card in cards.values():
        texts = {query: text.replace("\ud800", "") for query, text in card.queries.items()}
        write_collection(folder, replace(card, queries=texts))
    for result in results:
        write_result(folder, result, "")
    answers = [_without_surrogates(result) for result in make_answers()]
    for result in answers:
        write_answers(folder, result)
    for judged in make_judged():
        of = next(each for each in answers if (each.system, each.collection) == (judged.system, judged.collection))
        judged.settings.update({"answers": of.settings, "given": given_hash(of, judged.budget)})
        path = judged_path(folder, judged.collection, judged.system, judged.reader, judged.judge)
        path.write_text(json.dumps({"format": 1, **asdict(judged)}), encoding="utf-8")
    return folder


def _without_surrogates(result: AnswerResult) -> AnswerResult:
    answers = {
        query: QueryAnswers(
            of.gold,
            {budget: replace(given, answer=given.answer.replace("\ud800", "")) for budget, given in of.given.items()},
        )
        for query, of in result.answers.items()
    }
    return replace(result, answers=answers)


@pytest.fixture(scope="session")
def hostile() -> tuple[str, ...]:
    return HOSTILE


@pytest.fixture(params=DATA_SETS)
def data_set(request: pytest.FixtureRequest) -> str:
    """Each collection of the data folder in turn."""
    return request.param


@pytest.fixture
def data_sets() -> set[str]:
    """All of them."""
    return set(DATA_SETS)


@pytest.fixture(scope="session")
def write_beir() -> Callable[..., Path]:
    """Return a function that makes a collection in BEIR layout: `write_beir(folder, passages, queries, qrels)`."""

    def write(
        folder: Path, passages: dict[str, str], queries: dict[str, str], qrels: dict[str, dict[str, int]]
    ) -> Path:
        (folder / "qrels").mkdir(parents=True)
        for name, texts in {"corpus": passages, "queries": queries}.items():
            lines = [json.dumps({"_id": id_, "title": "", "text": text}) for id_, text in texts.items()]
            (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        judged = [
            f"{query}\t{passage}\t{grade}" for query, grades in qrels.items() for passage, grade in grades.items()
        ]
        (folder / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged]) + "\n")
        return folder

    return write
